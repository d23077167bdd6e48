//! Greets a peer from 127.0.0.2 at once, and others after they have sent a line: for programs that
//! act on their variables.

use std::{env, io};

fn main() -> io::Result<()> {
    if env::var("TCPREMOTEIP").is_ok_and(|peer| peer == "127.0.0.2") {
        println!("welcome");
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    println!("you said: {}", line.trim_end());
    Ok(())
}
