//! Errors about a file that holds a secret print nothing of the secret: neither a message, nor the
//! log, nor the admin endpoint, in any notation.

mod damage;
mod search;

use crate::{
    certificates::{self, Authority, Identity, trusted},
    harness::{Setup, directory, plugin, shared_cache, wait_for},
    operator::Operated,
};
use damage::damaged;
use nix::sys::signal::Signal;
use search::{Secret, base64, unbase64};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Valid TLS files, one of which a test damages.
struct Files {
    directory: tempfile::TempDir,
    server: (PathBuf, PathBuf),
    authority: PathBuf,
}

const LOADERS: [&str; 3] = ["--tls-certificate", "--tls-key", "--client-ca"];

impl Files {
    fn new(server: &Identity) -> Self {
        let directory = directory();
        let files = server.write(directory.path(), "server");
        let authority =
            certificates::write(&directory.path().join("clients.pem"), &Authority::new("clients").certificate());
        Self { server: files, authority, directory }
    }

    /// The file that an option reads.
    fn of(&self, loader: &str) -> &Path {
        match loader {
            "--tls-certificate" => &self.server.0,
            "--tls-key" => &self.server.1,
            _ => &self.authority,
        }
    }

    fn on(&self, setup: Setup) -> Setup {
        let setup = setup.option("--plugin", plugin("hello")).option("--cache-dir", shared_cache());
        let setup = setup.option("--bind", "tcp://127.0.0.1:0").option("--client-ca", &self.authority);
        setup.option("--tls-certificate", &self.server.0).option("--tls-key", &self.server.1)
    }
}

/// Writes like `certificates::write`, but any bytes.
fn write(path: &Path, bytes: &[u8]) {
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes).unwrap();
    fs::rename(draft, path).unwrap();
}

#[test]
fn check_and_boot_reject_a_damaged_tls_file_without_its_content() {
    let server = trusted().server(&["localhost"]);
    let files = Files::new(&server);
    let secret = Secret::of_pem(&server.key);
    for loader in LOADERS {
        let good = fs::read(files.of(loader)).unwrap();
        for (damage, bytes) in damaged(&server.key) {
            write(files.of(loader), &bytes);
            let (code, out, err) = files.on(Setup::bare().argument("check").option("--log-level", "trace")).run();
            secret.is_not_in(&format!("{loader} {damage}"), &format!("{out}{err}"));
            assert!(code == 2 || loader == "--tls-key", "{loader} {damage}: {err}");
        }
        write(files.of(loader), &good);
    }
    write(&files.server.1, server.key.replace('\n', " ").as_bytes());
    for setup in [Setup::bare(), Setup::bare().option("--log-format", "json")] {
        let (code, out, err) = files.on(setup).run();
        secret.is_not_in("boot", &format!("{out}{err}"));
        assert_eq!(code, 2, "{err}");
        assert!(
            err.contains("--tls-key") && err.contains("line 1") && err.contains("joins all lines with spaces"),
            "{err}"
        );
    }
}

#[test]
fn reload_and_restart_reject_a_damaged_tls_file_without_its_content() {
    let server = trusted().server(&["localhost"]);
    let files = Files::new(&server);
    let secret = Secret::of_pem(&server.key);
    for format in ["text", "json"] {
        let setup = files.on(Setup::bare()).option("--log-level", "trace").option("--log-format", format);
        let Operated { service, operator, .. } = &Operated::start(setup.option("--rollback-window", "0s"));
        let everything = || {
            let pages = ["/status", "/metrics", "/"].map(|path| operator.get(path)).concat();
            let (_, out, err) = operator.run(&["status"]);
            let (_, json, _) = operator.run(&["status", "--json"]);
            format!("{pages}{out}{err}{json}{}", service.host.log())
        };
        for loader in LOADERS {
            let good = fs::read(files.of(loader)).unwrap();
            for (damage, bytes) in damaged(&server.key).into_iter().step_by(if format == "json" { 5 } else { 1 }) {
                write(files.of(loader), &bytes);
                let (_, out, err) = operator.run(&["reload"]);
                secret.is_not_in(&format!("{loader} {damage}: reload"), &format!("{out}{err}"));
            }
            secret.is_not_in(&format!("{loader}: reloads"), &everything());
            write(files.of(loader), server.key.replace('\n', " ").as_bytes());
            service.host.signal(Signal::SIGHUP);
            let failed = |log: &str| log.matches("reload failed").count() + log.matches("restart failed").count();
            let before = failed(&service.host.log());
            let (_, out, err) = operator.run(&["restart"]);
            wait_for("a restart that fails", || (failed(&service.host.log()) > before).then_some(()));
            secret.is_not_in(&format!("{loader}: restart"), &format!("{out}{err}{}", everything()));
            assert!(everything().contains("joins all lines with spaces"), "{}", everything());
            write(files.of(loader), &good);
        }
    }
}

