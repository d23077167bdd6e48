//! Listeners that require client certificates.

use crate::{
    certificates::{self, Authority, Identity, Validity},
    harness::{Host, Setup, Transport, directory, wait_for},
    openssl::Client,
};
use nix::sys::signal::Signal;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A host that trusts one authority for its clients.
struct Guarded {
    authority: Authority,
    file: PathBuf,
    host: Host,
    directory: tempfile::TempDir,
}

impl Guarded {
    fn serving(name: &str) -> Self {
        let (authority, directory) = (Authority::new("clients"), directory());
        let file = certificates::write(&directory.path().join("clients.pem"), &authority.certificate());
        let host = Setup::serving_over(Transport::Tls, name).option("--client-ca", &file).start();
        Self { authority, file, host, directory }
    }

    fn client(&self, identity: &Identity) -> Client {
        with_certificate(&self.host, self.directory.path(), identity)
    }
}

fn with_certificate(host: &Host, directory: &Path, identity: &Identity) -> Client {
    let (certificate, key) = identity.write(directory, "client");
    Client::to(host).option("-cert", certificate).option("-key", key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_client_with_a_certificate_is_served_and_the_guest_sees_it() {
    let guarded = Guarded::serving("facts");
    let identity = guarded.authority.client("alice");
    for version in ["-tls1_2", "-tls1_3"] {
        let said = guarded.client(&identity).flag(version).ask("");
        said.shows(&format!("tls-peer-certificates={}\n", hex(&identity.der)));
    }
}

#[test]
fn the_guest_sees_the_verified_chain_only() {
    let guarded = Guarded::serving("facts-async");
    let (intermediate, certificate) = guarded.authority.intermediate("between");
    let identity = intermediate.client("alice");
    let unrelated = Authority::new("unrelated").certificate();
    let chain = certificates::write(&guarded.directory.path().join("chain.pem"), &format!("{unrelated}{certificate}"));
    let said = guarded.client(&identity).option("-cert_chain", chain).ask("");
    said.shows(&format!("tls-peer-certificates={},{}\n", hex(&identity.der), hex(&intermediate.der())));
}

/// In TLS 1.3 the client completes the handshake before the server has checked it, so the test
/// looks for an answer.
#[test]
fn a_client_without_a_valid_certificate_gets_an_alert_and_no_guest() {
    let guarded = Guarded::serving("hello");
    let stranger = Authority::new("strangers").client("mallory");
    let expired = guarded.authority.client_with("late", Validity::Past);
    let server = guarded.authority.server(&["alice"]);
    let refused = |client: Client, alert: &str| {
        for version in ["-tls1_2", "-tls1_3"] {
            client.clone().flag(version).ask("bob\n").shows(alert).lacks("Hello");
        }
    };
    refused(Client::to(&guarded.host), "alert certificate required");
    refused(guarded.client(&stranger), "alert unknown ca");
    refused(guarded.client(&expired), "alert certificate expired");
    // A certificate that was issued for servers.
    refused(guarded.client(&server), "alert");
    for needle in ["showed no certificate", "CN = strangers", "expired on 2001-01-01", "need clientAuth"] {
        guarded.host.logged(&["WARN", "reason=client-certificate", needle]);
    }
    let log = guarded.host.whole_log();
    for needle in ["ERROR", "connection finished", "peer-reset"] {
        assert!(!log.contains(needle), "{log}");
    }
}

/// A ticket carries the certificate of its session. It must not admit a client that a new authority
/// did not issue.
#[test]
fn a_ticket_does_not_outlive_its_clients_authority() {
    for version in ["-tls1_2", "-tls1_3"] {
        let guarded = Guarded::serving("facts");
        let identity = guarded.authority.client("alice");
        let session = guarded.directory.path().join("session");
        let first = guarded.client(&identity).flag(version).option("-sess_out", &session).ask("");
        first.shows("New, ").shows(&hex(&identity.der));
        let resume = || Client::to(&guarded.host).flag(version).option("-sess_in", &session);
        // Without its certificate file: the ticket has it.
        resume().ask("").shows("Reused, ").shows(&format!("tls-peer-certificates={}\n", hex(&identity.der)));

        let other = Authority::new("others");
        certificates::write(&guarded.file, &other.certificate());
        guarded.host.signal(Signal::SIGHUP);
        guarded.host.logged(&["reloaded"]);
        resume().ask("").lacks("Reused, ").lacks("tls-version");
        let known = other.client("bob");
        with_certificate(&guarded.host, guarded.directory.path(), &known).flag(version).ask("").shows(&hex(&known.der));
    }
}

/// The TLS library trusts the certificate in a ticket; the host checks its dates again.
#[test]
fn a_ticket_does_not_outlive_the_certificate_in_it() {
    let guarded = Guarded::serving("hello");
    let session = guarded.directory.path().join("session");
    let lifetime = Duration::from_secs(5);
    let began = Instant::now();
    let identity = guarded.authority.client_with("alice", Validity::For(lifetime));
    guarded.client(&identity).option("-sess_out", &session).ask("bob\n").shows("Hello bob!");
    let resume = || Client::to(&guarded.host).option("-sess_in", &session).ask("bob\n");
    // Its last second still counts.
    wait_for("the end of the certificate", || (began.elapsed() > lifetime + Duration::from_secs(1)).then_some(()));
    resume().lacks("Hello");
    guarded.host.logged(&["WARN", "reason=client-certificate", "session ticket", "CN = alice", "expired on"]);
}

/// A session that began without a certificate must not resume on a listener that requires one, even
/// with the same keys.
#[test]
fn a_ticket_issued_without_a_client_certificate_admits_no_client() {
    let directory = directory();
    let session = directory.path().join("session");
    let open = Setup::serving_over(Transport::Tls, "hello").option("--rollback-window", "0s");
    let authority =
        certificates::write(&directory.path().join("clients.pem"), &Authority::new("clients").certificate());
    let command = open.command_line(&["--client-ca", authority.to_str().unwrap()]);
    let service = crate::service::Service::start(open.option("--start-command", command));
    Client::to(&service.host).option("-sess_out", &session).ask("bob\n").shows("Hello bob!");
    Client::to(&service.host).option("-sess_in", &session).ask("bob\n").shows("Reused, ").shows("Hello bob!");
    service.restart();
    let said = Client::to(&service.host).option("-sess_in", &session).ask("bob\n");
    said.lacks("Reused, ").shows("alert certificate required").lacks("Hello");
}
