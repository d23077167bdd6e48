//! The plugin `static-files` under curl, and under hostile clients.

use crate::harness::{Host, Setup, connect, directory, read_to_end, wait_for};
use nix::sys::stat::Mode;
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
};
use tempfile::TempDir;

/// A served directory, with private files in it and beside it.
struct Site {
    tree: TempDir,
    host: Host,
}

impl Site {
    fn start() -> Self {
        let tree = directory();
        let root = tree.path().join("site");
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::write(root.join("index.html"), "<p>home</p>\n").unwrap();
        fs::write(root.join("docs/index.html"), "docs\n").unwrap();
        fs::write(root.join("digits.txt"), "0123456789").unwrap();
        fs::write(root.join("a b+ü.txt"), "named\n").unwrap();
        fs::write(root.join(".secret"), "hidden\n").unwrap();
        fs::write(tree.path().join("secret"), "outside\n").unwrap();
        symlink("digits.txt", root.join("link.txt")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("/etc", root.join("etc")).unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), Mode::S_IRWXU).unwrap();
        let host = Setup::serving("static-files").option("--guest-dir", format!("{}::/srv", root.display())).start();
        Self { tree, host }
    }

    fn root(&self) -> std::path::PathBuf {
        self.tree.path().join("site")
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.host.addresses[0].tcp())
    }

    /// The output of curl: the head and the content, and then its own report of the transfer.
    fn curl(&self, arguments: &[&str], target: &str) -> String {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60", "--include", "--path-as-is", "--noproxy", "*"])
            .args(arguments)
            .arg(self.url(target))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?} {target}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn status(&self, arguments: &[&str], target: &str) -> String {
        let answer = self.curl(arguments, target);
        answer.split(' ').nth(1).unwrap().to_owned()
    }
}

fn header(answer: &str, name: &str) -> String {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap().to_owned()
}

#[test]
fn curl_gets_files_ranges_and_conditions() {
    let site = Site::start();
    let home = site.curl(&[], "/");
    assert!(home.starts_with("HTTP/1.1 200 OK\r\n") && home.ends_with("\r\n\r\n<p>home</p>\n"), "{home}");
    assert_eq!(header(&home, "Content-Type"), "text/html; charset=utf-8");
    assert!(site.curl(&["--location"], "/docs").ends_with("\r\n\r\ndocs\n"));
    assert!(site.curl(&[], "/a%20b+%c3%bc.txt?v=1").ends_with("\r\n\r\nnamed\n"));
    assert!(site.curl(&[], "/link.txt").ends_with("\r\n\r\n0123456789"));
    assert!(site.curl(&["--head"], "/digits.txt").ends_with("\r\n\r\n"));

    // Ranges.
    let part = site.curl(&["--range", "2-4"], "/digits.txt");
    assert!(part.starts_with("HTTP/1.1 206 ") && part.ends_with("\r\n\r\n234"), "{part}");
    assert!(site.curl(&["--range", "-3"], "/digits.txt").ends_with("\r\n\r\n789"));
    let parts = site.curl(&["--range", "0-1,8-"], "/digits.txt");
    assert!(parts.contains("Content-Range: bytes 0-1/10\r\n\r\n01\r\n--"), "{parts}");
    assert_eq!(site.status(&["--range", "10-"], "/digits.txt"), "416");
    // A partial download is resumed.
    let half = site.tree.path().join("half");
    fs::write(&half, "01234").unwrap();
    let output = ["--continue-at", "-", "--no-include", "--output", half.to_str().unwrap()];
    site.curl(&output, "/digits.txt");
    assert_eq!(fs::read_to_string(&half).unwrap(), "0123456789");

    // Conditions.
    let digits = site.root().join("digits.txt");
    assert_eq!(site.status(&["--time-cond", digits.to_str().unwrap()], "/digits.txt"), "304");
    assert_eq!(site.status(&["--time-cond", "1 Jan 2000"], "/digits.txt"), "200");
    let tags = site.tree.path().join("tags");
    site.curl(&["--etag-save", tags.to_str().unwrap()], "/digits.txt");
    assert_eq!(site.status(&["--etag-compare", tags.to_str().unwrap()], "/digits.txt"), "304");
    fs::write(site.root().join("new"), "another ").unwrap();
    fs::rename(site.root().join("new"), &digits).unwrap();
    assert_eq!(site.status(&["--etag-compare", tags.to_str().unwrap()], "/digits.txt"), "200");

    // Rejections by the plugin.
    assert_eq!(site.status(&["--data", "x=1"], "/"), "405");
    assert_eq!(site.status(&["--http1.0"], "/"), "200");
    assert_eq!(site.status(&["--header", "Host:"], "/"), "400");
    assert_eq!(site.status(&["--header", &format!("X: {}", "x".repeat(20_000))], "/"), "431");
    assert_eq!(site.status(&[], &format!("/{}", "x".repeat(20_000))), "414");
}

