//! HTTP handlers as others write them: with wstd, on WASI 0.3, in JavaScript, in Python.

use crate::{
    harness::{Host, Setup, Transport, directory, root},
    http::{KEPT, VERSIONS, curl},
};

#[test]
fn wstd_is_served() {
    for (transport, version) in KEPT {
        let host = Host::serving_over(transport, "http-wstd");
        assert_eq!(curl(&host, &[version], &["/", "/"]).ok(), "hello from wstd\n".repeat(2));
        assert_eq!(curl(&host, &[version, "--data", "abc"], &["/"]).ok(), "abc");
        assert_eq!(curl(&host, &[version, "--write-out", "%{http_code}"], &["/missing"]).ok(), "404");
    }
}

#[test]
fn wasi_0_3_is_served() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "http-async");
        let second = if transport == Transport::Tls { "--http2" } else { "--http2-prior-knowledge" };
        for version in ["--http1.1", second] {
            for (path, answer) in [("/", "hello from 0.3\n"), ("/count", "1\n"), ("/count", "1\n")] {
                assert_eq!(curl(&host, &[version], &[path]).ok(), answer, "{version}");
            }
            assert_eq!(curl(&host, &[version, "--data", "abc"], &["/echo"]).ok(), "abc");
            for path in ["/trap", "/error"] {
                let answer = curl(&host, &[version, "--write-out", "%{http_code} %{size_download}"], &[path]).ok();
                assert_eq!(answer, "500 0", "{path} {version}");
            }
            let part = curl(&host, &[version], &["/part"]);
            assert!(part.code != 0 && "a part\n".starts_with(&part.out), "{part:?}");
            let about = curl(&host, &[version, "--header", "host: example.org"], &["/about?a"]).ok();
            assert!(about.contains("example.org") && about.contains("/about?a"), "{about}");
        }
        host.logged(&["request failed", "reason=trap", "path=\"/part\""]);
    }
}

/// The plugins that `examples/` has built.
fn example(name: &str) -> Option<Host> {
    let plugin = root().join(format!("target/examples/{name}.wasm"));
    if !plugin.exists() {
        crate::harness::skip(format!("{name} was not built: examples/build-all says why"));
        return None;
    }
    Some(Setup::serving_file(&plugin).option("--guest-memory", "256MiB").option("--max-connections", "16").start())
}

#[test]
fn javascript_and_python_are_served() {
    for name in ["javascript-http", "python-http"] {
        let Some(host) = example(name) else { continue };
        for (version, _) in VERSIONS {
            for (path, answer) in [("/", "Hello world!\n"), ("/?name=bob", "Hello bob!\n")] {
                assert_eq!(curl(&host, &[version], &[path]).ok(), answer, "{name} {version}");
            }
            assert_eq!(curl(&host, &[version, "--data", "abc"], &["/"]).ok(), "abc", "{name} {version}");
        }
    }
}

/// A regression: it was rejected as if this host did not have the interface.
#[test]
fn a_program_may_import_the_interfaces_of_requests() {
    let files = directory();
    for (version, run) in [("0.2.0", "func"), ("0.3.0", "func async")] {
        let text = format!(
            r#"(component
                (import "wasi:http/types@{version}" (instance (export "fields" (type (sub resource)))))
                (core module $m (func (export "run") (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (type $run ({run} (result (result))))
                (func $run (type $run) (canon lift (core func $i "run")))
                (instance $r (export "run" (func $run)))
                (export "wasi:cli/run@{version}" (instance $r)))"#
        );
        let program = files.path().join(format!("program-{version}.wasm"));
        std::fs::write(&program, wat::parse_str(&text).unwrap()).unwrap();
        let host = Setup::serving_file(&program).start();
        assert_eq!(host.ask("x"), b"");
        host.logged(&["connection finished"]);
    }
}

#[test]
fn waits_for_a_past_mark_are_ready_at_once() {
    let host = Host::serving("http-async");
    assert_eq!(curl(&host, &[], &["/past"]).ok(), "[true, true, true]\n");
}
