//! Allocates and touches memory for ever, until an allocation fails and it traps: for the memory
//! limit.

use std::io;

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(_connection: Connection) -> io::Result<()> {
    let mut taken = Vec::new();
    loop {
        taken.push(std::hint::black_box(vec![1u8; 64 * 1024]));
    }
}
