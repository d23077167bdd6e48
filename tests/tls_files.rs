//! TLS files: a bad one is an error at boot, and at a reload it changes nothing.

use crate::{
    certificates::{self, Authority, Validity, trusted},
    harness::{Setup, Transport, directory, plugin, wait_for},
    openssl::Client,
    service::Service,
};
use nix::sys::signal::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Runs a host that must not start: code 2, nothing on standard output, one line that has all
/// `needles`.
fn refused(setup: &Setup, needles: &[&str]) {
    let (code, out, err) = setup.run();
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    let complaints: Vec<&str> = err.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(complaints.len(), 1, "one line: {err}");
    for needle in needles {
        assert!(complaints[0].contains(needle), "{needle:?} is not in {err:?}");
    }
}

fn bare() -> Setup {
    Setup::bare().option("--plugin", plugin("hello")).option("--bind", "tcp://127.0.0.1:0")
}

fn with(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Setup {
    bare().option("--tls-certificate", certificate.as_ref()).option("--tls-key", key.as_ref())
}

#[test]
fn conflicting_options_are_rejected() {
    let lone = |option: &str, value: &str| bare().argument(format!("{option}={value}"));
    refused(&lone("--tls-certificate", "a.pem"), &["--tls-certificate \"a.pem\"", "--tls-key is missing"]);
    refused(&lone("--tls-key", "a.key"), &["--tls-key \"a.key\"", "--tls-certificate is missing"]);
    refused(
        &with("a.pem", "a.key").option("--tls-key", "b.key"),
        &["--tls-key \"b.key\"", "--tls-certificate is missing"],
    );
    refused(&lone("--client-ca", "ca.pem"), &["--client-ca is given without --tls-certificate"]);
    refused(&lone("--tls-alpn", "h2"), &["--tls-alpn is given without --tls-certificate"]);
    refused(&lone("--tls-min-version", "1.3"), &["--tls-min-version is given without --tls-certificate"]);
    refused(&bare().argument("--verify-client-certificate"), &["--verify-client-certificate is given without"]);
    refused(
        &with("a.pem", "a.key").argument("--verify-client-certificate"),
        &["needs an authority to trust", "--client-ca"],
    );
    let contradiction = with("a.pem", "a.key").option("--client-ca", "ca.pem");
    refused(
        &contradiction.argument("--verify-client-certificate=false"),
        &["--client-ca \"ca.pem\" asks for verification"],
    );
    refused(&with("a.pem", "a.key").option("--tls-alpn", "h2,h3,h2"), &["--tls-alpn \"h2\"", "twice"]);
}

#[test]
fn malformed_values_are_named_with_a_remedy() {
    for (option, value, remedy) in [
        ("--tls-min-version", "TLSv1_1", "RFC 8996"),
        ("--tls-min-version", "1.4", "not one of 1.2, 1.3"),
        ("--tls-min-version", "", "not one of 1.2, 1.3"),
        ("--tls-alpn", ",", "does not name a protocol"),
        ("--verify-client-certificate", "yes", "not one of true, false"),
        ("--verify-client-certificate", "\"true\"", "not one of true, false"),
        ("--handshake-timeout", "10", "not a time with its unit"),
        ("--handshake-timeout", "none", "not a time with its unit"),
    ] {
        refused(&with("a.pem", "a.key").argument(format!("{option}={value}")), &[option, remedy]);
    }
    for (name, value, needle) in [
        ("TLS_VERSION", "TLSv1", "--tls-min-version \"TLSv1\""),
        ("VERIFY_CLIENT_TLS_CERTIFICATE", "\"true\"", "--verify-client-certificate"),
        ("TLS_CERTIFICATE", ",", "--tls-certificate \",\""),
        ("CLIENT_TLS_CERTIFICATE_CA", "/absent/ca.pem", "without --tls-certificate"),
    ] {
        refused(&bare().environment(name, value), &[needle]);
    }
    refused(&bare().environment("TLS_CERTIFICATE", ""), &["--tls-certificate"]);
}

/// Valid files, and a directory for others.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = directory();
        let (certificate, key) = certificates::localhost().write(directory.path(), "good");
        Self { certificate, key, directory }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        certificates::write(&self.directory.path().join(name), text)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }
}

