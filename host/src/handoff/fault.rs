//! Fault injection for tests: at any message of a handoff, either side can be killed, stopped, or
//! made to send something else.
//!
//! Only builds with debug assertions contain it. The file that `UNINTERRUPTIBLE_FAULTS` names is
//! re-read at each message, so that a test can change it while processes run. Each line is one
//! fault:
//! ```text
//! SIDE         MOMENT                                    MESSAGE   ACTION successor
//! before-sending                            prepared  kill predecessor  after-sending |
//! after-receiving           offer     stop successor    after-receiving
//! offer     panic successor    before-sending                            hello     garbage | cut |
//! descriptor | say PACKET predecessor  before-sending                            offer     swap
//! successor    rollback
//! ```

use super::channel::Side;
use nix::{
    sys::signal::{Signal, kill},
    unistd::getpid,
};
use std::{fs, os::fd::RawFd, panic, path::PathBuf, sync::OnceLock, time::Duration};

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// How often a successor checks whether it is to roll back.
const POLL: Duration = Duration::from_millis(10);

/// Sets the file that lists the faults.
pub fn arm(file: PathBuf) {
    if cfg!(debug_assertions) {
        drop(FILE.set(file));
    }
}

/// May change a message before it is sent.
pub(crate) fn before_sending(side: Side, message: &'static str, packet: &mut Vec<u8>, descriptors: &mut Vec<RawFd>) {
    let Some(action) = ordered(side, &format!("before-sending {message} ")) else { return };
    match action.as_str() {
        "garbage" => *packet = b"\xff\0{]".to_vec(),
        "cut" => packet.truncate(packet.len() / 2),
        "descriptor" => descriptors.push(0),
        // Standard input may be anything, but hardly ever a listening socket.
        "swap" => descriptors.fill(0),
        _ => match action.strip_prefix("say ") {
            Some(text) => *packet = text.into(),
            None => happen(&action),
        },
    }
}

/// A message has been sent.
pub(crate) fn after_sending(side: Side, message: &'static str) {
    if let Some(action) = ordered(side, &format!("after-sending {message} ")) {
        happen(&action);
    }
}

/// A message has arrived and is about to be handled.
pub(crate) fn after_receiving(side: Side, message: &'static str) {
    if let Some(action) = ordered(side, &format!("after-receiving {message} ")) {
        happen(&action);
    }
}

/// Waits until a test tells this successor to give the service back.
pub(crate) async fn rollback() {
    while ordered(Side::Successor, "rollback").is_none() {
        if FILE.get().is_none() {
            return std::future::pending().await;
        }
        tokio::time::sleep(POLL).await;
    }
}

fn ordered(side: Side, point: &str) -> Option<String> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let orders = fs::read_to_string(FILE.get()?).ok()?;
    let side = match side {
        Side::Predecessor => "predecessor ",
        Side::Successor => "successor ",
    };
    orders.lines().find_map(|line| line.strip_prefix(side)?.strip_prefix(point)).map(str::to_owned)
}

#[expect(clippy::panic, reason = "a bug on order is one of the faults")]
fn happen(action: &str) {
    let signal = match action {
        "kill" => Signal::SIGKILL,
        "stop" => Signal::SIGSTOP,
        "panic" => panic::panic_any("it was ordered"),
        _ => return,
    };
    kill(getpid(), signal).ok();
}