/// The host rejects a file that it would otherwise read only in part, and names the line.
#[test]
fn every_certificate_of_a_file_is_read_or_the_file_is_rejected() {
    let (intermediate, _) = trusted().intermediate("between");
    let server = intermediate.server(&["localhost"]);
    let files = Files::new(&server);
    let intermediate = intermediate.certificate();
    let check = |text: &str| {
        write(&files.server.0, text.as_bytes());
        files.on(Setup::bare().argument("check")).run()
    };
    let (site, lines) = (&server.certificate, server.certificate.lines().count());
    for good in [
        format!("{site}{intermediate}"),
        format!("\u{feff}{site}{intermediate}"),
        format!("{site}\u{feff}{intermediate}"),
        format!("{site}{intermediate}").replace('\n', "\r\n"),
        format!("subject=CN = a\n{site}\n# between ----- two\n{}", intermediate.trim_end()),
        format!("{site}{}{intermediate}", server.key),
    ] {
        let (code, _, err) = check(&good);
        assert_eq!(code, 0, "{good}: {err}");
    }
    let (code, _, err) = check(&format!("{}{intermediate}", site.trim_end()));
    assert_eq!(code, 2, "{err}");
    let told = format!("line {lines}: an END line and a BEGIN line are on one line");
    assert!(err.contains("--tls-certificate") && err.contains(&told), "{err}");
    for (bad, line) in [
        (format!("{site}{}", intermediate.replace("CERTIFICATE", "Certificate")), lines + 1),
        (format!("{site}{}", intermediate.replace("CERTIFICATE", "CERTIFCATE")), lines + 1),
        (
            format!(
                "{site}{}",
                intermediate.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n")
            ),
            lines + 1,
        ),
        (format!("{site} {intermediate}"), lines + 1),
        (format!("{site}{}", intermediate.replace("-----BEGIN", "----BEGIN")), lines + 1),
    ] {
        let (code, _, err) = check(&bad);
        assert!(code == 2 && err.contains(&format!("line {line}: ")), "{bad}: {err}");
    }
}

#[test]
fn a_damaged_guest_secret_is_rejected_without_its_content() {
    let directory = directory();
    let file = directory.path().join("token");
    let text = "hunter2-Zq8vXw4LrT9pKs3mYb6nJd1cGf5hUe7a";
    let secret = Secret::of_text(text);
    let on = |setup: Setup| {
        let setup = setup.option("--plugin", plugin("hello")).option("--cache-dir", shared_cache());
        setup.option("--bind", "tcp://127.0.0.1:0").option("--guest-env", format!("TOKEN=@{}", file.display()))
    };
    fs::write(&file, text).unwrap();
    let Operated { service, operator, .. } = &Operated::start(on(Setup::bare().option("--log-level", "trace")));
    for damage in [
        format!("{text}\0").into_bytes(),
        [text.as_bytes(), b"\xff"].concat(),
        text.repeat(2000).into_bytes(),
        text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        format!("TOKEN={text}\nOTHER={text}\n").into_bytes(),
        Vec::new(),
    ] {
        write(&file, &damage);
        let (_, out, err) = on(Setup::bare().argument("check").option("--log-level", "trace")).run();
        secret.is_not_in("check", &format!("{out}{err}"));
        let (_, out, err) = operator.run(&["reload"]);
        secret.is_not_in("reload", &format!("{out}{err}"));
    }
    let pages = ["/status", "/metrics", "/"].map(|path| operator.get(path)).concat();
    secret.is_not_in("the endpoint and the log", &format!("{pages}{}", service.host.log()));
}

