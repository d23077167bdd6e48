//! Whatever is wrong with a file that holds a secret, nothing of the secret is printed: not in a message, not in the log, not at the
//! admin endpoint, in no notation. The files are damaged in every way that people and machines have found so far.

use crate::{
    certificates::{self, Authority, Identity, trusted},
    harness::{Setup, directory, plugin, shared_cache, wait_for},
    operator::Operated,
};
use nix::sys::signal::Signal;
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// So many bytes in a row are not in an output by chance.
const WINDOW: usize = 5;

/// What must not be printed.
struct Secret {
    /// As it stands in its file, and what its base64 is for.
    bytes: Vec<Vec<u8>>,
    windows: HashSet<[u8; WINDOW]>,
}

impl Secret {
    /// A key or certificate in PEM.
    fn of_pem(pem: &str) -> Self {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = unbase64(&body);
        Self::of(vec![body.into_bytes(), der])
    }

    fn of_text(text: &str) -> Self {
        Self::of(vec![text.as_bytes().to_vec()])
    }

    fn of(bytes: Vec<Vec<u8>>) -> Self {
        let windows = bytes.iter().flat_map(|bytes| bytes.windows(WINDOW)).map(|window| window.try_into().unwrap());
        Self { windows: windows.collect(), bytes }
    }

    /// In which notation an output has a part of it.
    fn found_in(&self, output: &str) -> Option<String> {
        let text = |bytes: &[u8], length: usize| {
            let pieces = bytes.windows(length).map(String::from_utf8_lossy).map(|piece| piece.into_owned());
            pieces.into_iter().find(|piece| output.contains(piece)).map(|piece| format!("{piece:?} as text"))
        };
        if let Some(found) = text(&self.bytes[0], 8) {
            return Some(found);
        }
        // Base64 of it begins at one of three places.
        for (bytes, skipped) in self.bytes.iter().flat_map(|bytes| [(bytes, 0), (bytes, 1), (bytes, 2)]) {
            if let Some(found) = text(&base64(&bytes[skipped..]), 12) {
                return Some(format!("{found} in base64"));
            }
        }
        let tokens: Vec<&str> = output.split(|character: char| !character.is_ascii_alphanumeric()).collect();
        let tokens: Vec<&str> = tokens.into_iter().filter(|token| !token.is_empty()).collect();
        let decimal = |token: &&str| token.parse().ok();
        let hexadecimal =
            |token: &&str| u8::from_str_radix(token.trim_start_matches("0x").trim_start_matches('x'), 16).ok();
        for (notation, read) in [("decimal", &decimal as &dyn Fn(&&str) -> Option<u8>), ("hexadecimal", &hexadecimal)] {
            for run in tokens.windows(WINDOW) {
                let bytes: Option<Vec<u8>> = run.iter().map(read).collect();
                if bytes.is_some_and(|bytes| self.windows.contains(bytes.as_slice())) {
                    return Some(format!("{run:?} as {notation} numbers"));
                }
            }
        }
        for run in output.split(|character: char| !character.is_ascii_hexdigit()).filter(|run| run.len() >= 2 * WINDOW)
        {
            for digits in run.as_bytes().windows(2 * WINDOW) {
                let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
                let bytes: Vec<u8> = digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
                if self.windows.contains(bytes.as_slice()) {
                    return Some(format!("{run:?} as hexadecimal digits"));
                }
            }
        }
        None
    }

