//! The plugin `kv` keeps what it has acknowledged, through crashes and restarts of the host and
//! beside other writers.

use crate::harness::{Address, Host, Setup, Stream, connect, directory, read_line, read_to_end};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

fn setup(store: &Path) -> Setup {
    Setup::serving("kv").option("--guest-dir", format!("{}::/kv:rw", store.display()))
}

/// A client that keeps its connection.
struct Client(BufReader<Stream>);

impl Client {
    fn of(host: &Host) -> Self {
        Self::at(host.addresses[0])
    }

    fn at(address: Address) -> Self {
        Self(BufReader::new(connect(address)))
    }

    fn tell(&mut self, said: impl AsRef<[u8]>) -> String {
        self.0.get_mut().write_all(said.as_ref()).unwrap();
        read_line(&mut self.0)
    }

    fn set(&mut self, key: &str, value: &[u8]) -> String {
        self.tell([format!("SET {key} {}\n", value.len()).as_bytes(), value, b"\n"].concat())
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        let head = self.tell(format!("GET {key}\n"));
        if head == "NONE\n" {
            return None;
        }
        let length: usize = head.strip_prefix("VALUE ").unwrap().trim_end().parse().unwrap();
        let mut value = vec![0; length + 1];
        self.0.read_exact(&mut value).unwrap();
        assert_eq!(value.pop(), Some(b'\n'));
        Some(value)
    }
}

#[test]
fn a_value_is_kept_and_visible_to_every_client() {
    let store = directory();
    let host = setup(store.path()).start();
    let said = "SET a/b 5\nhello\nGET a/b\nADD a/b 1\nx\nADD new 0\n\nKEYS\nDEL a/b\nGET a/b\nDEL a/b\n";
    let answer = String::from_utf8(host.ask(said)).unwrap();
    assert_eq!(answer, "OK\nVALUE 5\nhello\nEXISTS\nOK\nKEY a/b\nKEY new\nEND\nOK\nNONE\nNONE\n");
    assert_eq!(fs::read(store.path().join("new")).unwrap(), b"");

    // A person at a terminal, and arbitrary bytes.
    let mut client = Client::of(&host);
    assert_eq!(client.tell("SET k 3\r\none\r\n"), "OK\n");
    assert_eq!(Client::of(&host).get("k").unwrap(), b"one");
    let value: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    assert_eq!(client.set("large", &value), "OK\n");
    assert!(Client::of(&host).get("large").unwrap() == value);
    assert_eq!(client.tell("SET larger 1048577\n"), "ERROR a length is 0 to 1048576 bytes\n");
    assert!(read_to_end(&mut client.0).is_empty(), "a mistake ends the conversation");

    // A key cannot lead out of the directory.
    for key in ["..", "../outside", "/etc/passwd", ".writing", ".writing/x"] {
        assert_eq!(Client::of(&host).set(key, b"x"), "OK\n");
        assert_eq!(Client::of(&host).get(key).unwrap(), b"x");
    }
    let outside = fs::read_dir(store.path().parent().unwrap()).unwrap().flatten();
    assert_eq!(outside.filter(|entry| entry.file_name() == "outside").count(), 0);
}

