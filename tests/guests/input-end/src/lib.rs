//! Reads its input to the end and reports what `input-end` of the 0.3 contract said about it, which the SDK asks then: to the
//! peer, `ok` or `err: …`, and as its failure, for the peer that is no longer there to read it.

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
