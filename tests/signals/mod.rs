//! Each signal in each state of a process, to the predecessor and to the successor: the table in
//! docs/restart.md, row by row. One file for each phase of a restart.

mod before_serving;
mod draining;
mod watching;

use crate::{
    harness::{Address, Load, Setup, read_to_end, wait_for},
    service::Service,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{ErrorKind, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

const STOPS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// A window that only an event ends.
fn watched() -> Setup {
    Setup::serving("hello").option("--rollback-window", "60s")
}

fn unwatched(name: &str) -> Setup {
    Setup::serving(name).option("--rollback-window", "50ms")
}

fn load(service: &Service) -> Load {
    Load::start(service.host.addresses[0], 4, "bob\n", "Hello bob!\n")
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn in_state(pid: i32, state: char) {
    wait_for(&format!("process {pid} in state {state}"), || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().starts_with(state).then_some(())
    });
}

/// Whether it has ended and is reaped.
fn is_gone(pid: i32) -> bool {
    !fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Waits until this process has logged this.
fn said(service: &Service, pid: i32, what: &str) -> String {
    service.host.logged(&[&format!("[{pid}/"), what])
}

/// The first successor, once it is started.
fn successor(service: &Service) -> i32 {
    let record = service.host.logged(&["successor started"]);
    record.rsplit_once("successor=").unwrap().1.parse().unwrap()
}

/// A restart whose successor is stopped at this point.
fn held(service: &Service, moment: &str) -> i32 {
    service.inject(&format!("successor {moment} stop"));
    service.signal(Signal::SIGUSR1);
    let pid = successor(service);
    in_state(pid, 'T');
    service.inject("");
    pid
}

/// A restart whose successor serves, with the predecessor watching.
fn under_watch(service: &Service) -> i32 {
    service.signal(Signal::SIGUSR1);
    let pid = successor(service);
    said(service, pid, "serving, predecessor watching");
    said(service, service.host.pid(), "successor serving");
    pid
}

/// Clients that ask `hello` until no process listens any more. Every connected client is answered,
/// and none is refused before the service gets its stop.
struct Clients {
    told: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    asking: Vec<thread::JoinHandle<()>>,
}

impl Clients {
    fn of(service: &Service) -> Self {
        let address = service.host.addresses[0];
        let (told, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = || {
            let (told, answered) = (Arc::clone(&told), Arc::clone(&answered));
            thread::spawn(move || {
                while asks(address, &told) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let asking = (0..4).map(|_| client()).collect();
        let clients = Self { told, answered, asking };
        wait_for("answers", || (clients.answered.load(Ordering::Relaxed) > 20).then_some(()));
        clients
    }

    fn stop(&self, pid: i32, signal: Signal) {
        self.told.store(true, Ordering::Relaxed);
        send(pid, signal);
    }

    fn end(self) {
        self.asking.into_iter().for_each(|client| client.join().expect("every client that connected is answered"));
    }
}

fn asks(address: Address, told: &AtomicBool) -> bool {
    match address.try_connect() {
        Ok(mut stream) => {
            stream.write_all(b"bob\n").unwrap();
            assert_eq!(String::from_utf8_lossy(&read_to_end(&mut stream)), "Hello bob!\n");
            true
        }
        Err(error) => {
            assert!(error.kind() == ErrorKind::ConnectionRefused && told.load(Ordering::Relaxed), "{error}");
            false
        }
    }
}
