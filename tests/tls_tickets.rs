//! Session resumption: across connections, reloads, restarts and rollbacks, with no key on disk or
//! in any message.

use crate::{
    certificates,
    harness::{Setup, Transport, directory},
    openssl::Client,
    service::{Service, generation},
};
use nix::sys::signal::Signal;
use std::{fs, path::Path};

fn service(window: &str) -> Service {
    Service::start(Setup::serving_over(Transport::Tls, "hello").option("--rollback-window", window))
}

fn begins(service: &Service, version: &str, session: &Path) {
    let client = Client::to(&service.host).flag(version).option("-sess_out", session);
    client.ask("bob\n").shows("New, ").shows("Hello bob!");
}

fn resumes(service: &Service, version: &str, session: &Path) {
    let client = Client::to(&service.host).flag(version).option("-sess_in", session);
    client.ask("bob\n").shows("Reused, ").shows("Hello bob!");
}

#[test]
fn sessions_resume_across_twenty_restarts() {
    let directory = directory();
    let session = |name: &str| directory.path().join(name);
    let service = service("0s");
    for version in ["-tls1_2", "-tls1_3"] {
        begins(&service, version, &session(version));
    }
    for restart in 1..=20 {
        service.restart();
        // From the first generation to each later one, and from each to the next.
        resumes(&service, "-tls1_3", &session("-tls1_3"));
        let latest = session("latest");
        if restart > 1 {
            resumes(&service, "-tls1_3", &latest);
        }
        begins(&service, "-tls1_3", &latest);
    }
    resumes(&service, "-tls1_2", &session("-tls1_2"));
    assert_eq!(service.current().number, 21);
    assert!(!service.host.log().contains("TLS ticket keys not"), "{}", service.host.log());
}

/// Within the window both processes may serve, before and after a rollback: each accepts the
/// other's tickets.
#[test]
fn sessions_of_both_generations_resume_after_a_rollback() {
    let directory = directory();
    let (before, within) = (directory.path().join("before"), directory.path().join("within"));
    let service = service("1h");
    begins(&service, "-tls1_3", &before);
    service.signal(Signal::SIGUSR1);
    let successor = generation(&service.host.logged(&["serving, predecessor watching"]));
    resumes(&service, "-tls1_3", &before);
    begins(&service, "-tls1_3", &within);
    service.inject("successor rollback");
    service.host.logged(&["rolled back, serving again"]);
    service.host.logged(&[&format!("[{}/2]", successor.pid), "handed back"]);
    resumes(&service, "-tls1_3", &before);
    resumes(&service, "-tls1_3", &within);
}

#[test]
fn sessions_resume_after_a_reload() {
    let directory = directory();
    let session = directory.path().join("session");
    let (certificate, key) = certificates::localhost().write(directory.path(), "site");
    let setup = Setup::serving("hello").option("--tls-certificate", certificate).option("--tls-key", key);
    let service = Service::start(setup);
    begins(&service, "-tls1_3", &session);
    certificates::trusted().server(&["localhost"]).write(directory.path(), "site");
    service.host.signal(Signal::SIGHUP);
    service.host.logged(&["reloaded"]);
    resumes(&service, "-tls1_3", &session);
}

/// A session belongs to a server name, and does not resume under another.
#[test]
fn a_session_is_not_resumed_under_another_name() {
    let directory = directory();
    let session = directory.path().join("session");
    let service = service("0s");
    let client = |name: &str| Client::to(&service.host).option("-servername", name);
    client("one.test").option("-sess_out", &session).ask("bob\n").shows("New, ");
    client("other.test").option("-sess_in", &session).ask("bob\n").shows("New, ").shows("Hello bob!");
    client("one.test").option("-sess_in", &session).ask("bob\n").shows("Reused, ").shows("Hello bob!");
}

#[test]
fn a_cold_start_resumes_no_session_and_serves_every_client() {
    let directory = directory();
    let session = directory.path().join("session");
    begins(&service("0s"), "-tls1_3", &session);
    let other = service("0s");
    Client::to(&other.host).option("-sess_in", &session).ask("bob\n").shows("New, ").shows("Hello bob!");
}

/// The keys are in memory without a path, and are released as soon as they were read.
#[test]
fn no_descriptor_with_keys_is_left_after_a_restart() {
    let service = service("0s");
    let first = service.host.pid();
    let successor = service.restart();
    service.host.logged(&["handed over"]);
    for pid in [first, successor.pid] {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let mut links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
        assert!(!links.any(|link| link.to_string_lossy().contains("ticket-keys")), "process {pid}");
    }
}
