//! Totals are conserved: every accepted connection is open, finished, failed or refused, summed
//! over all generations, through any restart or crash.

use crate::{
    connections::read_line,
    harness::{Setup, Stream, connect, read_to_end, seed, wait_for},
    operator::Operated,
    random::Random,
};
use serde_json::Value;
use std::io::Write;

/// The connection counts of the status, over all generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    accepted: u64,
    open: u64,
    finished: u64,
    failed: u64,
    refused: u64,
}

impl Sums {
    fn of(status: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("not a number in {status}"));
        let connections = &status["connections"];
        let elsewhere = status["draining"].as_array().unwrap().iter().map(|other| number(&other["connections"]));
        Self {
            accepted: number(&connections["accepted"]),
            open: number(&connections["open"]) + elsewhere.sum::<u64>(),
            finished: number(&connections["finished"]),
            failed: connections["failed"].as_object().unwrap().values().map(number).sum(),
            refused: number(&connections["refused"]),
        }
    }

    /// Checks the equation, which holds in every status.
    fn conserved(self) -> Self {
        let Self { accepted, open, finished, failed, refused } = self;
        assert_eq!(accepted, open + finished + failed + refused, "{self:?}");
        self
    }
}

fn now(operated: &Operated) -> Sums {
    Sums::of(&operated.operator.status()).conserved()
}

fn becomes(operated: &Operated, wanted: Sums) {
    let mut last = Sums::default();
    let reached = || {
        last = now(operated);
        (last == wanted).then_some(())
    };
    wait_for(&format!("totals that come to {wanted:?}"), reached);
}

/// A handler that greets first, so that a client knows that its connection is counted.
fn setup() -> Setup {
    Setup::serving("speaks-first").option("--max-draining", "64")
}

fn greeted(operated: &Operated) -> Stream {
    let mut client = connect(operated.service.host.addresses[0]);
    assert_eq!(read_line(&mut client), "ready\n");
    client
}

fn finish(mut client: Stream) {
    client.write_all(b"x\n").unwrap();
    assert_eq!(read_to_end(&mut client), b"you said: x\n");
}

#[test]
fn a_connection_that_ends_two_generations_later_is_counted_once() {
    let operated = Operated::start(setup().option("--rollback-window", "50ms"));
    let old = greeted(&operated);
    for _ in 0..2 {
        let (code, _, err) = operated.operator.run(&["restart", "--wait-settled"]);
        assert_eq!(code, 0, "{err}");
    }
    becomes(&operated, Sums { accepted: 1, open: 1, ..Sums::default() });
    finish(old);
    becomes(&operated, Sums { accepted: 1, finished: 1, ..Sums::default() });
}

#[test]
fn each_generation_that_drains_is_shown_with_its_own_connections() {
    let operated = Operated::start(setup().option("--rollback-window", "50ms"));
    let mut clients = Vec::new();
    for generation in 1..=3_usize {
        clients.extend((0..generation).map(|_| greeted(&operated)));
        let (code, _, err) = operated.operator.run(&["restart", "--wait-settled"]);
        assert_eq!(code, 0, "{err}");
    }
    let shown = |status: &Value| {
        let mut shown: Vec<_> = status["draining"]
            .as_array()
            .unwrap()
            .iter()
            .map(|other| (other["generation"].as_u64().unwrap(), other["connections"].as_u64().unwrap()))
            .collect();
        shown.sort_unstable();
        shown
    };
    assert_eq!(shown(&operated.operator.status()), [(1, 1), (2, 2), (3, 3)]);
    assert!((operated.operator.metric("uninterruptible_draining_connections") - 6.0).abs() < f64::EPSILON);
    assert!((operated.operator.metric("uninterruptible_draining_generations") - 3.0).abs() < f64::EPSILON);
    clients.into_iter().for_each(finish);
    becomes(&operated, Sums { accepted: 6, finished: 6, ..Sums::default() });
}

#[test]
fn connections_of_a_draining_generation_that_is_killed_count_as_failed() {
    let mut operated = Operated::start(setup().option("--rollback-window", "50ms"));
    let clients: Vec<_> = (0..3).map(|_| greeted(&operated)).collect();
    for _ in 0..2 {
        let (code, _, err) = operated.operator.run(&["restart", "--wait-settled"]);
        assert_eq!(code, 0, "{err}");
    }
    operated.service.host.kill();
    becomes(&operated, Sums { accepted: 3, failed: 3, ..Sums::default() });
    assert_eq!(operated.operator.status()["connections"]["failed"]["host"], 3);
    operated.service.host.logged(&["draining generation died", "draining=1", "lost=3"]);
    drop(clients);
}

#[test]
fn connections_of_a_rolled_back_generation_are_counted_when_they_end() {
    let operated = Operated::start(setup().option("--rollback-window", "60s"));
    let before = greeted(&operated);
    let (code, _, err) = operated.operator.run(&["restart"]);
    assert_eq!(code, 0, "{err}");
    let within = greeted(&operated);
    becomes(&operated, Sums { accepted: 2, open: 2, ..Sums::default() });
    let (code, _, err) = operated.operator.run(&["rollback"]);
    assert_eq!(code, 0, "{err}");
    becomes(&operated, Sums { accepted: 2, open: 2, ..Sums::default() });
    finish(within);
    becomes(&operated, Sums { accepted: 2, open: 1, finished: 1, ..Sums::default() });
    finish(before);
    becomes(&operated, Sums { accepted: 2, finished: 2, ..Sums::default() });
}

/// One step of a random sequence.
const STEPS: [&str; 7] = ["connect", "connect", "finish", "leave", "restart", "roll back", "reload"];

/// Random sequences of connections, restarts, rollbacks and reloads. The test checks the equation
/// after each step; at the end every connection counts in one total. `SEED` repeats one.
#[test]
fn totals_are_conserved_through_any_sequence() {
    let mut random = Random::new(seed());
    let operated = Operated::start(setup().option("--rollback-window", "2s"));
    let mut open: Vec<Stream> = Vec::new();
    let mut accepted = 0;
    for step in 0..40 {
        let what = random.one_of(&STEPS);
        eprintln!("step {step}: {what}");
        match what {
            "finish" if !open.is_empty() => {
                finish(open.swap_remove(random.below(open.len())));
            }
            "leave" if !open.is_empty() => {
                drop(open.swap_remove(random.below(open.len())));
            }
            "restart" => {
                // This restart settles an earlier one.
                let (code, _, err) = operated.operator.run(&["restart"]);
                assert_eq!(code, 0, "{err}");
            }
            "roll back" => {
                // Rejected if there is nothing to roll back.
                operated.operator.run(&["rollback"]);
            }
            "reload" => {
                let (code, _, err) = operated.operator.run(&["reload"]);
                assert_eq!(code, 0, "{err}");
            }
            _ => {
                open.push(greeted(&operated));
                accepted += 1;
            }
        }
        // Earlier generations report their finished connections after the window; the equation
        // holds before that too.
        let counted = || (now(&operated).accepted == accepted).then_some(());
        wait_for(&format!("{accepted} accepted connections (step {step}: {what})"), counted);
    }
    open.into_iter().for_each(finish);
    // Clients that left may count as finished or as failed; both are ends.
    let all_ended = || {
        let now = now(&operated);
        (now.open == 0 && now.accepted == accepted && now.finished + now.failed == accepted).then_some(())
    };
    wait_for(&format!("the end of all {accepted} connections in one total each"), all_ended);
    operated.operator.reaches("serving");
}
