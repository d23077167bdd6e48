//! Panics. The message belongs in the log, and the connection ends as with a trap.

use std::io;

use uninterruptible_guest::Connection;
use uninterruptible_guest_minimal as _;

#[uninterruptible_guest::handler]
fn handle_request(_connection: Connection) -> io::Result<()> {
    panic!("on purpose");
}
