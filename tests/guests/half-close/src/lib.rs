//! Closes its output first, then reads everything: the peer sees the end at once and can still
//! send. The number of bytes is in the error that it returns, since it cannot write any more.

use std::io;

use uninterruptible_guest::{Connection, Error};

#[uninterruptible_guest::handler]
fn handle_request(connection: Connection) -> Result<(), Error> {
    let (_facts, mut input, output) = connection.split();
    drop(output);
    let read = io::copy(&mut input, &mut io::sink())?;
    Err(Error::new(format!("read {read} bytes")))
}
