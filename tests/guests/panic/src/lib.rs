//! Panics: its message is the guest's, and belongs into the log; what it is to the connection is a trap.

use std::io;

use uninterruptible_guest::Connection;
use uninterruptible_guest_minimal as _;

#[uninterruptible_guest::handler]
fn handle_request(_connection: Connection) -> io::Result<()> {
    panic!("on purpose");
}
