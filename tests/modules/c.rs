//! A program in C, built without and with debug information.

use crate::harness::{Setup, Transport, directory, root};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// `tests/programs/module.c`, built with these flags; `None` without a compiler for it.
fn program(directory: &Path, flags: &[&str]) -> Option<PathBuf> {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(sysroot) = said("rustc", &["--print", "sysroot"]).filter(|_| said("clang-22", &["--version"]).is_some())
    else {
        crate::harness::skip("clang-22 or rustc is not installed");
        return None;
    };
    let version = said("rustc", &["-vV"]).unwrap();
    let machine = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // The plain linker, which leaves a module as it is.
    let linker = Path::new(sysroot.trim()).join(format!("lib/rustlib/{machine}/bin/gcc-ld/wasm-ld"));
    if !linker.exists() || !Path::new("/usr/lib/wasm32-wasi/libc.a").exists() {
        crate::harness::skip("this toolchain lacks wasm-ld, or wasi-libc is not installed");
        return None;
    }
    let path = directory.join("program.wasm");
    let output = Command::new("clang-22")
        .args(["--target=wasm32-wasi", "-Wno-deprecated", "-Os", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-fuse-ld={}", linker.display()))
        .args(flags)
        .arg(root().join("tests/programs/module.c"))
        .arg("-o")
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(path)
}

#[test]
fn a_program_in_c_gets_the_same_environment_and_grants() {
    let files = directory();
    let Some(path) = program(files.path(), &[]) else { return };
    fs::create_dir(files.path().join("data")).unwrap();
    fs::write(files.path().join("data/file"), "content\n").unwrap();
    for transport in Transport::ALL {
        let host = Setup::serving_over(transport, path.to_str().unwrap())
            .option("--guest-env", "GREETING=hi")
            .option("--guest-arg", "--quiet")
            .option("--guest-dir", format!("{}::/data", files.path().join("data").display()))
            .start();
        let told = String::from_utf8(host.ask("variables\n")).unwrap();
        let proto = match transport {
            Transport::Tcp => "PROTO=TCP",
            Transport::Unix => "PROTO=UNIX",
            Transport::Tls => "PROTO=SSL",
        };
        assert!(told.lines().any(|line| line == proto) && told.contains("GREETING=hi\n"), "{told}");
        assert_eq!(told.contains("TCPREMOTEIP=127.0.0.1\n"), transport != Transport::Unix, "{told}");
        assert_eq!(host.ask("arguments\n"), b"program\n--quiet\n");
        assert_eq!(host.ask("read /data/file\n"), b"content\n");
        assert_eq!(host.ask("read /etc/passwd\n"), b"");
        host.logged(&["guest: fopen: ", "stream=\"stderr\""]);
        // More than any buffer holds, both ways.
        assert_eq!(host.ask([b"count\n".as_slice(), &vec![b'x'; 1 << 20]].concat()), b"1048576\n");
        assert_eq!(host.ask("fill 1000000\n").len(), 1_000_000);
    }
}

#[test]
fn how_a_program_in_c_ends_is_in_the_log() {
    let files = directory();
    let Some(path) = program(files.path(), &["-g"]) else { return };
    let source = fs::read_to_string(root().join("tests/programs/module.c")).unwrap();
    let line = 1 + source.lines().position(|line| line.contains("__builtin_trap")).unwrap();
    let host = Setup::serving_file(&path).option("--guest-memory", "4MiB").start();
    assert_eq!(host.ask("leave 0\n"), b"leaving\n");
    assert_eq!(host.ask("log a word\n"), b"said\n");
    host.logged(&["guest: a word", "plugin=program", "stream=\"stderr\""]);
    let log = host.settled_log();
    assert!(!log.contains("connection failed"), "{log}");
    assert_eq!(host.ask("leave 3\n"), b"leaving\n");
    host.logged(&["WARN", "connection failed", "reason=error", "the guest exited with status 3"]);
    assert_eq!(host.ask("boom\n"), b"");
    host.logged(&["WARN", "connection failed", "reason=trap", &format!(", in boom (module.c:{line}) < ")]);
    assert_eq!(host.ask("take 1000000\n"), b"taken\n");
    assert_eq!(host.ask("take 5000000\n"), b"refused\n");
}

#[test]
fn a_program_in_c_sees_a_reset_as_an_error() {
    let files = directory();
    let Some(path) = program(files.path(), &[]) else { return };
    let host = Setup::serving_file(&path).start();
    let mut stream = host.connect();
    stream.write_all(b"a line that has no").unwrap();
    socket2::SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    host.logged(&["connection failed", "reason=peer-reset"]);
}

#[test]
fn a_trap_without_lines_is_logged_with_its_functions() {
    let files = directory();
    let Some(path) = program(files.path(), &[]) else { return };
    let host = Setup::serving_file(&path).start();
    assert_eq!(host.ask("boom\n"), b"");
    host.logged(&["connection failed", "reason=trap", ", in boom < "]);
}
