//! Arguments, environment, clocks, random numbers, and a program's exit.

use super::{
    TURN,
    errno::{Answer, Errno},
    memory::{Span, View},
    memory_and_state, parts,
};
use crate::guest::state::State;
use std::time::SystemTime;
use wasmtime::Caller;
use wasmtime_wasi::I32Exit;

/// The clocks. Clocks of CPU time are not supported.
pub(super) const REALTIME: u32 = 0;
pub(super) const MONOTONIC: u32 = 1;

/// NUL-terminated strings. They are kept, since a program asks for their size first and then passes
/// a buffer of that size.
pub(super) struct Strings {
    bytes: Vec<u8>,
    /// The offset of each.
    starts: Vec<u32>,
}

impl Strings {
    fn of(strings: impl IntoIterator<Item = String>) -> Self {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for string in strings {
            // `grants` limits them, and the facts of a connection are short.
            starts.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            bytes.extend(string.bytes());
            bytes.push(0);
        }
        Self { bytes, starts }
    }

    fn sizes(&self, view: &mut View<'_>, count: u32, size: u32) -> Answer {
        view.put_u32(count, u32::try_from(self.starts.len())?)?;
        view.put_u32(size, u32::try_from(self.bytes.len())?)
    }

    fn put(&self, view: &mut View<'_>, pointers: u32, strings: u32) -> Answer {
        view.check(pointers, u32::try_from(self.starts.len() * 4)?)?;
        view.put(strings, &self.bytes)?;
        // Both are whole ranges of memory, so that sums stay within it.
        for (index, start) in (0..).zip(&self.starts) {
            view.put_u32(pointers + index * 4, strings + start)?;
        }
        Ok(())
    }
}

/// The two sets of strings.
#[derive(Clone, Copy)]
enum Which {
    Arguments,
    Environment,
}

fn told(caller: &mut Caller<'_, State>, which: Which, tell: impl FnOnce(&Strings, &mut View<'_>) -> Answer) -> Answer {
    let (mut view, state) = memory_and_state(caller)?;
    let known = state.program.as_mut().and_then(|program| match which {
        Which::Arguments => program.arguments.take(),
        Which::Environment => program.environment.take(),
    });
    let strings = known.unwrap_or_else(|| match which {
        Which::Arguments => Strings::of(state.arguments_of_command()),
        Which::Environment => {
            let variables = state.environment_of_command();
            Strings::of(variables.into_iter().map(|(name, value)| format!("{name}={value}")))
        }
    });
    let answer = tell(&strings, &mut view);
    if let Some(program) = &mut state.program {
        match which {
            Which::Arguments => program.arguments = Some(strings),
            Which::Environment => program.environment = Some(strings),
        }
    }
    answer
}

pub(super) fn arguments_sizes(caller: &mut Caller<'_, State>, count: u32, size: u32) -> Answer {
    told(caller, Which::Arguments, |strings, view| strings.sizes(view, count, size))
}

pub(super) fn arguments(caller: &mut Caller<'_, State>, pointers: u32, at: u32) -> Answer {
    told(caller, Which::Arguments, |strings, view| strings.put(view, pointers, at))
}

pub(super) fn environment_sizes(caller: &mut Caller<'_, State>, count: u32, size: u32) -> Answer {
    told(caller, Which::Environment, |strings, view| strings.sizes(view, count, size))
}

pub(super) fn environment(caller: &mut Caller<'_, State>, pointers: u32, at: u32) -> Answer {
    told(caller, Which::Environment, |strings, view| strings.put(view, pointers, at))
}

pub(super) fn resolution(caller: &mut Caller<'_, State>, clock: u32, out: u32) -> Answer {
    match clock {
        // Both count nanoseconds.
        REALTIME | MONOTONIC => parts(caller)?.0.put_u64(out, 1),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn time(caller: &mut Caller<'_, State>, clock: u32, out: u32) -> Answer {
    let (mut view, program) = parts(caller)?;
    let time = match clock {
        REALTIME => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        MONOTONIC => program.began.elapsed(),
        _ => return Err(Errno::INVAL),
    };
    // Never 0: Go's runtime takes 0 for an error.
    view.put_u64(out, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1))
}

/// Fills a buffer of any length, and yields to other guests in between.
pub(super) async fn random(caller: &mut Caller<'_, State>, span: Span) -> Answer {
    let (mut view, program) = parts(caller)?;
    view.bytes(span)?;
    let mut rest = span;
    if rest.length > TURN {
        // Yielding counts as waiting, but not for input.
        program.learner.observable();
    }
    loop {
        let piece = rest.at_most(TURN);
        aws_lc_rs::rand::fill(view.bytes_mut(piece)?)?;
        rest = rest.after(piece.length);
        if rest.length == 0 {
            return Ok(());
        }
        tokio::task::yield_now().await;
        view = parts(caller)?.0;
    }
}

/// A no-op: the engine preempts guests.
pub(super) fn proceed(_: &mut Caller<'_, State>) -> Answer {
    Ok(())
}

/// Signals are not supported.
pub(super) fn unsupported(_: &mut Caller<'_, State>) -> Answer {
    Err(Errno::NOTSUP)
}

/// Ends the program at once.
pub(super) fn exit(status: u32) -> wasmtime::Result<()> {
    Err(I32Exit(status.cast_signed()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_stored_nul_terminated() {
        let strings = Strings::of(["name".to_owned(), String::new(), "a=b".to_owned()]);
        let mut memory = [0xff_u8; 64];
        let mut view = View::new(&mut memory);
        strings.sizes(&mut view, 0, 4).unwrap();
        assert_eq!((view.array(0), view.array(4)), (Ok(3_u32.to_le_bytes()), Ok(10_u32.to_le_bytes())));
        strings.put(&mut view, 8, 20).unwrap();
        assert_eq!(view.bytes(Span { at: 20, length: 10 }).unwrap(), b"name\0\0a=b\0");
        assert_eq!([8, 12, 16].map(|at| view.array(at).unwrap()), [20_u32, 25, 26].map(u32::to_le_bytes));
        assert_eq!(strings.put(&mut view, 56, 20), Err(Errno::FAULT));
        assert_eq!(strings.put(&mut view, u32::MAX - 3, 20), Err(Errno::FAULT));
        assert_eq!(strings.put(&mut view, 0, u32::MAX - 3), Err(Errno::FAULT));
        assert_eq!(strings.put(&mut view, 0, 60), Err(Errno::FAULT));
    }
}
