//! Invariants of ARCHITECTURE.md that no other test file covers.

use crate::{
    certificates,
    connections::Transport,
    harness::{Host, Load, Setup, connect, directory, plugin, read_to_end, root, shared_cache, unix_uri, wait_for},
    operator::{Operated, Operator},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Every file of the host, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join("host/src")];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root().join("host/src")).unwrap().to_owned(), text));
            }
        }
    }
    found
}

/// The lines that are code, up to their comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// Invariant 1. The address is in use too: the plugin and the certificate are checked first.
#[test]
fn a_plugin_or_certificate_that_cannot_be_served_binds_nothing() {
    let directory = directory();
    let broken = directory.path().join("broken.wasm");
    fs::write(&broken, "no plugin").unwrap();
    let (certificate, key) = certificates::localhost().write(directory.path(), "localhost");
    fs::write(&certificate, "no certificate").unwrap();
    let sockets = self::directory();
    let socket = sockets.path().join("host.sock");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let of = |plugin: &Path| Setup::bare().option("--plugin", plugin).option("--bind", unix_uri(&socket));
    for (setup, culprit) in [
        (of(&broken), "broken.wasm"),
        (of(&plugin("hello")).option("--tls-certificate", &certificate).option("--tls-key", &key), "--tls-certificate"),
    ] {
        let (code, _, err) = setup.option("--bind", &taken).option("--log-level", "error").run();
        assert!(code == 2 && err.contains(culprit) && !err.contains(&taken), "{err}");
        assert_eq!(fs::read_dir(sockets.path()).unwrap().count(), 0, "a socket, or a lock beside it");
    }
}

/// Invariant 2. Commands may arrive at once: each restart and each reload runs by itself, and its
/// answer is true.
#[test]
fn commands_at_once_change_the_state_one_after_another() {
    let operated = Operated::start(Setup::serving("hello").option("--rollback-window", "0s"));
    let load = Load::start(operated.service.host.addresses[0], 4, "bob\n", "Hello bob!\n");
    let restarts = thread::scope(|scope| {
        let asked: Vec<_> = (0..12)
            .map(|number| {
                let (operator, pid) = (&operated.operator, Pid::from_raw(operated.service.host.pid()));
                scope.spawn(move || match number % 3 {
                    0 => Some(answered(operator, "/restart")),
                    1 => Some(answered(operator, "/reload")),
                    _ => {
                        // A generation that has handed over and ended receives no signal.
                        let _ = kill(pid, Signal::SIGHUP);
                        None
                    }
                })
            })
            .collect();
        let answers: Vec<_> = asked.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        for (code, outcome, detail) in &answers {
            assert_eq!((*code, &**outcome), (200, "done"), "{detail}");
        }
        answers.into_iter().filter(|(.., detail)| detail.contains("serves")).count() as u64
    });
    let status = operated.operator.reaches("serving");
    assert_eq!(status["restarts"]["failed"], 0, "{status}");
    let generation = status["generation"].as_u64().unwrap();
    assert_eq!(status["restarts"]["done"], generation - 1, "{status}");
    assert!((2..=restarts + 1).contains(&generation), "{restarts} restarts were answered: {status}");
    load.goes_on(20);
    load.stop();
}

/// The answer to a command, from the generation that runs it. One that has handed over says to ask
/// again.
fn answered(operator: &Operator, path: &str) -> (u16, String, String) {
    wait_for("an answer", || Some(operator.post(path)).filter(|(code, ..)| *code != 503))
}

/// Invariant 2. One value holds the state, and one function owns it.
#[test]
fn only_the_lifecycle_names_the_state_machine() {
    for (file, text) in sources() {
        let names = code(&text).any(|line| line.contains("struct Lifecycle") || line.contains("lifecycle::Lifecycle"));
        assert!(!names || file.starts_with("lifecycle"), "{}", file.display());
    }
}

/// Invariant 5. A queue without a bound is a pool without a cap.
#[test]
fn every_queue_is_bounded() {
    for (file, text) in sources().into_iter().filter(|(file, _)| !file.ends_with("tests.rs")) {
        let unbounded = code(&text).find(|line| {
            ["unbounded_channel", "mpsc::channel()", "channel::unbounded"].iter().any(|call| line.contains(call))
        });
        assert_eq!(unbounded, None, "{}", file.display());
    }
}