    fn is_not_in(&self, what: &str, output: &str) {
        if let Some(found) = self.found_in(output) {
            panic!("{what}: {found} in\n{output}");
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn unbase64(text: &str) -> Vec<u8> {
    let bits: Vec<usize> =
        text.bytes().filter_map(|byte| ALPHABET.iter().position(|&character| character == byte)).collect();
    bits.chunks_exact(4)
        .flat_map(|group| {
            let number = group.iter().fold(0, |number, &bits| number << 6 | bits);
            [(number >> 16) as u8, (number >> 8) as u8, number as u8]
        })
        .collect()
}

/// Of what fills groups of three bytes.
fn base64(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks_exact(3)
        .flat_map(|group| {
            let number = group.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
            [18, 12, 6, 0].map(|shift| ALPHABET[number >> shift & 63])
        })
        .collect()
}

#[test]
fn a_secret_is_found_in_every_notation() {
    let key = &trusted().client("somebody").key;
    let secret = Secret::of_pem(key);
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let der = unbase64(&body);
    let (piece, part) = (&body.as_bytes()[30..50], &der[30..50]);
    let joined = |bytes: &[u8], format: fn(&u8) -> String, between: &str| {
        format!("an error: [{}]", bytes.iter().map(format).collect::<Vec<_>>().join(between))
    };
    for leak in [
        body[30..45].to_owned(),
        format!("{piece:?}"),
        format!("{part:?}"),
        joined(part, |byte| format!("{byte:02x}"), ""),
        joined(part, |byte| format!("{byte:02X}"), ":"),
        joined(piece, |byte| format!("\\x{byte:02x}"), ""),
        joined(piece, |byte| format!("{byte:#x}"), " "),
        String::from_utf8(base64(body.as_bytes())).unwrap(),
        String::from_utf8(base64(&body.as_bytes()[2..])).unwrap(),
    ] {
        assert!(secret.found_in(&leak).is_some(), "{leak}");
    }
    assert_eq!(secret.found_in("127.0.0.1:7000 at 2026-11-30T16:06:59.123456Z, 5 of 10, 20 and 30 0x40"), None);
}

/// The ways in which a file of PEM comes to harm, each with its name.
fn damaged(pem: &str) -> Vec<(String, Vec<u8>)> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let first = pem.lines().next().unwrap();
    let label = first.trim_start_matches("-----BEGIN ").trim_end_matches("-----");
    let utf16: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut texts: Vec<(&str, String)> = vec![
        ("joined by spaces", pem.replace('\n', " ")),
        ("joined", pem.replace('\n', "")),
        ("joined by two characters", pem.replace('\n', "\\n")),
        ("joined by carriage returns", pem.replace('\n', "\r")),
        ("in quotes", format!("\"{pem}\"")),
        ("in quotes, joined", format!("'{}'", pem.replace('\n', " "))),
        ("with a name", format!("KEY={pem}")),
        ("indented", pem.lines().map(|line| format!("    {line}\n")).collect()),
        (
            "body joined by spaces",
            format!("{first}\n{}\n-----END {label}-----\n", body.split_at(64).0.to_owned() + " " + &body[64..]),
        ),
        ("cut in the body", pem[..pem.len() / 2].to_owned()),
        ("cut in the END line", pem[..pem.len() - 8].to_owned()),
        ("cut before it", pem[..pem.rfind("-----END").unwrap()].to_owned()),
        ("without BEGIN", pem.split_once('\n').unwrap().1.to_owned()),
        ("without both", body.clone()),
        (
            "without both, wrapped",
            pem.lines().filter(|line| !line.starts_with('-')).map(|line| format!("{line}\n")).collect(),
        ),
        ("one character less", pem.replace(&body[40..41], "")),
        ("one character more", pem.replacen(&body[40..50], &format!("{}A", &body[40..50]), 1)),
        ("a star", pem.replacen(&body[40..44], "****", 1)),
        ("a zero byte", pem.replacen(&body[40..44], "\0", 1)),
        ("not ASCII", pem.replacen(&body[40..44], "éàü", 1)),
        ("a mark in the middle", format!("{pem}\u{feff}{pem}")),
        ("twice without a line break", pem.trim_end().repeat(2)),
        ("twice", pem.repeat(2)),
        ("another END", pem.replace("-----END ", "-----END X")),
        ("content in the label", format!("-----BEGIN {}-----\n{body}\n-----END X-----\n", &body[..40])),
        (
            "content as the only label",
            format!("-----BEGIN {0}-----\n{1}\n-----END {0}-----\n", &body[..40], &body[40..]),
        ),
        ("content in the END line", pem.replace(&format!("END {label}"), &format!("END {}", &body[..40]))),
        ("content behind END", format!("{}{body}\n", pem.trim_end())),
        ("content before BEGIN", format!("{body}{pem}")),
        ("a header", pem.replacen('\n', &format!("\nX-Key: {body}\n"), 1)),
        ("encrypted, says a header", pem.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1)),
        ("four dashes", pem.replace("-----", "----")),
        ("small letters", pem.to_lowercase()),
        ("backwards", body.chars().rev().collect()),
    ];
    for other in [
        "CERTIFICATE",
        "TRUSTED CERTIFICATE",
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "DSA PRIVATE KEY",
        "PUBLIC KEY",
        "CERTIFICATE REQUEST",
        "PKCS7",
        "X509 CRL",
        "SECRET",
    ] {
        texts.push(("another label", pem.replace(label, other)));
    }
    let mut all: Vec<(String, Vec<u8>)> =
        texts.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect();
    all.push(("in UTF-16".into(), [b"\xff\xfe".as_slice(), &utf16].concat()));
    all.push(("in DER".into(), unbase64(&body)));
    all.push(("half of DER".into(), unbase64(&body[..body.len() / 2])));
    // A bit flipped here and there: still PEM, and something else within.
    for place in (0..body.len()).step_by(body.len() / 12) {
        let other = if body.as_bytes()[place] == b'A' { "B" } else { "A" };
        let flipped = format!("{}{other}{}", &body[..place], &body[place + 1..]);
        all.push((
            format!("another character {place}"),
            format!("{first}\n{flipped}\n-----END {label}-----\n").into_bytes(),
        ));
    }
    all
}

/// Good files of TLS, and the one that is damaged.
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

    /// What a file is read by.
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

/// Writes as `certificates::write`, whatever the bytes are.
fn write(path: &Path, bytes: &[u8]) {
    let draft = path.with_extension("draft");
    fs::write(&draft, bytes).unwrap();
    fs::rename(draft, path).unwrap();
}

#[test]
fn a_damaged_file_of_tls_is_refused_by_check_and_boot_without_its_content() {
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
fn a_damaged_file_of_tls_is_refused_by_reload_and_restart_without_its_content() {
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

/// A file that would be skipped in part is refused instead, and the line is named.
#[test]
fn no_certificate_is_left_out_silently() {
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
fn a_damaged_secret_of_guests_is_refused_without_its_content() {
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

/// A secret where its file belongs, which is what happens to variables of containers.
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
