//! Commands: programs that do not know this host, and have the connection as their standard input
//! and output.

use super::{
    io::{
        concurrent_streams,
        streams::{self, Ownership},
    },
    state::State,
};
use crate::component::engine::Concurrency;
use std::io;
use wasmtime::component::{FutureReader, Linker, StreamReader};
use wasmtime_wasi::{I32Exit, p3::bindings::cli::types::ErrorCode};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

/// Links the interfaces that commands have instead of those of handlers.
pub(super) fn link(linker: &mut Linker<State>, concurrency: Concurrency) -> wasmtime::Result<()> {
    linker.instance("wasi:cli/stdin@0.2.12")?.func_wrap("get-stdin", |mut store, (): ()| {
        let state: &mut State = store.data_mut();
        let input: DynInputStream = Box::new(streams::Input::new(state.wire()?, &state.learner, Ownership::Lent));
        Ok((state.table.push(input)?,))
    })?;
    linker.instance("wasi:cli/stdout@0.2.12")?.func_wrap("get-stdout", |mut store, (): ()| {
        let state: &mut State = store.data_mut();
        let output: DynOutputStream = Box::new(streams::Output::new(state.wire()?, &state.learner, Ownership::Lent));
        Ok((state.table.push(output)?,))
    })?;
    let mut told = vec!["wasi:cli/environment@0.2.12"];
    if concurrency == Concurrency::Concurrent {
        link_concurrent(linker)?;
        told.push("wasi:cli/environment@0.3.0");
    }
    for environment in told {
        let mut environment = linker.instance(environment)?;
        environment
            .func_wrap("get-environment", |mut store, (): ()| Ok((store.data_mut().environment_of_command(),)))?;
        environment.func_wrap("get-arguments", |store, (): ()| Ok((store.data().arguments_of_command(),)))?;
    }
    Ok(())
}

fn link_concurrent(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wasi:cli/stdin@0.3.0")?.func_wrap("read-via-stream", |mut store, (): ()| {
        let state: &mut State = store.data_mut();
        let (input, ended) = concurrent_streams::Input::new(state.wire()?, &state.learner, Ownership::Lent);
        let input = StreamReader::new(&mut store, input)?;
        let ended = FutureReader::new(&mut store, result(ended))?;
        Ok(((input, ended),))
    })?;
    linker.instance("wasi:cli/stdout@0.3.0")?.func_wrap(
        "write-via-stream",
        |mut store, (data,): (StreamReader<u8>,)| {
            let state: &mut State = store.data_mut();
            let (output, closed) = concurrent_streams::Output::new(state.wire()?, &state.learner, Ownership::Lent);
            data.pipe(&mut store, output)?;
            Ok((FutureReader::new(&mut store, result(closed))?,))
        },
    )
}

/// How a stream ended: with an error, or by being dropped.
async fn result(ended: concurrent_streams::Ended) -> wasmtime::Result<Result<(), ErrorCode>> {
    Ok(match ended.await {
        Ok(io::ErrorKind::BrokenPipe) => Err(ErrorCode::Pipe),
        Ok(_) => Err(ErrorCode::Io),
        Err(_dropped) => Ok(()),
    })
}

/// The result of a command. Exiting in the middle is an end like any other.
pub(super) fn outcome(run: wasmtime::Result<Result<(), ()>>) -> wasmtime::Result<Result<(), String>> {
    let status = match run {
        Ok(Ok(())) => 0,
        Ok(Err(())) => 1,
        Err(error) => error.downcast::<I32Exit>()?.0,
    };
    Ok(if status == 0 { Ok(()) } else { Err(format!("the guest exited with status {status}")) })
}
