//! Reads its input to the end and reports the result of `input-end` of the 0.3 contract, which the
//! SDK calls then: to the peer, `ok` or `err: …`, and as its failure, for a peer that has gone.

use std::io;

use uninterruptible_guest::asynchronous::Connection;

#[uninterruptible_guest::handler]
async fn handle_request(mut connection: Connection) -> io::Result<()> {
    let report = match connection.read_to_end(&mut Vec::new()).await {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("err: {error}"),
    };
    connection.fail(&report);
    writeln!(connection, "{report}").await
}
