//! The guest `drain` on the 0.3 contract, where each read cancels the wait for the drain.

use std::io;

use uninterruptible_guest::Ready;
use uninterruptible_guest::asynchronous::Connection;

#[uninterruptible_guest::handler]
async fn handle_request(mut connection: Connection) -> io::Result<()> {
    while connection.ready().await == Ready::Input {
        let (input, output) = connection.halves();
        let arrived = input.fill_buf().await?;
        if arrived.is_empty() {
            return Ok(());
        }
        let length = arrived.len();
        output.write_all(arrived).await?;
        input.consume(length);
    }
    connection.write_all(b"bye\n").await
}
