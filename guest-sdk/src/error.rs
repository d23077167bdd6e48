//! The error that carries a message to the host's log. It owns how an error and its causes become one line of text.

use std::fmt;

/// Why serving a connection failed, in words for the host's log. The peer never sees it.
///
/// A handler may return any error that implements [`Display`](fmt::Display); [`std::io::Error`] is the usual one. This
/// one takes in every [`std::error::Error`] through `?`, together with its causes, and a message of your own:
///
/// ```
/// use uninterruptible_guest::{Connection, Error};
///
/// #[uninterruptible_guest::handler]
/// fn handle_request(mut connection: Connection) -> Result<(), Error> {
///     use std::io::{BufRead, Write};
///
///     let mut line = String::new();
///     connection.read_line(&mut line)?;
///     let number: i32 = line.trim().parse()?;
///     if number < 0 {
///         return Err(Error::new("expected a number that is not negative"));
///     }
///     writeln!(connection, "{}", number / 2)?;
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// It does not implement `std::error::Error`, since `?` could then not take in every error.
pub struct Error {
    message: String,
}

impl Error {
    /// An error with this message. The host escapes it and cuts it to 4 KiB.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl<E: std::error::Error> From<E> for Error {
    /// The error and its causes, as in `cannot load the table: permission denied`.
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self { message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// The message as it is, so that `fn main() -> Result<(), Error>` and a test's `unwrap` show something readable.
impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}
