//! Handlers of HTTP as others write them: by wstd, on WASI 0.3, in JavaScript, in Python.

use crate::{
    harness::{Host, Setup, Transport, root},
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

/// What `examples/` has built.
fn example(name: &str) -> Option<Host> {
    let plugin = root().join(format!("target/examples/{name}.wasm"));
    if !plugin.exists() {
        eprintln!("skipped: {name} is not built; run the `build` in its folder");
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
