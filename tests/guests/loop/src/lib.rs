//! Spins for ever, without calls to the host, after it has read a line or the end of the input: for
//! the CPU time limit.

use std::io::{self, BufRead};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    connection.skip_until(b'\n')?;
    loop {
        std::hint::spin_loop();
    }
}
