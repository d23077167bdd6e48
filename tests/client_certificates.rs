//! Client certificates as people make them with openssl, each wrong in another way. The log tells
//! the operator the reason and the remedy.

use crate::{
    boot::refused,
    certificates::{self, trusted},
    harness::{Host, Setup, Transport, directory, plugin, shared_cache, wait_for},
    openssl::Client,
    operator::Operated,
};
use nix::sys::signal::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A directory in which openssl works.
struct Workshop(tempfile::TempDir);

impl Workshop {
    /// A workshop with an authority, `ca`, that has every extension that an authority should have.
    fn new() -> Self {
        let workshop = Self(directory());
        workshop.authority("ca", "/CN=clients", &["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pem(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.pem"))
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `NAME.key` of the usual kind; an existing key is kept.
    fn key(&self, name: &str) {
        if !self.path(&format!("{name}.key")).exists() {
            self.key_of(name, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        }
    }

    fn key_of(&self, name: &str, kind: &[&str]) {
        self.openssl(&[&["genpkey", "-out", &format!("{name}.key")], kind].concat());
    }

    /// A self-signed certificate, made by the most usual command.
    fn authority(&self, name: &str, subject: &str, more: &[&str]) {
        self.key(name);
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let arguments = ["req", "-x509", "-new", "-key", &key, "-out", &pem, "-subj", subject, "-days", "30"];
        self.openssl(&[&arguments, more].concat());
    }

    fn request(&self, name: &str) -> String {
        self.key(name);
        let request = format!("{name}.csr");
        let subject = format!("/CN={name}");
        self.openssl(&["req", "-new", "-key", &format!("{name}.key"), "-out", &request, "-subj", &subject]);
        request
    }

    /// A certificate for `name`, issued by `issuer`, with these lines in its file of extensions.
    /// Without lines it has no extensions.
    fn issue(&self, name: &str, issuer: &str, extensions: &str, more: &[&str]) {
        let request = self.request(name);
        let (ca, key, pem) = (format!("{issuer}.pem"), format!("{issuer}.key"), format!("{name}.pem"));
        let file = format!("{name}.ext");
        fs::write(self.path(&file), extensions).unwrap();
        let mut arguments =
            vec!["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &key, "-CAcreateserial", "-out", &pem];
        if !extensions.is_empty() {
            arguments.extend(["-extfile", &file]);
        }
        self.openssl(&[arguments.as_slice(), &["-days", "30"], more].concat());
    }

    /// A certificate with dates of its own, made by `openssl ca`.
    fn dated(&self, name: &str, from: &str, to: &str) {
        let request = self.request(name);
        fs::write(
            self.path("ca.cnf"),
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nrand_serial = yes\nnew_certs_dir = .\npolicy = any\ndefault_md = sha256\n\
             unique_subject = no\n[any]\ncommonName = supplied\n",
        )
        .unwrap();
        fs::write(self.path("index"), "").unwrap();
        fs::write(self.path("dated.ext"), CLIENT).unwrap();
        let pem = format!("{name}.pem");
        self.openssl(&[
            "ca",
            "-batch",
            "-config",
            "ca.cnf",
            "-cert",
            "ca.pem",
            "-keyfile",
            "ca.key",
            "-in",
            &request,
            "-out",
            &pem,
            "-notext",
            "-extfile",
            "dated.ext",
            "-startdate",
            from,
            "-enddate",
            to,
        ]);
    }

    /// A host at the default log level that asks clients for certificates of `authority`.
    fn serve(&self, authority: &str) -> Host {
        self.setup(authority).start()
    }

    fn setup(&self, authority: &str) -> Setup {
        self.onto(Setup::bare(), authority)
    }

    fn onto(&self, setup: Setup, authority: &str) -> Setup {
        let (certificate, key) = trusted().server(&["localhost"]).write(self.0.path(), "server");
        setup
            .option("--plugin", plugin("hello"))
            .option("--cache-dir", shared_cache())
            .option("--bind", "tcp://127.0.0.1:0")
            .option("--tls-certificate", certificate)
            .option("--tls-key", key)
            .option("--client-ca", self.pem(authority))
    }

    fn client(&self, host: &Host, name: &str) -> Client {
        let client = Client::to(host).option("-cert", self.pem(name)).option("-key", self.path(&format!("{name}.key")));
        client.option("-cipher", "DEFAULT@SECLEVEL=0")
    }
}

const CLIENT: &str = "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n";
const AUTHORITY: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";

/// The record of a client that was rejected.
fn rejected(host: &Host, needles: &[&str]) {
    host.logged(&[&["WARN", "connection failed", "reason=client-certificate"], needles].concat());
}

#[test]
fn each_kind_of_bad_certificate_has_a_record_at_the_default_level_with_the_remedy() {
    let shop = Workshop::new();
    let host = shop.serve("ca");
    shop.issue("alice", "ca", CLIENT, &[]);
    shop.client(&host, "alice").ask("bob\n").shows("Hello bob!");

    shop.issue("old", "ca", "", &[]);
    shop.dated("expired", "20000101000000Z", "20010101000000Z");
    shop.dated("early", "20990101000000Z", "20991231000000Z");
    shop.issue("backwards", "ca", CLIENT, &["-days", "-1"]);
    shop.authority("stranger", "/CN=strangers", &[]);
    shop.issue("foreign", "stranger", CLIENT, &[]);
    shop.authority("selfmade", "/CN=selfmade", &["-addext", "basicConstraints=critical,CA:FALSE"]);
    shop.authority("usual", "/CN=usual", &[]);
    shop.issue("server-only", "ca", "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n", &[]);
    shop.issue("signer", "ca", "basicConstraints=CA:FALSE\nextendedKeyUsage=codeSigning,1.2.3.4\n", &[]);
    shop.issue("weak-hash", "ca", CLIENT, &["-sha1"]);
    shop.issue("weaker-hash", "ca", CLIENT, &["-sha224"]);
    shop.authority("namesake", "/CN=clients", &[]);
    shop.issue("impostor", "namesake", CLIENT, &[]);
    shop.key_of("short", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    shop.issue("short", "ca", CLIENT, &[]);
    shop.issue("critical", "ca", &format!("{CLIENT}1.2.3.4=critical,ASN1:UTF8String:x\n"), &[]);
    shop.issue("authority", "ca", AUTHORITY, &[]);
    shop.key_of("koblitz", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]);
    shop.issue("koblitz", "ca", CLIENT, &[]);
    shop.key_of("restricted", &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"]);
    shop.issue("restricted", "ca", CLIENT, &[]);

    for (name, needles) in [
        ("old", vec!["CN = old", "is of version 1", "openssl x509 -req", "-extfile"]),
        ("expired", vec!["CN = expired", "expired on 2001-01-01 00:00:00 UTC", "issue a new one"]),
        ("early", vec!["CN = early", "is not valid before 2099-01-01 00:00:00 UTC", "clocks"]),
        ("backwards", vec!["CN = backwards", "expired on", "before it begins"]),
        ("foreign", vec!["CN = foreign", "issued by", "CN = strangers", "not in --client-ca"]),
        ("selfmade", vec!["CN = selfmade", "is self-signed", "openssl x509 -req"]),
        ("usual", vec!["CN = usual", "is an authority's", "openssl req -x509", "basicConstraints=CA:FALSE"]),
        ("ca", vec!["CN = clients", "is the authority in --client-ca itself", "basicConstraints=CA:FALSE"]),
        ("server-only", vec!["CN = server-only", "extendedKeyUsage serverAuth", "need clientAuth"]),
        ("signer", vec!["CN = signer", "extendedKeyUsage codeSigning, 1.2.3.4", "need clientAuth"]),
        ("weak-hash", vec!["CN = weak-hash", "is signed with SHA-1", "-sha256"]),
        ("weaker-hash", vec!["CN = weaker-hash", "is signed with", "-sha256"]),
        ("impostor", vec!["CN = impostor", "is not signed by the key of", "CN = clients", "again"]),
        ("short", vec!["CN = short", "RSA key of 1024 bits", "below 2048"]),
        ("critical", vec!["CN = critical", "marked critical", "without"]),
        ("authority", vec!["CN = authority", "is an authority's", "cannot be a client"]),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            shop.client(&host, name).flag(version).ask("bob\n").lacks("Hello");
        }
        rejected(&host, &needles);
    }
    for name in ["koblitz", "restricted"] {
        let before = host.log().matches("reason=client-certificate").count();
        shop.client(&host, name).ask("bob\n").lacks("Hello");
        wait_for(name, || (host.log().matches("reason=client-certificate").count() > before).then_some(()));
    }
    Client::to(&host).ask("bob\n").lacks("Hello");
    rejected(&host, &["showed no certificate", "--client-ca asks for one"]);
}

#[test]
fn a_fault_above_the_clients_own_certificate_names_the_certificate_at_fault() {
    let shop = Workshop::new();
    let host = shop.serve("ca");
    let chained = |name: &str, intermediate: &str| {
        let client = shop.client(&host, name).option("-cert_chain", shop.pem(intermediate));
        client.flag("-tls1_3").ask("bob\n")
    };
    shop.issue("good", "ca", AUTHORITY, &[]);
    shop.issue("alice", "good", CLIENT, &[]);
    chained("alice", "good").shows("Hello bob!");
    shop.client(&host, "alice").ask("bob\n").lacks("Hello");
    rejected(&host, &["CN = alice", "issued by", "CN = good", "have the client send the intermediate"]);

    shop.issue("leaf", "ca", CLIENT, &[]);
    shop.issue("of-leaf", "leaf", CLIENT, &[]);
    shop.issue("first", "ca", "", &[]);
    shop.issue("of-first", "first", CLIENT, &[]);
    shop.issue("near", "ca", "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign\n", &[]);
    shop.issue("far", "near", AUTHORITY, &[]);
    shop.issue("of-far", "far", CLIENT, &[]);
    shop.issue("narrow", "ca", &format!("{AUTHORITY}nameConstraints=critical,permitted;DNS:example.org\n"), &[]);
    shop.issue("outside", "narrow", &format!("{CLIENT}subjectAltName=DNS:example.net\n"), &[]);
    shop.issue("servers", "ca", &format!("{AUTHORITY}extendedKeyUsage=serverAuth\n"), &[]);
    shop.issue("of-servers", "servers", CLIENT, &[]);
    shop.authority("root", "/CN=elsewhere", &[]);
    shop.issue("between", "root", AUTHORITY, &[]);
    shop.issue("distant", "between", CLIENT, &[]);
    let both = [shop.pem("far"), shop.pem("near")].map(|file| fs::read_to_string(file).unwrap()).concat();
    fs::write(shop.pem("far-and-near"), both).unwrap();

    for (name, intermediate, needles) in [
        ("of-leaf", "leaf", vec!["intermediate certificate", "CN = leaf", "is not an authority's", "CA:TRUE"]),
        ("of-first", "first", vec!["intermediate certificate", "CN = first", "version 1", "CA:TRUE"]),
        ("of-far", "far-and-near", vec!["CN = of-far", "pathlen"]),
        ("outside", "narrow", vec!["CN = outside", "nameConstraints"]),
        ("of-servers", "servers", vec!["intermediate certificate", "CN = servers", "extendedKeyUsage serverAuth"]),
        ("distant", "between", vec!["CN = distant", "CN = elsewhere", "by way of intermediate certificates"]),
    ] {
        chained(name, intermediate).lacks("Hello");
        rejected(&host, &needles);
    }
}

/// The reason has a total of its own, which a restart hands over.
#[test]
fn rejected_clients_are_counted_with_a_reason_of_their_own() {
    let shop = Workshop::new();
    shop.issue("old", "ca", "", &[]);
    let setup = shop.setup("ca").option("--rollback-window", "0s").option("--log-level", "debug");
    let Operated { service, operator, .. } = &Operated::start(setup);
    let counted = |count: u32| {
        let total =
            |reason| operator.metric(&format!("uninterruptible_connections_failed_total{{reason=\"{reason}\"}}"));
        wait_for("the client to be counted", || (total("client-certificate") == f64::from(count)).then_some(()));
        assert_eq!(total("peer-reset"), 0.0);
    };
    shop.client(&service.host, "old").ask("bob\n").lacks("Hello");
    Client::to(&service.host).ask("bob\n").lacks("Hello");
    counted(2);
    service.restart();
    Client::to(&service.host).ask("bob\n").lacks("Hello");
    counted(3);
}

/// Strangers connect as often as they like: the log has some of their records, the metrics count
/// all.
#[test]
fn a_crowd_of_strangers_does_not_flood_the_log() {
    const STRANGERS: u32 = 400;
    let shop = Workshop::new();
    let setup = Setup::serving_over(Transport::Tls, "hello").option("--client-ca", shop.pem("ca"));
    let Operated { service, operator, .. } = &Operated::start(setup);
    for _ in 0..STRANGERS {
        drop(service.host.connect());
    }
    let total = || operator.metric("uninterruptible_connections_failed_total{reason=\"client-certificate\"}");
    wait_for("all of them to be counted", || (total() == f64::from(STRANGERS)).then_some(()));
    let told = service.host.log().lines().filter(|line| line.contains("WARN connection failed")).count();
    // A burst of 100, and one a second after that.
    assert!((100..300).contains(&told), "{told} records");
}

#[test]
fn the_reason_is_a_field_of_json_records_too() {
    let shop = Workshop::new();
    shop.issue("old", "ca", "", &[]);
    let host = shop.setup("ca").option("--log-format", "json").start();
    shop.client(&host, "old").ask("bob\n").lacks("Hello");
    let line = host.logged(&["\"reason\":\"client-certificate\""]);
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&record["level"], &record["reason"]), (&"WARN".into(), &"client-certificate".into()), "{line}");
    assert!(line.contains("CN = old") && line.contains("version 1"), "{line}");
}

/// `check`, boot and reload warn of authorities whose clients would be rejected.
#[test]
fn an_authority_that_cannot_work_causes_a_warning() {
    let shop = Workshop::new();
    let check = |authority: &str| {
        let (code, _, err) = shop.onto(Setup::bare().argument("check"), authority).run();
        assert_eq!(code, 0, "{err}");
        err
    };
    assert!(!check("ca").contains("client CA"), "a good one");
    let files = [("expired", "expired on 2001-01-01 00:00:00 UTC"), ("early", "is not valid before 2099-01-01")];
    shop.dated("expired", "20000101000000Z", "20010101000000Z");
    shop.dated("early", "20990101000000Z", "20991231000000Z");
    shop.issue("first", "ca", "", &[]);
    shop.issue("leaf", "ca", CLIENT, &[]);
    shop.issue("mute", "ca", "basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature\n", &[]);
    shop.authority("usual", "/CN=usual", &[]);
    shop.key_of("short", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    shop.authority("short", "/CN=short", &["-addext", "keyUsage=keyCertSign"]);
    let others = [
        ("first", "is of version 1"),
        ("leaf", "is not an authority's"),
        ("mute", "lacks keyCertSign"),
        ("usual", "a client that shows this same certificate is rejected"),
        ("short", "RSA key of 1024 bits"),
    ];
    for (name, needle) in files.into_iter().chain(others) {
        let said = check(name);
        let line = said
            .lines()
            .find(|line| line.contains("WARN") && line.contains("client CA looks wrong"))
            .unwrap_or_default();
        assert!(line.contains(needle) && line.contains(&format!("{name}.pem")), "{name}: {said}");
    }

    let weak = shop.serve("short");
    shop.issue("of-short", "short", CLIENT, &[]);
    shop.client(&weak, "of-short").ask("bob\n").lacks("Hello");
    rejected(&weak, &["CN = of-short", "was issued by", "CN = short", "RSA key has 1024 bits"]);

    let host = shop.serve("usual");
    host.logged(&["WARN", "client CA looks wrong", "CN = usual"]);
    shop.issue("of-expired", "expired", CLIENT, &[]);
    shop.client(&host, "usual").ask("bob\n").lacks("Hello");
    rejected(&host, &["CN = usual", "is the authority in --client-ca itself"]);
    fs::copy(shop.pem("expired"), shop.pem("usual")).unwrap();
    host.signal(Signal::SIGHUP);
    host.logged(&["WARN", "client CA looks wrong", "expired on 2001-01-01"]);
    host.logged(&["reloaded"]);
    // As the warning suggests.
    shop.client(&host, "of-expired").ask("bob\n").shows("Hello bob!");
}

/// A version 1 certificate of the server itself.
#[test]
fn a_server_certificate_of_version_1_is_rejected_with_the_remedy() {
    let shop = Workshop::new();
    shop.issue("site", "ca", "", &[]);
    let setup = Setup::bare().option("--plugin", plugin("hello")).option("--tls-certificate", shop.pem("site"));
    let needles = ["--tls-certificate", "site.pem", "line 1", "version 1", "-extfile"];
    refused(&setup.option("--tls-key", shop.path("site.key")), &needles);
}

/// At boot the error names the kind of a rejected key.
#[test]
fn a_key_that_cannot_be_used_is_named() {
    let shop = Workshop::new();
    let (certificate, _) = certificates::localhost().write(Path::new(shop.0.path()), "good");
    for (name, kind, needles) in [
        ("rsa", ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"].as_slice(), ["RSA key of 1024 bits", "2048"]),
        ("koblitz", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], ["secp256k1", "P-256"]),
        ("ed448", &["-algorithm", "ED448"], ["an Ed448 key", "Ed25519"]),
        ("x25519", &["-algorithm", "X25519"], ["an X25519 key", "cannot sign"]),
        ("pss", &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], ["RSA-PSS", "not supported"]),
    ] {
        shop.key_of(name, kind);
        let key = format!("{name}.key");
        let setup = Setup::bare().option("--plugin", plugin("hello")).option("--tls-certificate", &certificate);
        refused(
            &setup.option("--tls-key", shop.path(&key)),
            &[&["--tls-key", key.as_str()], needles.as_slice()].concat(),
        );
    }
}
