//! The result of a handler.

use std::fmt::Display;

/// The result of a handler: `Result<(), E>`, where `E` implements `Display`.
#[diagnostic::on_unimplemented(
    message = "a handler returns `Result<(), E>` where `E` implements `Display`, not `{Self}`",
    note = "`std::io::Result<()>` and `Result<(), uninterruptible_guest::Error>` are the usual ones"
)]
pub trait Outcome {
    /// The error as the text for the host's log.
    fn message(self) -> Result<(), String>;
}

impl<E: Display> Outcome for Result<(), E> {
    fn message(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}
