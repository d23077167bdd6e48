//! The imports, each by its interface and its name: those of `wasi:io` are in `streams`.

use super::{
    abi::{self, enter, given, handle, lent, store, store_list, store_lists, store_option, store_optional},
    streams,
};
use crate::{
    component::lowering::{HOST, RETURNED, STORED},
    guest::{
        bindings::wasi_0_2::uninterruptible::server::types::HostConnection,
        link::{self, quiet_cli, quiet_clocks},
        state::State,
    },
};
use bytes::Bytes;
use std::collections::VecDeque;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p2::bindings::{
    cli::{
        environment::Host as _, exit::Host as _, stderr::Host as _, stdin::Host as _, stdout::Host as _,
        terminal_input::HostTerminalInput, terminal_output::HostTerminalOutput, terminal_stderr::Host as _,
        terminal_stdin::Host as _, terminal_stdout::Host as _,
    },
    clocks::{monotonic_clock, wall_clock},
    random::{insecure::Host as _, insecure_seed::Host as _, random::Host as _},
};

type Guest<'a> = Caller<'a, State>;

/// Links a function that never waits.
macro_rules! now {
    ($linker:ident, $interface:literal, $name:literal, ($($parameter:ident: $ty:ty),*) => $call:expr) => {
        $linker.func_wrap($interface, $name, |mut guest: Guest<'_>, $($parameter: $ty),*| {
            $call(&mut guest, $($parameter),*)
        })?;
    };
}

/// Links a function that may wait.
macro_rules! later {
    ($linker:ident, $interface:literal, $name:literal, ($($parameter:ident: $ty:ty),*) => $call:path) => {
        $linker.func_wrap_async($interface, $name, |mut guest: Guest<'_>, ($($parameter,)*): ($($ty,)*)| {
            Box::new(async move { $call(&mut guest, $($parameter),*).await })
        })?;
    };
}

/// Links all functions that a lowered module may import.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(HOST, STORED, |mut guest: Guest<'_>, block: u32| abi::stored(&mut guest, block))?;
    linker.func_wrap(HOST, RETURNED, |mut guest: Guest<'_>, at: u32| abi::returned(&mut guest, at))?;
    link_streams(linker)?;
    link_contract(linker)?;
    link_cli(linker)?;
    link_clocks(linker)?;
    link_random(linker)
}

fn link_streams(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    now!(linker, "wasi:io/error", "[method]error.to-debug-string", (this: u32, out: u32) => streams::to_debug_string);
    now!(linker, "wasi:io/error", "[resource-drop]error", (this: u32) => streams::drop_error);
    later!(linker, "wasi:io/poll", "[method]pollable.ready", (this: u32) => streams::ready);
    later!(linker, "wasi:io/poll", "[method]pollable.block", (this: u32) => streams::block);
    later!(linker, "wasi:io/poll", "poll", (at: u32, count: u32, out: u32) => streams::poll);
    now!(linker, "wasi:io/poll", "[resource-drop]pollable", (this: u32) => streams::drop_pollable);
    now!(linker, "wasi:io/streams", "[method]input-stream.read", (this: u32, most: u64, out: u32) => streams::read);
    later!(
        linker,
        "wasi:io/streams",
        "[method]input-stream.blocking-read",
        (this: u32, most: u64, out: u32) => streams::blocking_read
    );
    now!(linker, "wasi:io/streams", "[method]input-stream.skip", (this: u32, most: u64, out: u32) => streams::skip);
    later!(
        linker,
        "wasi:io/streams",
        "[method]input-stream.blocking-skip",
        (this: u32, most: u64, out: u32) => streams::blocking_skip
    );
    now!(linker, "wasi:io/streams", "[method]input-stream.subscribe", (this: u32) => streams::subscribe_input);
    later!(linker, "wasi:io/streams", "[resource-drop]input-stream", (this: u32) => streams::drop_input);
    now!(linker, "wasi:io/streams", "[method]output-stream.check-write", (this: u32, out: u32) => streams::check_write);
    now!(
        linker,
        "wasi:io/streams",
        "[method]output-stream.write",
        (this: u32, at: u32, count: u32, out: u32) => streams::write
    );
    later!(
        linker,
        "wasi:io/streams",
        "[method]output-stream.blocking-write-and-flush",
        (this: u32, at: u32, count: u32, out: u32) => streams::blocking_write_and_flush
    );
    now!(linker, "wasi:io/streams", "[method]output-stream.flush", (this: u32, out: u32) => streams::flush);
    later!(
        linker,
        "wasi:io/streams",
        "[method]output-stream.blocking-flush",
        (this: u32, out: u32) => streams::blocking_flush
    );
    now!(linker, "wasi:io/streams", "[method]output-stream.subscribe", (this: u32) => streams::subscribe_output);
    now!(
        linker,
        "wasi:io/streams",
        "[method]output-stream.write-zeroes",
        (this: u32, count: u64, out: u32) => streams::write_zeroes
    );
    later!(
        linker,
        "wasi:io/streams",
        "[method]output-stream.blocking-write-zeroes-and-flush",
        (this: u32, count: u64, out: u32) => streams::blocking_write_zeroes
    );
    now!(
        linker,
        "wasi:io/streams",
        "[method]output-stream.splice",
        (this: u32, from: u32, most: u64, out: u32) => streams::splice
    );
    later!(
        linker,
        "wasi:io/streams",
        "[method]output-stream.blocking-splice",
        (this: u32, from: u32, most: u64, out: u32) => streams::blocking_splice
    );
    later!(linker, "wasi:io/streams", "[resource-drop]output-stream", (this: u32) => streams::drop_output);
    Ok(())
}