#[test]
fn a_certificate_that_cannot_be_served_is_an_error_at_boot() {
    let files = Files::new();
    let absent = files.directory.path().join("absent.pem");
    refused(&with(&absent, &files.key), &["--tls-certificate", "absent.pem", "cannot be read", "No such file"]);
    refused(&with(files.directory.path(), &files.key), &["--tls-certificate", "not a regular file"]);
    refused(&with(&files.key, &files.key), &["--tls-certificate", "good.key", "does not contain a certificate"]);
    let good = Files::text(&files.certificate);
    let cut = files.write("cut.pem", &good[..good.len() / 2]);
    refused(&with(cut, &files.key), &["--tls-certificate", "cut.pem", "is damaged"]);
    let second =
        files.write("second.pem", &format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    refused(&with(second, &files.key), &["--tls-certificate", "second.pem", "certificate 2, from line"]);
    let large = files.directory.path().join("large.pem");
    fs::File::create(&large).unwrap().set_len(5 << 20).unwrap();
    refused(&with(large, &files.key), &["--tls-certificate", "large.pem", "is larger than"]);
}

/// The error of a file that is not PEM names its kind and the command that converts it.
#[test]
fn a_file_of_another_kind_is_named_with_the_remedy() {
    let files = Files::new();
    let identity = certificates::localhost();
    let bytes = |name: &str, bytes: &[u8]| {
        let path = files.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let utf16: Vec<u8> =
        format!("\u{feff}{}", identity.certificate).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let labelled = |name: &str, label: &str| files.write(name, &identity.certificate.replace("CERTIFICATE", label));
    for (file, needles) in [
        (bytes("empty.pem", b" \n"), ["is empty", "PEM"]),
        (bytes("utf16.pem", &utf16), ["is UTF-16", "UTF-8"]),
        (bytes("der.pem", &identity.der), ["is DER", "openssl x509 -inform DER -in FILE -out NEW-FILE"]),
        (bytes("container.pem", b"\x30\x82\x00\x05\x02\x01\x03\x30\x00"), ["is DER", "openssl pkcs12 -in FILE"]),
        (bytes("text.pem", b"hello\n"), ["does not contain a certificate", "-----BEGIN CERTIFICATE-----"]),
        (labelled("request.pem", "CERTIFICATE REQUEST"), ["a certificate request in line 1", "an authority signs it"]),
        (labelled("trusted.pem", "TRUSTED CERTIFICATE"), ["a TRUSTED CERTIFICATE in line 1", "openssl x509 -in FILE"]),
        (labelled("bundle.pem", "PKCS7"), ["a PKCS #7 bundle in line 1", "openssl pkcs7 -print_certs"]),
        (files.key.clone(), ["a private key in line 1", "swapped"]),
    ] {
        refused(
            &with(&file, &files.key),
            &[&["--tls-certificate", file.to_str().unwrap()], needles.as_slice()].concat(),
        );
    }
    for (file, needles) in [
        (bytes("der.key", &identity.der), ["is DER", "openssl pkey -inform DER -in FILE -out NEW-FILE"]),
        (labelled("public.key", "PUBLIC KEY"), ["a public key in line 1", "in another file"]),
        (labelled("ssh.key", "OPENSSH PRIVATE KEY"), ["an OpenSSH private key in line 1", "ssh-keygen -p -m PEM"]),
        (labelled("dsa.key", "DSA PRIVATE KEY"), ["a DSA key", "not supported"]),
        (files.certificate.clone(), ["a certificate in line 1", "swapped"]),
    ] {
        refused(
            &with(&files.certificate, &file),
            &[&["--tls-key", file.to_str().unwrap()], needles.as_slice()].concat(),
        );
    }
}

#[test]
fn a_key_that_does_not_match_is_an_error_at_boot() {
    let files = Files::new();
    let (_, other) = trusted().server(&["localhost"]).write(files.directory.path(), "other");
    refused(
        &with(&files.certificate, other),
        &["--tls-key", "other.key", "is not the key of the first certificate", "good.pem"],
    );
    refused(
        &with(&files.certificate, &files.certificate),
        &["--tls-key", "good.pem", "does not contain a private key"],
    );
    let key = Files::text(&files.key);
    let two = files.write("two.key", &format!("{key}{key}"));
    refused(&with(&files.certificate, two), &["--tls-key", "two.key", "2 private keys"]);
    let garbage = files.write("garbage.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    refused(&with(&files.certificate, garbage), &["--tls-key", "garbage.key", "cannot be used"]);
    let encrypted = files
        .write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    refused(&with(&files.certificate, encrypted), &["--tls-key", "encrypted.key", "is encrypted", "openssl pkey"]);
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    refused(&with(&files.certificate, files.write("older.key", older)), &["older.key", "is encrypted"]);
}

#[test]
fn an_authority_that_cannot_be_read_is_an_error_at_boot() {
    let files = Files::new();
    let with_authority = |file: &Path| with(&files.certificate, &files.key).option("--client-ca", file);
    refused(&with_authority(Path::new("/absent/ca.pem")), &["--client-ca \"/absent/ca.pem\"", "No such file"]);
    refused(&with_authority(&files.key), &["--client-ca", "does not contain a certificate"]);
    let garbage = files.write("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    refused(&with_authority(&garbage), &["--client-ca", "ca.pem", "certificate 1, from line"]);
}

#[test]
fn a_reload_shows_the_new_certificate_to_new_connections() {
    let files = Files::new();
    let host = Setup::serving_over(Transport::Tls, "speaks-first");
    let (certificate, key) = trusted().server(&["old.test"]).write(files.directory.path(), "site");
    let host = host.option("--tls-certificate", certificate).option("--tls-key", key).start();
    let shown = || Client::to(&host).option("-servername", "new.test").ask("bob\n");
    shown().shows("CN = localhost");
    let mut old = host.connect();
    assert_eq!(crate::harness::read_line(&mut old), "ready\n");
    trusted().server(&["new.test"]).write(files.directory.path(), "site");
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    shown().shows("CN = new.test").shows("you said: bob");
    std::io::Write::write_all(&mut old, b"still here\n").unwrap();
    assert_eq!(crate::harness::read_to_end(&mut old), b"you said: still here\n");
}

#[test]
fn a_reload_and_a_restart_with_bad_files_change_nothing() {
    let files = Files::new();
    let setup = with(&files.certificate, &files.key).option("--cache-dir", crate::harness::shared_cache());
    let service = Service::start(setup.option("--log-level", "debug").option("--rollback-window", "0s"));
    let answered = || Client::to(&service.host).ask("bob\n").shows("Hello bob!").0.clone();
    let other = trusted().server_with(&["localhost"], &rcgen::PKCS_ED25519, Validity::Now);
    let good = Files::text(&files.key);
    let bad = [(other.key.as_str(), "is not the key"), ("garbage", "not contain a private key")];
    for (failures, (key, reason)) in bad.into_iter().enumerate() {
        certificates::write(&files.key, key);
        service.host.signal(Signal::SIGHUP);
        wait_for("a reload that fails", || {
            (service.host.log().matches("reload failed").count() > failures).then_some(())
        });
        service.host.logged(&["reload failed", "--tls-key", "good.key", reason]);
        let record = service.restart_that_fails();
        assert!(record.contains(reason) && record.contains("--tls-key"), "{record}");
        answered();
    }
    certificates::write(&files.key, &good);
    service.restart();
    answered();
}

/// The log at any level, and the output of `--help`, contain no part of any key.
#[test]
fn no_key_reaches_the_log() {
    let files = Files::new();
    let setup = with(&files.certificate, &files.key).option("--log-level", "trace");
    let authority = files.write("ca.pem", &Authority::new("clients").certificate());
    let host = setup.option("--client-ca", authority).start();
    Client::to(&host).ask("bob\n").lacks("Hello");
    let (key, log) = (Files::text(&files.key), host.whole_log());
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!log.contains(line));
    }
}
