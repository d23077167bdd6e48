//! The plugin `hello` on the 0.3 contract, for tests that must pass on both: the same answer to the
//! same line.

use std::io;

use uninterruptible_guest::asynchronous::Connection;
use uninterruptible_guest_minimal as _;

/// The limit of `hello`.
const LONGEST_LINE: usize = 4096;

#[uninterruptible_guest::handler]
async fn handle_request(mut connection: Connection) -> io::Result<()> {
    let mut line = Vec::new();
    connection.read_until(b'\n', LONGEST_LINE, &mut line).await?;
    let name = match line.trim_ascii() {
        [] => b"world",
        name => name,
    };
    connection.write_all(&[b"Hello ", name, b"!\n"].concat()).await
}