/// Invariant 6. The bytes that a peer could send before it was held back are the memory of a
/// connection beyond its guest.
#[test]
fn a_connection_holds_a_bounded_part_of_what_its_peer_sends() {
    const CONNECTIONS: usize = 64;
    for (transport, most) in [(Transport::Tcp, 64), (Transport::Tls, 64 + 2 * 16)] {
        let directory = directory();
        let operator = Operator::at_path(directory.path().join("admin.sock"));
        let mut host = Setup::serving_over(transport, "never-read").option("--admin", &operator.uri).start();
        let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| host.connect()).collect();
        // Each guest is there.
        for stream in &mut streams {
            stream.write_all(b"x").unwrap();
        }
        wait_for("every connection", || (operator.status()["connections"]["open"] == CONNECTIONS).then_some(()));
        let settled = || {
            let mut last = host.status_kib("VmRSS");
            wait_for("memory that grows no more", || {
                let now = host.status_kib("VmRSS");
                let settled = now == last && quiet(&host);
                last = now;
                settled.then_some(now)
            })
        };
        let before = settled();
        let block = vec![0; 1 << 20];
        for stream in &mut streams {
            // The count stops when the peer's own kernel buffers are full.
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            while stream.write(&block).is_ok() {}
        }
        let each = settled().saturating_sub(before) / CONNECTIONS as u64;
        assert!(each <= most, "{transport:?}: each connection holds {each} KiB");
        drop(streams);
        host.kill();
    }
}

/// Whether the host has used no CPU for a moment.
fn quiet(host: &Host) -> bool {
    let (used, since) = (host.cpu_ticks(), Instant::now());
    wait_for("a moment", || (since.elapsed() > Duration::from_millis(50)).then_some(()));
    host.cpu_ticks() == used
}

/// Invariant 10.
#[test]
fn unsafe_code_is_in_the_fence_only() {
    for (file, text) in sources() {
        let lifted = text.contains("expect(unsafe_code") || text.contains("allow(unsafe_code");
        let used = code(&text)
            .any(|line| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"));
        let in_the_fence = file == Path::new("system/kernel.rs") || file.starts_with("system/kernel");
        assert!(in_the_fence || !(lifted || used), "{}", file.display());
    }
}

/// Invariant 15. Of two listeners the first could have its new plugin, but keeps the old one, since
/// the second cannot have its own.
#[test]
fn a_reload_takes_effect_for_every_listener_or_for_none() {
    let directory = directory();
    let [first, second] = ["first", "second"].map(|name| directory.path().join(format!("{name}.wasm")));
    let replace = |path: &Path, content: &[u8]| {
        let draft = path.with_extension("draft");
        fs::write(&draft, content).unwrap();
        fs::rename(draft, path).unwrap();
    };
    let [hello, echo] = ["hello", "echo"].map(|name| fs::read(plugin(name)).unwrap());
    for path in [&first, &second] {
        replace(path, &hello);
    }
    let file = directory.path().join("host.toml");
    let listener = |path: &Path| format!("[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {path:?}\n");
    fs::write(&file, listener(&first) + &listener(&second)).unwrap();
    let setup = Setup::bare().option("--config", &file).option("--cache-dir", shared_cache());
    let mut host = setup.start_on(2);
    let answers = |host: &Host| {
        [0, 1].map(|listener| {
            let mut stream = connect(host.addresses[listener]);
            stream.write_all(b"bob\n").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            String::from_utf8(read_to_end(&mut stream)).unwrap()
        })
    };
    for (broken, whole) in [(&second, &first), (&first, &second)] {
        replace(whole, &echo);
        replace(broken, b"no plugin");
        let before = host.log().matches("reload").count();
        host.signal(Signal::SIGHUP);
        let name = broken.file_name().unwrap().to_str().unwrap();
        wait_for("the reload's end", || {
            let log = host.log();
            (log.matches("reload").count() > before
                && log.lines().any(|line| line.contains("ERROR") && line.contains(name)))
            .then_some(())
        });
        assert_eq!(answers(&host), ["Hello bob!\n", "Hello bob!\n"]);
        replace(whole, &hello);
    }
    replace(&first, &echo);
    replace(&second, &echo);
    host.signal(Signal::SIGHUP);
    wait_for("the reload", || (answers(&host) == ["bob\n", "bob\n"]).then_some(()));
    assert_eq!(host.terminate(), 0);
}