/// A secret in the place of its file's path, a usual mistake with variables of containers.
#[test]
fn content_in_the_place_of_a_path_is_not_repeated() {
    let server = trusted().server(&["localhost"]);
    let files = Files::new(&server);
    let secret = Secret::of_pem(&server.key);
    let key = &server.key;
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let encoded = String::from_utf8(base64(key.as_bytes())).unwrap();
    let base = || Setup::bare().option("--plugin", plugin("hello")).option("--bind", "tcp://127.0.0.1:0");
    let certificate = || base().option("--tls-certificate", &files.server.0);
    let hexadecimal: String = unbase64(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    for content in [key.clone(), key.replace('\n', " "), key.replace('\n', "\\n"), body.clone(), encoded, hexadecimal] {
        let config = files.directory.path().join("host.toml");
        let literal = format!("tls-key = '''{content}'''\ntls-certificate = \"x\"\nplugin = \"x\"\n");
        fs::write(&config, literal).unwrap();
        let unquoted = files.directory.path().join("unquoted.toml");
        fs::write(&unquoted, format!("tls-key = {content}\nguest-env = [TOKEN={content}]\n")).unwrap();
        let multiline = files.directory.path().join("multiline.toml");
        fs::write(&multiline, format!("guest-env = [\"TOKEN={content}\n\"]\n")).unwrap();
        let file = files.directory.path().join("content");
        fs::write(&file, &content).unwrap();
        let printed = || base().argument("check");
        for (what, setup) in [
            ("a command that check prints", printed().argument(format!("--start-command=/bin/true {content}"))),
            ("a variable that check prints", printed().argument(format!("--guest-env=TOKEN={content}"))),
            ("a directory that check prints", printed().environment("XDG_CACHE_HOME", &format!("/x/{content}"))),
            ("a command by a name that check prints", printed().argument(format!("--start-command={content}"))),
            ("a descriptor", base().environment("UNINTERRUPTIBLE_HANDOFF_FD", &content)),
            ("a value", certificate().argument(format!("--tls-key={content}"))),
            ("a word", certificate().argument("--tls-key").argument(&content)),
            ("the word after another", base().argument(&content)),
            ("a variable", certificate().environment("TLS_KEY", &content)),
            ("a certificate", base().environment("TLS_CERTIFICATE", &content).option("--tls-key", &files.server.1)),
            ("only a key", base().environment("TLS_KEY", &content)),
            ("an authority", files.on(Setup::bare()).argument(format!("--client-ca={content}"))),
            ("help", Setup::bare().environment("TLS_KEY", &content).argument("--help")),
            ("a plugin", Setup::bare().argument(format!("--plugin={content}"))),
            ("a plugin's file", Setup::bare().option("--plugin", &file)),
            ("inspect", Setup::bare().argument("inspect").argument(&file)),
            ("a variable of guests", base().argument(format!("--guest-env={content}"))),
            ("its file", base().argument(format!("--guest-env=TOKEN=@{content}"))),
            ("an address", Setup::bare().option("--plugin", plugin("hello")).argument(format!("--bind={content}"))),
            ("an address without its scheme", base().argument(format!("--bind={content}:7000"))),
            ("an interface", base().argument(format!("--bind=tcp://[fe80::1%{content}]:7000"))),
            ("an option of an address", base().argument(format!("--bind=unix:///x?{content}"))),
            ("a network", base().argument(format!("--allow-network=10.0.0.0/8,{content}"))),
            ("a configuration", Setup::bare().option("--config", &file)),
            ("a value in a configuration", Setup::bare().option("--config", &config)),
            ("an unquoted value there", Setup::bare().option("--config", &unquoted)),
            ("a broken list there", Setup::bare().option("--config", &multiline)),
        ] {
            let (code, out, err) = setup.run();
            secret.is_not_in(what, &format!("{out}{err}"));
            assert!(code == 2 || what == "help" || what.ends_with("check prints"), "{what}: {code}: {err}");
        }
    }
}
