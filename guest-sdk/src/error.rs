//! The error that carries a message to the host's log. It turns an error and its causes into one
//! line of text.

use std::fmt;

/// Why serving a connection failed, as text for the host's log. The peer never sees it.
///
/// A handler may return any error that implements [`Display`](fmt::Display), usually
/// [`std::io::Error`]. This type accepts every [`std::error::Error`] through `?`, together with its
/// causes, and a message of your own:
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
/// It does not implement `std::error::Error`: `?` could then not accept every error.
pub struct Error {
    message: String,
}

impl Error {
    /// An error with this message. The host escapes it and shortens it to 4 KiB.
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

/// The plain message, so that `fn main() -> Result<(), Error>` and a test's `unwrap` show something
/// readable.
impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}
