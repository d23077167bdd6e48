//! Answers how often its instance was called: always 1, since each connection has an instance of
//! its own.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use uninterruptible_guest::Connection;

static CALLS: AtomicU32 = AtomicU32::new(0);

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    writeln!(connection, "{calls}")
}
