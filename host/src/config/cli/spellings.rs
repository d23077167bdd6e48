//! Names that other programs use for options of this one, so that an error can name the right
//! option.

/// An option's name in this program with an example value, and its names elsewhere.
const SPELLINGS: [(&str, &[&str]); 27] = [
    (
        "bind tcp://127.0.0.1:7000",
        &["listen", "port", "address", "addr", "host", "ip", "socket", "server", "url", "http", "listener"],
    ),
    ("plugin FILE", &["wasm", "module", "component", "program", "app", "guest", "handler", "script"]),
    ("plugin-kind KIND", &["kind", "type", "world"]),
    ("config FILE", &["config-file", "conf", "cfg", "configuration", "c", "f"]),
    (
        "tls-certificate FILE",
        &[
            "cert",
            "certs",
            "certificate",
            "crt",
            "tls-cert",
            "tls-crt",
            "ssl-cert",
            "ssl-certificate",
            "certfile",
            "cert-file",
            "tls",
            "ssl",
            "https",
        ],
    ),
    (
        "tls-key FILE",
        &["key", "private-key", "tls-private-key", "ssl-key", "ssl-certificate-key", "keyfile", "key-file"],
    ),
    (
        "client-ca FILE",
        &[
            "ca",
            "cacert",
            "ca-cert",
            "ca-file",
            "cafile",
            "tls-ca",
            "tls-client-ca",
            "client-ca-file",
            "ssl-client-certificate",
            "ca-certificate",
        ],
    ),
    ("tls-min-version 1.2", &["tls-version", "min-version", "ssl-protocols", "ssl-min-ver", "tls-min"]),
    ("tls-alpn PROTOCOL", &["alpn", "http2"]),
    ("guest-dir HOST::GUEST", &["dir", "mapdir", "mount", "volume", "preopen", "root"]),
    ("guest-env NAME=VALUE", &["env", "environment", "e"]),
    ("guest-arg WORD", &["arg", "args", "argv"]),
    (
        "guest-connect HOST:PORT",
        &["connect", "allow-net", "inherit-network", "tcplisten", "upstream", "backend", "outbound"],
    ),
    ("guest-memory 64MiB", &["memory", "max-memory", "memory-limit", "max-memory-size", "mem"]),
    ("guest-cpu-time 10s", &["fuel", "cpu", "cpu-time", "cpu-limit"]),
    (
        "max-connections COUNT",
        &["maxconn", "max-conns", "max-conn", "connections", "worker-connections", "concurrency", "max-clients"],
    ),
    ("workers COUNT", &["threads", "nbthread", "worker-processes", "worker-threads", "jobs"]),
    (
        "idle-timeout 5m",
        &["timeout", "keepalive-timeout", "keep-alive", "read-timeout", "client-timeout", "timeout-client"],
    ),
    ("drain-timeout 30s", &["grace", "grace-period", "graceful-timeout", "shutdown-timeout", "hard-stop-after"]),
    ("log-level debug", &["verbose", "v", "debug", "quiet", "q", "loglevel", "verbosity"]),
    ("log-file FILE", &["log", "logfile", "access-log", "error-log", "log-path"]),
    ("pidfile FILE", &["pid", "pid-file"]),
    ("user USER", &["uid", "run-as", "setuid"]),
    ("admin unix:///run/app/admin.sock", &["stats", "metrics", "admin-socket", "control", "management"]),
    ("allow-network CIDR", &["allow", "allowed-networks", "whitelist", "allowlist"]),
    ("deny-network CIDR", &["deny", "block", "blacklist", "blocklist"]),
    ("proxy-protocol CIDR", &["proxy", "accept-proxy", "proxy-header", "set-real-ip-from", "trusted-proxies"]),
];

/// The option that another program's name means, with its value and without dashes.
pub fn meant(name: &str) -> Option<&'static str> {
    let name = name.trim_start_matches('-').replace('_', "-").to_ascii_lowercase();
    SPELLINGS.iter().find(|(_, others)| others.contains(&name.as_str())).map(|(option, _)| *option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cli::CommandLine;
    use clap::CommandFactory;

    #[test]
    fn each_spelling_maps_to_an_option_and_is_not_one_itself() {
        let command = CommandLine::command();
        let options: Vec<&str> = command.get_arguments().filter_map(|option| option.get_long()).collect();
        let mut seen = Vec::new();
        for (option, others) in SPELLINGS {
            assert!(options.contains(&option.split(' ').next().unwrap()), "{option}");
            for other in others {
                assert!(!options.contains(other) && !seen.contains(other), "{other}");
                seen.push(*other);
            }
        }
        assert_eq!(meant("--ssl_certificate"), Some("tls-certificate FILE"));
        assert_eq!(meant("bind"), None);
    }
}
