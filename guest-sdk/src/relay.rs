//! Passes bytes both ways between two connections, on WASI 0.2. It owns the single wait of a guest
//! that does two things at once.

use std::io::{self, BufRead};

use crate::host::sync::{Pollable, poll};
use crate::input::Input;
use crate::output::Output;

/// How a direction of [`relay`] ended.
#[derive(Debug)]
pub enum Relayed {
    /// Its input has ended, and its output after all bytes.
    Ended,
    /// Its input broke.
    NotRead(io::Error),
    /// The receiver of its output has gone.
    NotWritten(io::Error),
    /// The other direction's input broke before this one had ended.
    Abandoned,
}

/// Passes bytes both ways until both directions have ended. Returns how each ended: that from
/// `here`, and that from `there`.
///
/// An end of input becomes an end of output, while the other direction continues. Neither direction
/// waits for the other. Each holds back a sender that is faster than its receiver: at most 64 KiB
/// are kept for each direction. If a connection breaks, so that it can be neither read nor written,
/// both directions are over.
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

    /// Makes progress without waiting. Returns whether there was any.
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
            // The end, after the written bytes: closing an output has to wait for them.
            if !self.to.try_finish().map_err(Relayed::NotWritten)? {
                return Ok(false);
            }
            return Err(Relayed::Ended);
        }
        let length = self.to.try_write(bytes).map_err(Relayed::NotWritten)?;
        self.from.consume(length);
        Ok(length > 0)
    }

    /// What this direction waits for; `None` if it is over.
    fn wait(&self) -> Option<Pollable<'_>> {
        match (&self.over, self.from.is_waiting()) {
            (Some(_), _) => None,
            (None, true) => Some(self.from.subscribe()),
            (None, false) => self.to.subscribe(),
        }
    }
}