fn link_contract(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    /// Links a method of a connection whose result is a string.
    macro_rules! text {
        ($name:literal, $method:ident) => {
            now!(linker, "uninterruptible:server/types", $name, (this: u32, out: u32) =>
                |guest: &mut Guest<'_>, this, out| {
                    let state = enter(guest)?;
                    let connection = lent(state, this)?;
                    let text = state.$method(connection)?;
                    store_list(guest, out, text.into(), 1)
                });
        };
    }
    /// Links a method of a connection whose result is optional.
    macro_rules! optional {
        ($name:literal, $method:ident) => {
            now!(linker, "uninterruptible:server/types", $name, (this: u32, out: u32) =>
                |guest: &mut Guest<'_>, this, out| {
                    let state = enter(guest)?;
                    let connection = lent(state, this)?;
                    let found = state.$method(connection)?;
                    store_optional(guest, out, found)
                });
        };
    }
    text!("[method]connection.id", id);
    text!("[method]connection.peer-address", peer_address);
    text!("[method]connection.local-address", local_address);
    text!("[method]connection.listener", listener);
    optional!("[method]connection.tls-version", tls_version);
    optional!("[method]connection.tls-server-name", tls_server_name);
    optional!("[method]connection.tls-alpn", tls_alpn);
    now!(
        linker,
        "uninterruptible:server/types",
        "[method]connection.tls-peer-certificates",
        (this: u32, out: u32) => |guest: &mut Guest<'_>, this, out| {
            let state = enter(guest)?;
            let connection = lent(state, this)?;
            let certificates = state.tls_peer_certificates(connection)?;
            store_lists(guest, out, certificates.into_iter().map(Bytes::from).collect(), 1)
        }
    );
    now!(
        linker,
        "uninterruptible:server/types",
        "[method]connection.is-draining",
        (this: u32) => |guest: &mut Guest<'_>, this| {
            let state = enter(guest)?;
            let connection = lent(state, this)?;
            state.is_draining(connection).map(u32::from)
        }
    );
    now!(
        linker,
        "uninterruptible:server/types",
        "[resource-drop]connection",
        (this: u32) => |guest: &mut Guest<'_>, this| {
            let state = enter(guest)?;
            let connection = given(state, this)?;
            HostConnection::drop(state, connection)
        }
    );
    now!(linker, "uninterruptible:server/drain", "subscribe", () => |guest: &mut Guest<'_>| {
        let state = enter(guest)?;
        let pollable = link::drained(state)?;
        handle(state, &pollable)
    });
    Ok(())
}

fn link_cli(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    /// Links a function that returns one of the standard streams.
    macro_rules! stream {
        ($interface:literal, $name:literal, $get:ident) => {
            now!(linker, $interface, $name, () => |guest: &mut Guest<'_>| {
                let state = enter(guest)?;
                let stream = quiet_cli(state).$get()?;
                handle(state, &stream)
            });
        };
    }
    /// Links a function that returns the terminal of a standard stream.
    macro_rules! terminal {
        ($interface:literal, $name:literal, $get:ident) => {
            now!(linker, $interface, $name, (out: u32) => |guest: &mut Guest<'_>, out| {
                let terminal = quiet_cli(enter(guest)?).$get()?;
                store_option(guest, out, terminal)
            });
        };
    }
    stream!("wasi:cli/stdin", "get-stdin", get_stdin);
    stream!("wasi:cli/stdout", "get-stdout", get_stdout);
    stream!("wasi:cli/stderr", "get-stderr", get_stderr);
    terminal!("wasi:cli/terminal-stdin", "get-terminal-stdin", get_terminal_stdin);
    terminal!("wasi:cli/terminal-stdout", "get-terminal-stdout", get_terminal_stdout);
    terminal!("wasi:cli/terminal-stderr", "get-terminal-stderr", get_terminal_stderr);
    now!(
        linker,
        "wasi:cli/terminal-input",
        "[resource-drop]terminal-input",
        (this: u32) => |guest: &mut Guest<'_>, this| {
            let state = enter(guest)?;
            let terminal = given(state, this)?;
            state.learner.observable();
            HostTerminalInput::drop(&mut quiet_cli(state), terminal)
        }
    );
    now!(
        linker,
        "wasi:cli/terminal-output",
        "[resource-drop]terminal-output",
        (this: u32) => |guest: &mut Guest<'_>, this| {
            let state = enter(guest)?;
            let terminal = given(state, this)?;
            state.learner.observable();
            HostTerminalOutput::drop(&mut quiet_cli(state), terminal)
        }
    );
    now!(linker, "wasi:cli/environment", "get-environment", (out: u32) => |guest: &mut Guest<'_>, out| {
        let variables = quiet_cli(enter(guest)?).get_environment()?;
        let texts = variables.into_iter().flat_map(|(name, value)| [Bytes::from(name), Bytes::from(value)]);
        store_lists(guest, out, texts.collect(), 2)
    });
    now!(linker, "wasi:cli/environment", "get-arguments", (out: u32) => |guest: &mut Guest<'_>, out| {
        let arguments = quiet_cli(enter(guest)?).get_arguments()?;
        store_lists(guest, out, arguments.into_iter().map(Bytes::from).collect::<VecDeque<_>>(), 1)
    });
    now!(linker, "wasi:cli/environment", "initial-cwd", (out: u32) => |guest: &mut Guest<'_>, out| {
        let directory = quiet_cli(enter(guest)?).initial_cwd()?;
        store_optional(guest, out, directory)
    });
    now!(linker, "wasi:cli/exit", "exit", (status: u32) => |guest: &mut Guest<'_>, status| {
        let state = enter(guest)?;
        let status = match status {
            0 => Ok(()),
            1 => Err(()),
            _ => return abi::trap("invalid expected discriminant"),
        };
        state.learner.observable();
        quiet_cli(state).exit(status)
    });
    Ok(())
}

