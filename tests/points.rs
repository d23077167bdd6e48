//! Every point of a handoff at which either side can die, stop, or break the protocol: the
//! consequences for the service and for its clients.

use crate::{
    anchor::children,
    clients::{Clients, Loss, has_ended, is_stopped, ports_of_connections},
    harness::{Setup, wait_for},
    service::{Generation, Service, exit_code, generation},
};
use Fault::{Cut, Descriptor, Freeze, Garbage, Kill, Murder, Other, Version};
use Side::{Predecessor, Successor};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{collections::HashSet, fmt, fs, sync::Mutex, thread, time::Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Predecessor,
    Successor,
}

/// Messages in their order, with their senders.
const MESSAGES: [(&str, Side); 6] = [
    ("hello", Successor),
    ("offer", Predecessor),
    ("prepared", Successor),
    ("commit", Predecessor),
    ("serving", Successor),
    ("settled", Predecessor),
];

/// The fault at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The process dies.
    Kill,
    /// The process is stopped, and continues after the other side's reaction.
    Freeze,
    /// The process is stopped, so that the test can list its connections, and dies.
    Murder,
    /// It sends garbage instead of a message.
    Garbage,
    /// It sends half of a message.
    Cut,
    /// Its message comes with a descriptor too many.
    Descriptor,
    /// Its message is of another version.
    Version,
    /// It sends a message that is not due.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Point {
    victim: Side,
    moment: &'static str,
    /// The message, by its place in the order.
    message: usize,
    fault: Fault,
}

/// The process that serves in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Predecessor,
    Successor,
    /// The only process that could have served was killed.
    Nobody,
}

const OFFER: usize = 1;
const COMMIT: usize = 3;
const SERVING: usize = 4;
const SETTLED: usize = 5;

impl Point {
    fn all() -> Vec<Self> {
        let mut points = Vec::new();
        for (message, (_, sender)) in MESSAGES.into_iter().enumerate() {
            let receiver = if sender == Successor { Predecessor } else { Successor };
            let moments = [(sender, "before-sending"), (sender, "after-sending"), (receiver, "after-receiving")];
            for (victim, moment) in moments {
                points.extend([Freeze, Kill, Murder].map(|fault| Self { victim, moment, message, fault }));
            }
            let faults = [Garbage, Cut, Descriptor, Version, Other];
            points.extend(faults.map(|fault| Self { victim: sender, moment: "before-sending", message, fault }));
        }
        points.retain(Self::makes_sense);

        // The slowest come first.
        points.sort_by_key(|point| point.fault != Freeze);
        points
    }

    fn makes_sense(&self) -> bool {
        match self.fault {
            // Lost connections need a process that has some, and a survivor that reports the loss.
            Murder => self.victim_serves() && self.outcome() != Outcome::Nobody,
            Version => self.message <= OFFER,
            _ => true,
        }
    }

    /// Whether the exchange has come so far that this message was sent, as the other side sees it.
    fn is_sent(&self, message: usize) -> bool {
        self.message > message || self.message == message && self.moment != "before-sending"
    }

    fn victim_serves(&self) -> bool {
        self.victim == Predecessor || self.is_sent(SERVING)
    }

    /// Whether the other side stops waiting for the victim after a message's timeout.
    fn other_side_gives_up(&self) -> bool {
        !self.is_sent(if self.victim == Predecessor { COMMIT } else { SERVING })
    }

    fn outcome(&self) -> Outcome {
        match (self.fault, self.victim) {
            (Kill | Murder, Predecessor) if !self.is_sent(OFFER) => Outcome::Nobody,
            (Kill | Murder, Predecessor) => Outcome::Successor,
            (Kill | Murder, Successor) if self.is_sent(SETTLED) => Outcome::Nobody,
            (Kill | Murder, Successor) => Outcome::Predecessor,
            (Freeze, _) if self.other_side_gives_up() => Outcome::Predecessor,
            (Freeze, _) => Outcome::Successor,
            // The successor already serves, and the message carries nothing that it needs.
            (_, _) if self.message == SETTLED => Outcome::Successor,
            (_, _) => Outcome::Predecessor,
        }
    }

    fn directive(&self) -> String {
        let (name, _) = MESSAGES[self.message];
        let action = match self.fault {
            Kill => "kill",
            Freeze | Murder => "stop",
            Garbage => "garbage",
            Cut => "cut",
            Descriptor => "descriptor",
            Version if name == "hello" => r#"say {"message":"hello","versions":[0,2],"release":"2.0.0"}"#,
            Version => {
                r#"say {"message":"offer","version":2,"release":"2.0.0","generation":1,"part":1,"parts":1,"entries":[{"role":"listener","key":"tcp://127.0.0.1:0#0"}]}"#
            }
            Other => r#"say {"message":"draining","connections":1}"#,
        };
        let side = if self.victim == Predecessor { "predecessor" } else { "successor" };
        format!("{side} {} {name} {action}", self.moment)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.directive())
    }
}

/// Prints the point at which a test has failed.
struct Witness(Point);

impl Drop for Witness {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was the point: {}", self.0);
        }
    }
}

