//! The interfaces that a file may import, by name. Each is linked in `state`, `files`, `sockets` or
//! `outgoing`.

use super::kind::{Generation, Kind};

/// The export that makes a module a program.
pub(crate) const START: &str = "_start";
pub(crate) const MEMORY: &str = "memory";

/// The interfaces for every plugin, with the generation of their package.
const PROVIDED: [(&str, Generation); 56] = {
    use Generation::{Wasi02, Wasi03};
    [
        ("uninterruptible:server/types", Wasi02),
        ("uninterruptible:server/drain", Wasi02),
        ("wasi:cli/environment", Wasi02),
        ("wasi:cli/exit", Wasi02),
        ("wasi:cli/stdin", Wasi02),
        ("wasi:cli/stdout", Wasi02),
        ("wasi:cli/stderr", Wasi02),
        ("wasi:cli/terminal-input", Wasi02),
        ("wasi:cli/terminal-output", Wasi02),
        ("wasi:cli/terminal-stdin", Wasi02),
        ("wasi:cli/terminal-stdout", Wasi02),
        ("wasi:cli/terminal-stderr", Wasi02),
        ("wasi:clocks/monotonic-clock", Wasi02),
        ("wasi:clocks/wall-clock", Wasi02),
        ("wasi:filesystem/preopens", Wasi02),
        ("wasi:filesystem/types", Wasi02),
        ("wasi:http/outgoing-handler", Wasi02),
        ("wasi:http/types", Wasi02),
        ("wasi:io/error", Wasi02),
        ("wasi:io/poll", Wasi02),
        ("wasi:io/streams", Wasi02),
        ("wasi:random/insecure", Wasi02),
        ("wasi:random/insecure-seed", Wasi02),
        ("wasi:random/random", Wasi02),
        ("wasi:sockets/instance-network", Wasi02),
        ("wasi:sockets/ip-name-lookup", Wasi02),
        ("wasi:sockets/network", Wasi02),
        ("wasi:sockets/tcp", Wasi02),
        ("wasi:sockets/tcp-create-socket", Wasi02),
        ("wasi:sockets/udp", Wasi02),
        ("wasi:sockets/udp-create-socket", Wasi02),
        ("uninterruptible:server/types", Wasi03),
        ("uninterruptible:server/drain", Wasi03),
        ("wasi:cli/environment", Wasi03),
        ("wasi:cli/exit", Wasi03),
        ("wasi:cli/stdin", Wasi03),
        ("wasi:cli/stdout", Wasi03),
        ("wasi:cli/stderr", Wasi03),
        ("wasi:cli/types", Wasi03),
        ("wasi:cli/terminal-input", Wasi03),
        ("wasi:cli/terminal-output", Wasi03),
        ("wasi:cli/terminal-stdin", Wasi03),
        ("wasi:cli/terminal-stdout", Wasi03),
        ("wasi:cli/terminal-stderr", Wasi03),
        ("wasi:clocks/monotonic-clock", Wasi03),
        ("wasi:clocks/system-clock", Wasi03),
        ("wasi:clocks/types", Wasi03),
        ("wasi:filesystem/preopens", Wasi03),
        ("wasi:filesystem/types", Wasi03),
        ("wasi:http/client", Wasi03),
        ("wasi:http/types", Wasi03),
        ("wasi:random/insecure", Wasi03),
        ("wasi:random/insecure-seed", Wasi03),
        ("wasi:random/random", Wasi03),
        ("wasi:sockets/ip-name-lookup", Wasi03),
        ("wasi:sockets/types", Wasi03),
    ]
};

/// The name of the module that programs of WASI 0.1 import from.
pub(crate) const PREVIEW_1: &str = "wasi_snapshot_preview1";

/// All its functions, by name and parameters: `i` for 32 bits, `I` for 64. Each returns 32 bits,
/// except `proc_exit`.
pub(super) const FUNCTIONS_0_1: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// Whether the host provides a function of this name and signature: parameters, then results after
/// a `>`.
pub(super) fn provided_0_1(name: &str, signature: &str) -> bool {
    let results = if name == "proc_exit" { "" } else { "i" };
    FUNCTIONS_0_1.iter().any(|(known, parameters)| *known == name && signature == format!("{parameters}>{results}"))
}

/// Whether the host provides an interface to a plugin of this kind, or to any plugin.
pub(crate) fn provided(import: &str, kind: Option<Kind>) -> bool {
    if kind == Some(Kind::Module) {
        return import == PREVIEW_1;
    }
    let Some((interface, version)) = import.split_once('@') else { return false };
    PROVIDED.iter().any(|(name, generation)| *name == interface && generation.has(version))
}