fn link_clocks(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    /// Links a function that returns a date and time.
    macro_rules! datetime {
        ($name:literal, $get:ident) => {
            now!(linker, "wasi:clocks/wall-clock", $name, (out: u32) => |guest: &mut Guest<'_>, out| {
                let wall_clock::Datetime { seconds, nanoseconds } =
                    wall_clock::Host::$get(&mut quiet_clocks(enter(guest)?))?;
                let mut bytes = [0; 12];
                let (first, last) = bytes.split_at_mut(8);
                first.copy_from_slice(&seconds.to_le_bytes());
                last.copy_from_slice(&nanoseconds.to_le_bytes());
                store(guest, out, 8, 16, &bytes)
            });
        };
    }
    /// Links a function that returns nanoseconds.
    macro_rules! nanoseconds {
        ($name:literal, $get:ident) => {
            now!(linker, "wasi:clocks/monotonic-clock", $name, () => |guest: &mut Guest<'_>| {
                monotonic_clock::Host::$get(&mut quiet_clocks(enter(guest)?))
            });
        };
    }
    /// Links a function that returns a timer.
    macro_rules! timer {
        ($name:literal, $make:path) => {
            now!(linker, "wasi:clocks/monotonic-clock", $name, (time: u64) => |guest: &mut Guest<'_>, time| {
                let state = enter(guest)?;
                let pollable = $make(state, time)?;
                handle(state, &pollable)
            });
        };
    }
    datetime!("now", now);
    datetime!("resolution", resolution);
    nanoseconds!("now", now);
    nanoseconds!("resolution", resolution);
    timer!("subscribe-instant", link::at);
    timer!("subscribe-duration", link::after);
    Ok(())
}

fn link_random(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    now!(linker, "wasi:random/random", "get-random-bytes", (length: u64, out: u32) =>
    |guest: &mut Guest<'_>, length, out| {
        let bytes = enter(guest)?.quiet().ctx.random().get_random_bytes(length)?;
        store_list(guest, out, bytes.into(), 1)
    });
    now!(linker, "wasi:random/random", "get-random-u64", () => |guest: &mut Guest<'_>| {
        enter(guest)?.quiet().ctx.random().get_random_u64()
    });
    now!(linker, "wasi:random/insecure", "get-insecure-random-bytes", (length: u64, out: u32) =>
    |guest: &mut Guest<'_>, length, out| {
        let bytes = enter(guest)?.quiet().ctx.random().get_insecure_random_bytes(length)?;
        store_list(guest, out, bytes.into(), 1)
    });
    now!(linker, "wasi:random/insecure", "get-insecure-random-u64", () => |guest: &mut Guest<'_>| {
        enter(guest)?.quiet().ctx.random().get_insecure_random_u64()
    });
    now!(linker, "wasi:random/insecure-seed", "insecure-seed", (out: u32) => |guest: &mut Guest<'_>, out| {
        let (low, high) = enter(guest)?.quiet().ctx.random().insecure_seed()?;
        store(guest, out, 8, 16, &[low.to_le_bytes(), high.to_le_bytes()].concat())
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::lowering::ITEMS;

    /// A function that is recognised but not linked would be a plugin that does not load.
    #[test]
    fn recognised_functions_are_linked() {
        let mut linker = Linker::<State>::new(&wasmtime::Engine::default());
        link(&mut linker).unwrap();
        let mut is_linked = |interface, name| linker.func_wrap(interface, name, || ()).is_err();
        for (interface, plain, allocating) in ITEMS {
            for name in plain.iter().chain(*allocating) {
                assert!(is_linked(*interface, *name), "{name} of {interface}");
            }
        }
        assert!(!is_linked("wasi:io/streams", "[method]input-stream.peek"), "a name that is missing");
    }
}