#[test]
fn nothing_outside_of_the_directory_is_served() {
    let site = Site::start();
    for (target, status) in [
        ("/../secret", "400"),
        ("/docs/../../secret", "400"),
        ("/%2e%2e/secret", "400"),
        ("/..%2fsecret", "400"),
        ("/..%5csecret", "400"),
        ("/%00", "400"),
        ("/digits.txt%00.html", "400"),
        ("/%c0%ae%c0%ae/secret", "400"),
        ("//etc/passwd", "404"),
        ("/.secret", "404"),
        ("/docs", "301"),
        ("/absent", "404"),
        ("/digits.txt/", "404"),
        // Rejections by the host.
        ("/out", "403"),
        ("/etc/passwd", "403"),
        ("/pipe", "403"),
    ] {
        let answer = site.curl(&[], target);
        assert_eq!(answer.split(' ').nth(1), Some(status), "{target}");
        assert!(
            !answer.contains("outside") && !answer.contains("hidden") && !answer.contains("root:"),
            "{target}: {answer}"
        );
    }
}

#[test]
fn a_connection_is_reused_until_a_side_closes_it() {
    let mut site = Site::start();
    let (home, docs) = (site.url("/"), site.url("/docs/"));
    let arguments = ["--silent", "--noproxy", "*", "--write-out", "%{num_connects} ", &home, &docs, &home];
    let output = Command::new("curl").args(arguments).output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).replace("<p>home</p>\n", "").replace("docs\n", "");
    assert_eq!(output, "1 0 0 ");

    // A draining host closes the idle connection, and answers the one with a request.
    let mut idle = site.host.connect();
    idle.write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut head = [0; 16];
    idle.read_exact(&mut head).unwrap();
    let mut late = site.host.connect();
    late.write_all(b"GET /digits.txt HTTP/1.1\r\n").unwrap();
    site.host.signal(nix::sys::signal::Signal::SIGTERM);
    read_to_end(&mut idle);
    late.write_all(b"Host: h\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_to_end(&mut late)).unwrap();
    assert!(answer.contains("Connection: close\r\n") && answer.ends_with("\r\n\r\n0123456789"), "{answer}");
    assert_eq!(site.host.exit_code(), 0);
}

#[test]
fn a_large_file_arrives_complete_and_is_not_held_in_memory() {
    let site = Site::start();
    let content: Vec<u8> = (0..64 * 1024 * 1024_u32).map(|index| (index % 251) as u8).collect();
    fs::write(site.root().join("large.bin"), &content).unwrap();
    let got = site.tree.path().join("got");
    let output = ["--no-include", "--output", got.to_str().unwrap()];
    let before = site.host.status_kib("VmHWM");
    site.curl(&output, "/large.bin");
    assert!(fs::read(&got).unwrap() == content, "the received file differs from the sent one");
    site.curl(&[&output[..], &["--range", "1000000-33000000"]].concat(), "/large.bin");
    assert!(fs::read(&got).unwrap() == content[1_000_000..=33_000_000]);

    // A client that does not read holds it back; one that leaves ends it.
    let mut lazy = site.host.connect();
    lazy.write_all(b"GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    lazy.read_exact(&mut [0; 1000]).unwrap();
    let grown = site.host.status_kib("VmHWM") - before;
    assert!(grown < 32 * 1024, "it took {grown} KiB more memory for 64 MiB");
    drop(lazy);
    assert!(site.curl(&[], "/digits.txt").ends_with("0123456789"));
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_as_incomplete() {
    let site = Site::start();
    let path = site.root().join("shrinking.bin");
    fs::write(&path, vec![b'x'; 32 * 1024 * 1024]).unwrap();
    let mut client = site.host.connect();
    client.write_all(b"GET /shrinking.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client.read_exact(&mut [0; 1000]).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let rest = read_to_end(&mut client);
    assert!(rest.len() < 32 * 1024 * 1024, "all {} bytes of a file that is not there any more", rest.len());
    site.host.logged(&["a file became shorter while it was sent"]);
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let site = Site::start();
    let wrk = Command::new("wrk")
        .args([
            "--threads",
            "1",
            "--connections",
            "32",
            "--duration",
            "2s",
            "--timeout",
            "20s",
            &site.url("/digits.txt"),
        ])
        .output();
    let Ok(wrk) = wrk else {
        crate::harness::skip("wrk is not installed");
        return;
    };
    let report = String::from_utf8_lossy(&wrk.stdout).into_owned();
    assert!(report.contains("requests in"), "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    wait_for("the end of all connections", || {
        let mut probe = connect(site.host.addresses[0]);
        probe.write_all(b"GET /digits.txt HTTP/1.0\r\n\r\n").unwrap();
        read_to_end(&mut probe).ends_with(b"0123456789").then_some(())
    });
}

#[test]
fn a_missing_directory_grant_is_logged_and_hidden_from_clients() {
    let host = Setup::serving("static-files").start();
    let answer = String::from_utf8(host.ask("GET / HTTP/1.0\r\n\r\n")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(!answer.contains(Path::new("/srv").to_str().unwrap()), "{answer}");
    host.logged(&["guest: /srv", "cannot be read"]);
}
