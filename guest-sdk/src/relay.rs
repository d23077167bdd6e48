//! Passing bytes both ways between two connections, on WASI 0.2. It owns the one wait of a guest that does two things at once.

use std::io::{self, BufRead};

use crate::host::sync::{Pollable, poll};
use crate::input::Input;
use crate::output::Output;

/// How a direction of [`relay`] ended.
#[derive(Debug)]
pub enum Relayed {
    /// Its input has ended, and so has its output, after everything.
    Ended,
    /// Its input broke.
    NotRead(io::Error),
    /// Whoever reads its output has gone.
    NotWritten(io::Error),
    /// The other direction's input broke before this one had ended.
    Abandoned,
}

/// Passes bytes both ways until both have ended, and tells how each of them did: what `here` sent, and what `there` sent.
///
/// An end is passed on as an end, while the other direction goes on. Neither direction waits for the other, and each holds back
/// whoever sends faster than the other side reads: at most 64 KiB are held for either. Where a connection breaks, so that it
/// can neither be read nor be written, both are over.
pub fn relay(here: (&mut Input, &mut Output), there: (&mut Input, &mut Output)) -> (Relayed, Relayed) {
    let (mut from_here, mut from_there) = (Way::new(here.0, there.1), Way::new(there.0, here.1));
    loop {
        let went = [from_here.go(), from_there.go()];
        match (&mut from_here.over, &mut from_there.over) {
            (Some(_), Some(_)) => break,
            (Some(Relayed::NotRead(_)), other @ None) | (other @ None, Some(Relayed::NotRead(_))) => {
                *other = Some(Relayed::Abandoned);
                break;
            }
            _ => {}
        }
        if !went.contains(&true) {
            let waits: Vec<Pollable<'_>> = [&from_here, &from_there].iter().filter_map(|way| way.wait()).collect();
            poll(&waits.iter().collect::<Vec<_>>());
        }
    }
    let over = |way: Way<'_>| way.over.unwrap_or(Relayed::Abandoned);
    (over(from_here), over(from_there))
}

struct Way<'a> {
    from: &'a mut Input,
    to: &'a mut Output,
    over: Option<Relayed>,
}

impl<'a> Way<'a> {
    fn new(from: &'a mut Input, to: &'a mut Output) -> Self {
        Self { from, to, over: None }
    }

    /// Does what can be done without waiting, and tells whether there was anything.
    fn go(&mut self) -> bool {
        if self.over.is_some() {
            return false;
        }
        match self.step() {
            Ok(went) => went,
            Err(over) => {
                self.over = Some(over);
                true
            }
        }
    }

    fn step(&mut self) -> Result<bool, Relayed> {
        let arrived = self.from.try_fill().map_err(Relayed::NotRead)?;
        let Some(bytes) = arrived else { return Ok(false) };
        if bytes.is_empty() {
            // The end, after what was written: to close an output is to wait for that.
            if !self.to.try_finish().map_err(Relayed::NotWritten)? {
                return Ok(false);
            }
            return Err(Relayed::Ended);
        }
        let length = self.to.try_write(bytes).map_err(Relayed::NotWritten)?;
        self.from.consume(length);
        Ok(length > 0)
    }

    /// What this direction waits for.
    fn wait(&self) -> Option<Pollable<'_>> {
        match (&self.over, self.from.is_waiting()) {
            (Some(_), _) => None,
            (None, true) => Some(self.from.subscribe()),
            (None, false) => self.to.subscribe(),
        }
    }
}
