//! Keeps values under keys in a granted directory, behind a line protocol: README.md describes
//! both. An acknowledged change is on the disk.
//!
//! This file has the conversation, `command` parses lines, and `store` keeps the values.

mod command;
mod directory;
mod key;
mod store;

use std::fmt::Display;
use std::io::{self, BufRead, Read, Write};

use command::{Change, Command, LONGEST_LINE};
pub use key::{Key, LONGEST_KEY};
pub use store::{LONGEST_VALUE, Store};
use uninterruptible_guest::{Connection, Ready};

/// The path of the store's directory in guests, unless an argument names another one.
const DIRECTORY: &str = "/kv";

#[uninterruptible_guest::handler]
fn handle_request(connection: Connection) -> io::Result<()> {
    serve(connection, Store::new(std::env::args().nth(1).unwrap_or_else(|| DIRECTORY.to_owned())))
}

fn serve(mut connection: Connection, mut store: Store) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut connection).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let command = match Command::parse(&line) {
            Ok(command) => command,
            // After an invalid announcement the value could be taken for commands.
            Err(mistake) => return writeln!(connection, "ERROR {mistake}"),
        };
        if !answer(&mut connection, &mut store, command)? {
            return Ok(());
        }
        // When the host drains, an idle client is closed, and a command that has arrived is
        // answered.
        if connection.ready() == Ready::Draining && !connection.has_arrived() {
            return Ok(());
        }
    }
}

/// Executes a command and answers it. False if the conversation is over.
fn answer(connection: &mut Connection, store: &mut Store, command: Command) -> io::Result<bool> {
    match command {
        Command::Get(key) => match store.get(&key) {
            Ok(Some(value)) => {
                let head = format!("VALUE {}\n", value.len());
                connection.write_all(&[head.as_bytes(), &value, b"\n"].concat())?;
            }
            Ok(None) => connection.write_all(b"NONE\n")?,
            Err(error) => failed(connection, "read", &key, &error)?,
        },
        Command::Put(change, key, length) => {
            let Some(value) = read_value(connection, length)? else { return Ok(false) };
            let done = match change {
                Change::Set => store.set(&key, &value).map(|()| true),
                Change::Add => store.add(&key, &value),
            };
            match done {
                Ok(true) => connection.write_all(b"OK\n")?,
                Ok(false) => connection.write_all(b"EXISTS\n")?,
                Err(error) => failed(connection, "written", &key, &error)?,
            }
        }
        Command::Delete(key) => match store.delete(&key) {
            Ok(true) => connection.write_all(b"OK\n")?,
            Ok(false) => connection.write_all(b"NONE\n")?,
            Err(error) => failed(connection, "removed", &key, &error)?,
        },
        Command::Keys(prefix) => match store.keys(&prefix) {
            Ok(keys) => {
                let lines = keys.iter().flat_map(|key| [b"KEY ", key.bytes(), b"\n"]);
                connection.write_all(&lines.chain([b"END\n".as_slice()]).collect::<Vec<_>>().concat())?;
            }
            Err(error) => failed(connection, "listed", &"the keys", &error)?,
        },
    }
    Ok(true)
}

/// Reads an announced value; `None` if the input does not match the announcement.
fn read_value(connection: &mut Connection, length: usize) -> io::Result<Option<Vec<u8>>> {
    // Grows with the arriving bytes, since announcing a large value costs a peer nothing.
    let mut value = Vec::new();
    if (&mut *connection).take(length as u64).read_to_end(&mut value)? < length {
        return Ok(None); // the input ends in the middle
    }
    let mut end = Vec::new();
    (&mut *connection).take(2).read_until(b'\n', &mut end)?;
    match end.as_slice() {
        b"\n" | b"\r\n" => Ok(Some(value)),
        b"" | b"\r" => Ok(None),
        _ => {
            connection.write_all(b"ERROR the value is longer than announced\n")?;
            Ok(None)
        }
    }
}

/// The reason is for the operator of the store, not for its clients.
fn failed(connection: &mut Connection, how: &str, what: &dyn Display, error: &io::Error) -> io::Result<()> {
    eprintln!("{what} cannot be {how}: {error}");
    writeln!(connection, "ERROR it cannot be {how}")
}

#[cfg(test)]
mod tests;
