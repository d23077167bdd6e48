//! Clients of `hello` without a runtime: a thread each, blocking calls only. A server meets clients
//! that the kernel wakes one by one, as it does with clients that are processes of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::LIMIT;
use super::hello::{QUESTION, compare_answer};
use super::outcome::{Outcome, Tally};
use crate::sources::bound;

/// A client needs little: hundreds of them start at once.
const STACK: usize = 128 * 1024;

pub(super) fn load(server: SocketAddr, clients: usize, time: Duration) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let tallies: Vec<anyhow::Result<Tally>> = thread::scope(|scope| {
        let clients = 0..clients;
        let running: Vec<_> = clients
            .map(|index| {
                let client = move || client(server, index, start + time);
                thread::Builder::new().stack_size(STACK).spawn_scoped(scope, client).context("start a client")
            })
            .collect();
        let ended = running.into_iter();
        ended.map(|client| client?.join().map_err(|_panic| anyhow!("a client panicked"))?).collect()
    });
    let mut all = Tally::new()?;
    for tally in tallies {
        all.add(tally?)?;
    }
    Ok(all.into_outcome(start.elapsed()))
}

fn client(server: SocketAddr, index: usize, deadline: Instant) -> anyhow::Result<Tally> {
    let mut tally = Tally::new()?;
    loop {
        let start = Instant::now();
        if start >= deadline {
            return Ok(tally);
        }
        match ask(server, index) {
            Ok(()) => tally.completed(start.elapsed()),
            Err(error) => {
                // One failure fails the run. A refused connection is fast, so retrying would only
                // keep the machine busy.
                tally.failed(&error);
                return Ok(tally);
            }
        }
    }
}

fn ask(server: SocketAddr, index: usize) -> anyhow::Result<()> {
    let socket = bound(index)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect(&server.into())?;
    let mut connection = TcpStream::from(socket);
    connection.write_all(QUESTION)?;
    let mut answer = [0; 64];
    let mut length = 0;
    loop {
        match connection.read(&mut answer[length..])? {
            0 => return compare_answer(&answer[..length]),
            count => length += count,
        }
    }
}