#[test]
fn a_service_survives_a_fault_at_any_point_of_a_handoff() {
    /// Most of the time passes in timeouts.
    const AT_ONCE: usize = 14;
    let points = Mutex::new(Point::all().into_iter());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut service = None;
                loop {
                    let next = points.lock().unwrap().next();
                    let Some(point) = next else { break };
                    service = survive(point, service.take().unwrap_or_else(start));
                }
            });
        }
    });
}

fn start() -> Service {
    let setup = Setup::serving("hello")
        .without_records_of_connections()
        // A larger limit would make up most of the time of a start.
        .option("--max-connections", "64")
        .option("--ready-timeout", "20s")
        // Long enough that a process dies within the window where it should.
        .option("--rollback-window", "2s");
    Service::start(setup)
}

/// Causes the fault, and returns the service if a process still serves.
fn survive(point: Point, mut service: Service) -> Option<Service> {
    let _witness = Witness(point);
    let clients = Clients::start(service.host.addresses[0], 2);
    clients.goes_on(5);
    let predecessor = service.current();
    let failures = failures(&service);
    service.inject(&point.directive());
    service.signal(Signal::SIGUSR1);
    let successor = wait_for("a successor", || successor_of(&service, predecessor, failures));
    let victim = if point.victim == Predecessor { predecessor.pid } else { successor };
    let mut doomed = HashSet::new();
    match point.fault {
        Kill => wait_for("a death", || has_ended(victim).then_some(())),
        Freeze | Murder => {
            wait_for("a stop", || is_stopped(victim).then_some(()));
            service.inject("");
            if point.fault == Murder {
                doomed = ports_of_connections(victim);
                kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
            } else if point.victim == Predecessor && point.other_side_gives_up() {
                wait_for("the end of a successor that gets no message", || has_ended(successor).then_some(()));
            }
            // The predecessor has killed this one, so it need not continue.
            if !(point.victim == Successor && point.other_side_gives_up()) {
                kill(Pid::from_raw(victim), Signal::SIGCONT).ok();
            }
        }
        _ => {}
    }
    let killed = point.victim == Predecessor && matches!(point.fault, Kill | Murder);
    match point.outcome() {
        Outcome::Predecessor => {
            wait_for("a record of the failure", || (self::failures(&service) > failures).then_some(()));
            assert_eq!(service.current().pid, predecessor.pid);
            assert!(!fs::exists(format!("/proc/{successor}")).unwrap(), "the successor is still there");
        }
        Outcome::Successor => {
            wait_for("a service of the successor's own", || (service.current().pid == successor).then_some(()));
            bury(&mut service, predecessor.pid, killed);
        }
        Outcome::Nobody => {
            bury(&mut service, predecessor.pid, killed);
            exit_code(successor);
            clients.stop();
            service.abandon();
            return None;
        }
    }
    let over = Instant::now();
    service.inject("");
    clients.goes_on(5);
    let before = service.current();
    service.restart();
    bury(&mut service, before.pid, false);
    clients.goes_on(5);
    judge(point, &clients.stop(), &doomed, over);
    Some(service)
}

/// No client has lost more than the fault excuses.
fn judge(point: Point, losses: &[Loss], doomed: &HashSet<u16>, over: Instant) {
    let allowed = |loss: &Loss| match (point.fault, loss.port) {
        (_, None) => false,
        (Murder, Some(port)) => doomed.contains(&port),
        // Its connections are not known any more.
        (Kill, Some(_)) => point.victim_serves() && loss.at < over,
        // The predecessor kills a process that serves but could not report it.
        (Garbage | Cut | Descriptor | Other, Some(_)) => point.message == SERVING && loss.at < over,
        (Freeze | Version, Some(_)) => false,
    };
    let innocent: Vec<_> = losses.iter().filter(|loss| !allowed(loss)).collect();
    assert!(innocent.is_empty(), "lost without need: {innocent:?}");
}

/// The last successor that a process has started.
fn successor_of(service: &Service, predecessor: Generation, failures: usize) -> Option<i32> {
    // A stopped process may not have logged it yet.
    named_successor(service, predecessor, failures)
        .or_else(|| is_stopped(predecessor.pid).then(|| only_child(only_child(predecessor.pid)?)).flatten())
}

fn only_child(pid: i32) -> Option<i32> {
    children(pid).first().copied()
}

fn named_successor(service: &Service, predecessor: Generation, failures: usize) -> Option<i32> {
    let log = service.host.log();
    let mut starts = log
        .lines()
        .filter(|line| line.contains("restarting: successor started") && generation(line).pid == predecessor.pid);
    // Each earlier start has failed, among those of this process.
    let failed = log.lines().filter(|line| is_failure(line) && generation(line).pid == predecessor.pid).count();
    let before = failed.min(failures);
    let record = starts.nth(before)?;
    Some(record.rsplit_once("successor=")?.1.trim().parse().unwrap())
}

fn failures(service: &Service) -> usize {
    service.host.log().lines().filter(|line| is_failure(line)).count()
}

fn is_failure(record: &str) -> bool {
    record.contains("restart failed, still serving") || record.contains("successor died, serving again")
}

/// Waits for the end of a process of a service, and reaps it. Its exit code is 0 unless the test
/// has killed it.
fn bury(service: &mut Service, pid: i32, killed: bool) {
    let code = if pid == service.host.pid() { service.host.await_end().code() } else { exit_code(pid) };
    assert_eq!(code, (!killed).then_some(0));
}
