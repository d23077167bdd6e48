//! Reading and writing by `fd_read` and `fd_write`: the connection, the log, and files.
//!
//! Standard input and output behave like a blocking socket: a read waits for the first bytes and
//! returns those that are there; a write returns when everything is written. A program that has set
//! `NONBLOCK` gets `EAGAIN` instead of waiting.

use super::{
    TURN,
    descriptors::{Descriptor, NONBLOCK},
    errno::{Answer, Errno},
    file_io,
    memory::{Span, View},
    memory_and_state, parts,
};
use crate::{
    guest::state::State,
    wire::{CHUNK, Wire},
};
use std::{future::poll_fn, sync::Arc};
use wasmtime::Caller;

pub(super) async fn read(caller: &mut Caller<'_, State>, fd: u32, spans: u32, count: u32, out: u32) -> Answer {
    let (view, program) = parts(caller)?;
    let descriptor = program.descriptors.get(fd)?;
    let spans = view.spans(spans, count)?;
    view.check(out, 4)?;
    let read = match descriptor {
        Descriptor::Input { flags } => {
            let waits = flags & NONBLOCK == 0;
            receive(caller, &spans, waits).await?
        }
        Descriptor::Output { .. } | Descriptor::Log { .. } => return Err(Errno::BADF),
        Descriptor::Directory(_) => return Err(Errno::ISDIR),
        Descriptor::File(file) => {
            let file = file.to_read()?;
            file_io::read(caller, &file, &spans, None).await?
        }
    };
    parts(caller)?.0.put_u32(out, read)
}

pub(super) async fn write(caller: &mut Caller<'_, State>, fd: u32, spans: u32, count: u32, out: u32) -> Answer {
    let (view, program) = parts(caller)?;
    let descriptor = program.descriptors.get(fd)?;
    let spans = view.spans(spans, count)?;
    view.check(out, 4)?;
    let written = match descriptor {
        Descriptor::Input { .. } => return Err(Errno::BADF),
        Descriptor::Output { flags } => {
            let waits = flags & NONBLOCK == 0;
            send(caller, &spans, waits).await?
        }
        Descriptor::Log { .. } => {
            let mut written = 0;
            // A longer write is truncated: no limit of the program covers the host's time for
            // logging lines.
            let mut room = CHUNK as u32;
            let (view, state) = memory_and_state(caller)?;
            let log = state.log_of_program();
            for span in &spans {
                let span = span.at_most(room);
                log.write(view.bytes(span)?);
                (written, room) = (written + span.length, room - span.length);
            }
            written
        }
        Descriptor::Directory(_) => return Err(Errno::ISDIR),
        Descriptor::File(file) => {
            let file = file.to_write()?;
            file_io::write(caller, &file, &spans, None).await?
        }
    };
    parts(caller)?.0.put_u32(out, written)
}

async fn receive(caller: &mut Caller<'_, State>, spans: &[Span], waits: bool) -> Answer<u32> {
    let (_, program) = parts(caller)?;
    if spans.is_empty() {
        return Ok(0);
    }
    if waits {
        program.learner.wants_input();
    } else {
        // The program may act on the lack of input.
        program.learner.observable();
    }
    let wire = Arc::clone(&program.wire);
    loop {
        match fill(&wire, &mut parts(caller)?.0, spans)? {
            Some(count) => return Ok(count),
            None if waits => wire.notified().await,
            None => return Err(Errno::AGAIN),
        }
    }
}

/// Reads the bytes that have arrived: `None` if there are none yet, 0 at the end of input.
fn fill(wire: &Wire, view: &mut View<'_>, spans: &[Span]) -> Answer<Option<u32>> {
    let mut total = 0;
    for span in spans {
        match wire.try_read_into(view.bytes_mut(*span)?) {
            Ok(Some(count)) => {
                // A read fills at most its buffer, whose length is 32 bits.
                let count = u32::try_from(count).unwrap_or(span.length);
                total += count;
                if count < span.length {
                    break;
                }
            }
            Ok(None) if total == 0 => return Ok(None),
            Err(error) if total == 0 => return Err(error.into()),
            // The wire keeps an error: the next read returns it.
            Ok(None) | Err(_) => break,
        }
    }
    Ok(Some(total))
}

async fn send(caller: &mut Caller<'_, State>, spans: &[Span], waits: bool) -> Answer<u32> {
    let (_, program) = parts(caller)?;
    program.learner.observable();
    let wire = Arc::clone(&program.wire);
    let (mut sent, mut turn) = (0_u32, 0_u32);
    for span in spans {
        let mut rest = *span;
        while rest.length > 0 {
            match wire.try_write(parts(caller)?.0.bytes(rest.at_most(TURN))?) {
                Ok(Some(count)) => {
                    let count = u32::try_from(count).unwrap_or(rest.length);
                    (rest, sent, turn) = (rest.after(count), sent + count, turn + count);
                    if turn >= TURN {
                        turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Ok(None) if waits => {
                    turn = 0;
                    poll_fn(|context| wire.poll_writable(context)).await;
                }
                Ok(None) if sent == 0 => return Err(Errno::AGAIN),
                Err(error) if sent == 0 => return Err(error.into()),
                // The wire keeps an error: the next write returns it.
                Ok(None) | Err(_) => return Ok(sent),
            }
        }
    }
    Ok(sent)
}
