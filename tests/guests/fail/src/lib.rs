//! Returns an error after it has written `partial`. The message contains a line break and an escape
//! code, which the log must escape.

use std::io::Write;

use uninterruptible_guest::{Connection, Error};

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> Result<(), Error> {
    connection.write_all(b"partial\n")?;
    Err(Error::new("multi\nline \x1b[31m message"))
}
