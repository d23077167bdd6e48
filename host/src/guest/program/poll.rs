//! `poll_oneoff`: waiting for the connection, for room to write, or for a time.

use super::{
    Program,
    descriptors::Descriptor,
    errno::{Answer, Errno},
    memory::View,
    parts,
};
use crate::guest::state::State;
use rustix::fs::{fstat, tell};
use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep_until};
use wasmtime::Caller;

const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;

/// The most subscriptions of one call: many times the number of a program's descriptors.
const MOST: u32 = 1024;

/// A condition that a program waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    At(Instant),
    Read(u32),
    Write(u32),
    /// A condition that cannot be waited for: its event has an error at once.
    Nothing(Kind, Errno),
}

/// WASI's kinds of events, in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Clock,
    Read,
    Write,
}

struct Subscription {
    user_data: u64,
    condition: Condition,
}

/// The outcome of a subscription.
struct Event {
    user_data: u64,
    kind: Kind,
    outcome: Answer<u64>,
}

impl Event {
    fn put(&self, view: &mut View<'_>, at: u32) -> Answer {
        let (error, bytes) = match self.outcome {
            Ok(bytes) => (0, bytes),
            Err(errno) => (errno.number(), 0),
        };
        view.put_u64(at, self.user_data)?;
        view.put_u64(at + 8, u64::from(error) | (self.kind as u64) << 16)?;
        view.put_u64(at + 16, bytes)?;
        view.put_u64(at + 24, 0)
    }
}

pub(super) async fn poll(caller: &mut Caller<'_, State>, from: u32, to: u32, count: u32, out: u32) -> Answer {
    let (view, program) = parts(caller)?;
    if count == 0 || count > MOST {
        return Err(Errno::INVAL);
    }
    view.check(from, count * SUBSCRIPTION)?;
    view.check(to, count * EVENT)?;
    view.check(out, 4)?;
    let subscriptions: Vec<Subscription> =
        (0..count).map(|index| subscription(&view, program, from + index * SUBSCRIPTION)).collect::<Answer<_>>()?;
    let (read, write) =
        (waits_for(program, &subscriptions, Kind::Read), waits_for(program, &subscriptions, Kind::Write));
    let only_input =
        subscriptions.iter().all(|each| matches!(each.condition, Condition::Read(fd) if is_input(program, fd)));
    if only_input {
        program.learner.wants_input();
    } else {
        program.learner.observable();
    }
    let wire = Arc::clone(&program.wire);
    let earliest = subscriptions.iter().filter_map(|each| match each.condition {
        Condition::At(time) => Some(time),
        _ => None,
    });
    // Without a clock among them, longer than any guest lives.
    let mut timer = pin!(sleep_until(earliest.min().unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 32))));
    loop {
        let (mut view, program) = parts(caller)?;
        let mut happened = 0;
        for event in subscriptions.iter().filter_map(|each| event(program, each)) {
            event.put(&mut view, to + happened * EVENT)?;
            happened += 1;
        }
        if happened > 0 {
            return view.put_u32(out, happened);
        }
        tokio::select! {
            biased;
            () = wire.readable(), if read => {}
            () = wire.room(), if write => {}
            () = &mut timer => {}
        }
    }
}

fn subscription(view: &View<'_>, program: &Program, at: u32) -> Answer<Subscription> {
    let number = |at| view.array(at).map(u64::from_le_bytes);
    let short = |at| view.array(at).map(u32::from_le_bytes);
    let [tag] = view.array(at + 8)?;
    let condition = match tag {
        0 => {
            let flags = view.array(at + 40).map(u16::from_le_bytes)?;
            match deadline(program, short(at + 16)?, number(at + 24)?, flags) {
                Ok(time) => Condition::At(time),
                Err(errno) => Condition::Nothing(Kind::Clock, errno),
            }
        }
        1 => Condition::Read(short(at + 16)?),
        2 => Condition::Write(short(at + 16)?),
        _ => return Err(Errno::INVAL),
    };
    Ok(Subscription { user_data: number(at)?, condition })
}

/// The moment at which a clock shows a time, or has advanced by one.
fn deadline(program: &Program, clock: u32, time: u64, flags: u16) -> Answer<Instant> {
    let time = Duration::from_nanos(time);
    let wait = match (flags, clock) {
        (0, super::process::REALTIME | super::process::MONOTONIC) => time,
        (1, super::process::REALTIME) => {
            time.saturating_sub(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
        }
        (1, super::process::MONOTONIC) => time.saturating_sub(program.began.elapsed()),
        _ => return Err(Errno::INVAL),
    };
    let now = Instant::now();
    // A time beyond the clock's range is later than any guest lives.
    Ok(now.checked_add(wait).unwrap_or(now + Duration::from_secs(1 << 32)))
}

fn is_input(program: &Program, fd: u32) -> bool {
    matches!(program.descriptors.get(fd), Ok(Descriptor::Input { .. }))
}

/// Whether a subscription waits for this direction of the connection.
fn waits_for(program: &Program, subscriptions: &[Subscription], kind: Kind) -> bool {
    subscriptions.iter().any(|each| match each.condition {
        Condition::Read(fd) => kind == Kind::Read && is_input(program, fd),
        Condition::Write(fd) => {
            kind == Kind::Write && matches!(program.descriptors.get(fd), Ok(Descriptor::Output { .. }))
        }
        _ => false,
    })
}

/// The event of a subscription, if its condition holds.
fn event(program: &Program, &Subscription { user_data, condition }: &Subscription) -> Option<Event> {
    let (kind, outcome) = match condition {
        Condition::At(time) => (Kind::Clock, (time <= Instant::now()).then_some(Ok(0))?),
        Condition::Nothing(kind, errno) => (kind, Err(errno)),
        Condition::Read(fd) => (Kind::Read, to_read(program, fd).transpose()?),
        Condition::Write(fd) => (Kind::Write, to_write(program, fd).transpose()?),
    };
    Some(Event { user_data, kind, outcome })
}

/// The fewest bytes that can be read without waiting; `None` if there are none yet.
fn to_read(program: &Program, fd: u32) -> Answer<Option<u64>> {
    match program.descriptors.get(fd)? {
        Descriptor::Input { .. } => Ok(program.wire.is_readable().then_some(1)),
        Descriptor::File(file) if file.readable => {
            let size = u64::try_from(fstat(&file.file)?.st_size).unwrap_or_default();
            Ok(Some(size.saturating_sub(tell(&file.file)?)))
        }
        _ => Err(Errno::BADF),
    }
}

fn to_write(program: &Program, fd: u32) -> Answer<Option<u64>> {
    match program.descriptors.get(fd)? {
        // On a broken connection the write returns the error.
        Descriptor::Output { .. } => Ok(program.wire.try_room().unwrap_or(true).then_some(1)),
        Descriptor::Log { .. } => Ok(Some(1)),
        Descriptor::File(file) if file.writable => Ok(Some(1)),
        _ => Err(Errno::BADF),
    }
}