#[test]
fn common_clients_can_use_it() {
    let store = directory();
    let host = setup(store.path()).start();
    let address = host.addresses[0].tcp();
    let mut socat = Command::new("socat")
        .args(["-t", "60", "-", &format!("tcp:{address}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    socat.stdin.take().unwrap().write_all(b"SET name 3\nbob\nGET name\n").unwrap();
    let output = socat.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "OK\nVALUE 3\nbob\n");
}

#[test]
fn one_of_many_adds_a_key_and_all_of_them_see_whole_values() {
    let store = directory();
    let host = setup(store.path()).start();
    let address = host.addresses[0];
    let race = |number: u8| {
        let mut client = Client::at(address);
        let mut won = 0;
        for round in 0..20 {
            won += u32::from(client.tell(format!("ADD round-{round} 1\n{number}\n")) == "OK\n");
            assert_eq!(client.set("shared", &vec![number; 10_000 + usize::from(number)]), "OK\n");
            let value = client.get("shared").unwrap();
            assert!(value.iter().all(|byte| *byte == value[0]) && value.len() == 10_000 + usize::from(value[0]));
        }
        won
    };
    let won: u32 = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|number| scope.spawn(move || race(number))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(won, 20, "each key is added once");
    assert_eq!(fs::read_dir(store.path().join(".writing")).unwrap().count(), 0);
}

/// Sets its own keys to rising numbers until the connection breaks. Returns for each key the last
/// acknowledged number and the last attempted one.
fn write_until_the_end(
    address: Address,
    writer: usize,
    from: u64,
    acknowledged: &AtomicU64,
) -> BTreeMap<String, (u64, u64)> {
    let mut state = BTreeMap::new();
    let Ok(stream) = address.try_connect() else { return state };
    let mut stream = BufReader::new(stream);
    for number in from.. {
        let key = format!("writer-{writer}/key-{}", number % 5);
        let value = content(number);
        let entry = state.entry(key.clone()).or_insert((0, 0));
        entry.1 = number;
        let said = [format!("SET {key} {}\n", value.len()).as_bytes(), value.as_bytes(), b"\n"].concat();
        let mut answer = String::new();
        if stream.get_mut().write_all(&said).is_err() || stream.read_line(&mut answer).is_err() || answer.is_empty() {
            break;
        }
        assert_eq!(answer, "OK\n");
        entry.0 = number;
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    state
}

/// Long enough for several writes, and of another length each time.
fn content(number: u64) -> String {
    format!("{number} ").repeat(200 + usize::try_from(number % 97).unwrap())
}

#[test]
fn acknowledged_writes_survive_a_killed_host() {
    let store = directory();
    // For each key: the last acknowledged number, and the last that may have been written.
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut from = 1;
    for round in 1..=5 {
        let mut host = setup(store.path()).start();
        let acknowledged = AtomicU64::new(0);
        let address = host.addresses[0];
        let states: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..6)
                .map(|writer| {
                    let acknowledged = &acknowledged;
                    scope.spawn(move || write_until_the_end(address, writer, from, acknowledged))
                })
                .collect();
            crate::harness::wait_for("writes", || (acknowledged.load(Ordering::Relaxed) >= 40 * round).then_some(()));
            host.kill();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        for (key, (done, begun)) in states.into_iter().flatten() {
            let entry = expected.entry(key).or_default();
            *entry = (entry.0.max(done), begun);
        }
        from = expected.values().map(|(_, begun)| begun + 1).max().unwrap();

        let host = setup(store.path()).start();
        let mut client = Client::of(&host);
        for (key, (done, begun)) in &mut expected {
            let Some(value) = client.get(key) else {
                assert_eq!(*done, 0, "{key} was acknowledged and is gone");
                continue;
            };
            let value = String::from_utf8(value).unwrap();
            let number: u64 = value.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(value, content(number), "{key} is torn");
            assert!(number == *done || number == *begun, "{key} was {done} or {begun}, and is {number}");
            *done = number;
        }
    }
    assert!(expected.len() >= 6);
}

#[test]
fn a_restart_keeps_writers_and_values() {
    let store = directory();
    let service = crate::service::Service::start(setup(store.path()).option("--rollback-window", "50ms"));
    let mut old = Client::of(&service.host);
    assert_eq!(old.set("k", b"1"), "OK\n");
    service.restart();
    assert_eq!(Client::of(&service.host).get("k").unwrap(), b"1");
    // The predecessor closed idle connections.
    assert!(read_to_end(&mut old.0).is_empty());
}

#[test]
fn a_store_that_was_not_granted_is_an_error_and_not_empty() {
    let host = Setup::serving("kv").start();
    let answer = String::from_utf8(host.ask("GET k\nDEL k\nKEYS\nSET k 1\nx\n")).unwrap();
    assert!(answer.lines().count() == 4 && answer.lines().all(|line| line.starts_with("ERROR ")), "{answer}");
    host.logged(&["k cannot be read"]);
    let read_only = directory();
    fs::write(read_only.path().join("k"), "v").unwrap();
    let host = Setup::serving("kv").option("--guest-dir", format!("{}::/kv", read_only.path().display())).start();
    let answer = String::from_utf8(host.ask("GET k\nSET k 1\nx\nADD n 1\nx\nDEL k\n")).unwrap();
    let refusals = "ERROR it cannot be written\nERROR it cannot be written\nERROR it cannot be removed\n";
    assert_eq!(answer, format!("VALUE 1\nv\n{refusals}"));
}

/// The system calls that the host makes for the first change of a connection, in order.
#[test]
fn nothing_is_acknowledged_before_it_is_on_the_disk() {
    let store = directory();
    let trace = store.path().with_extension("trace");
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        if !crate::harness::skip_unless("strace") {
            crate::harness::cannot("strace may not trace");
        }
        return;
    }
    let calls = "trace=fsync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,sendto,sendmsg,write,writev";
    let host = setup(store.path())
        .by_way_of(["strace", "-D", "-f", "-e", calls, "-y", "-s", "40", "-o", trace.to_str().unwrap()])
        .start();
    for said in ["SET k 5\nfirst\n", "DEL k\n", "ADD k 6\nsecond\n"] {
        assert_eq!(String::from_utf8(host.ask(said)).unwrap(), "OK\n");
    }
    let order = |trace: &str| {
        let mut seen = Vec::new();
        for line in trace.lines() {
            let word = if line.contains("fsync(") && line.contains("/.writing/") {
                "sync file"
            } else if line.contains("fsync(") && line.contains(store.path().to_str().unwrap()) {
                "sync directory"
            } else if line.contains("rename") && line.contains("\"k\"") {
                "rename"
            } else if line.contains("linkat(") && !line.contains("unlinkat(") {
                "link"
            } else if line.contains("unlinkat(") && line.contains("\"k\"") {
                "unlink"
            } else if line.contains("\"OK\\n\"") {
                "OK"
            } else {
                continue;
            };
            seen.push(word);
        }
        seen
    };
    let expected = [
        &["sync file", "rename", "sync directory", "OK"][..],
        &["unlink", "sync directory", "OK"],
        &["sync file", "link", "sync directory", "OK"],
    ]
    .concat();
    let seen = crate::harness::wait_for("the trace", || {
        let seen = order(&fs::read_to_string(&trace).unwrap_or_default());
        (seen.iter().filter(|word| **word == "OK").count() == 3).then_some(seen)
    });
    assert_eq!(seen, expected);
    fs::remove_file(&trace).unwrap();
}
