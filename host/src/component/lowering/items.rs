//! The imports that a lowered module may have: functions of WASI 0.2 and of the contract that need
//! neither a file nor a socket.

/// The functions by interface. Those of the second list return something for which the guest
/// allocates memory.
pub(crate) const ITEMS: &[(&str, &[&str], &[&str])] = &[
    ("uninterruptible:server/drain", &["subscribe"], &[]),
    (
        "uninterruptible:server/types",
        &["[method]connection.is-draining", "[resource-drop]connection"],
        &[
            "[method]connection.id",
            "[method]connection.peer-address",
            "[method]connection.local-address",
            "[method]connection.listener",
            "[method]connection.tls-version",
            "[method]connection.tls-server-name",
            "[method]connection.tls-alpn",
            "[method]connection.tls-peer-certificates",
        ],
    ),
    ("wasi:cli/environment", &[], &["get-environment", "get-arguments", "initial-cwd"]),
    ("wasi:cli/exit", &["exit"], &[]),
    ("wasi:cli/stdin", &["get-stdin"], &[]),
    ("wasi:cli/stdout", &["get-stdout"], &[]),
    ("wasi:cli/stderr", &["get-stderr"], &[]),
    ("wasi:cli/terminal-input", &["[resource-drop]terminal-input"], &[]),
    ("wasi:cli/terminal-output", &["[resource-drop]terminal-output"], &[]),
    ("wasi:cli/terminal-stdin", &["get-terminal-stdin"], &[]),
    ("wasi:cli/terminal-stdout", &["get-terminal-stdout"], &[]),
    ("wasi:cli/terminal-stderr", &["get-terminal-stderr"], &[]),
    ("wasi:clocks/monotonic-clock", &["now", "resolution", "subscribe-instant", "subscribe-duration"], &[]),
    ("wasi:clocks/wall-clock", &["now", "resolution"], &[]),
    ("wasi:io/error", &["[resource-drop]error"], &["[method]error.to-debug-string"]),
    ("wasi:io/poll", &["[method]pollable.ready", "[method]pollable.block", "[resource-drop]pollable"], &["poll"]),
    (
        "wasi:io/streams",
        &[
            "[method]input-stream.skip",
            "[method]input-stream.blocking-skip",
            "[method]input-stream.subscribe",
            "[resource-drop]input-stream",
            "[method]output-stream.check-write",
            "[method]output-stream.write",
            "[method]output-stream.blocking-write-and-flush",
            "[method]output-stream.flush",
            "[method]output-stream.blocking-flush",
            "[method]output-stream.subscribe",
            "[method]output-stream.write-zeroes",
            "[method]output-stream.blocking-write-zeroes-and-flush",
            "[method]output-stream.splice",
            "[method]output-stream.blocking-splice",
            "[resource-drop]output-stream",
        ],
        &["[method]input-stream.read", "[method]input-stream.blocking-read"],
    ),
    ("wasi:random/random", &["get-random-u64"], &["get-random-bytes"]),
    ("wasi:random/insecure", &["get-insecure-random-u64"], &["get-insecure-random-bytes"]),
    ("wasi:random/insecure-seed", &["insecure-seed"], &[]),
];

/// Whether a function of an interface is among them; if so, whether its caller allocates.
pub(super) fn allocates(interface: &str, function: &str) -> Option<bool> {
    let (_, plain, allocating) = ITEMS.iter().find(|(name, _, _)| *name == interface)?;
    if plain.contains(&function) {
        return Some(false);
    }
    allocating.contains(&function).then_some(true)
}
