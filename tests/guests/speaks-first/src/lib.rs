//! Greets before it reads, as SMTP does: a guest that starts at the first byte would leave its peer
//! waiting for ever.

use std::io::{self, BufRead, Write};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"ready\n")?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    writeln!(connection, "you said: {}", line.trim_end())
}
