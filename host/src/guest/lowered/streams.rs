//! `wasi:io`: streams, pollables, errors.

use super::abi::{enter, given, handle, lent, lent_list, list, store_done, store_list, store_number, store_read};
use crate::guest::{link, state::State};
use bytes::Bytes;
use wasmtime::{Caller, component::Resource};
use wasmtime_wasi_io::{
    bindings::wasi::io::{
        error::HostError,
        poll::{Host as _, HostPollable},
        streams::{HostInputStream, HostOutputStream},
    },
    poll::{DynPollable, subscribe},
    streams::{DynInputStream, DynOutputStream, Error, StreamError, StreamResult},
};

type Guest<'a> = Caller<'a, State>;

/// The most bytes of a call that writes and flushes.
const MOST_AT_ONCE: u32 = 4096;

fn length(length: u64) -> usize {
    length.try_into().unwrap_or(usize::MAX)
}

fn input<'a>(guest: &'a mut Guest<'_>, this: u32) -> wasmtime::Result<StreamResult<&'a mut DynInputStream>> {
    let state = enter(guest)?;
    let stream = lent(state, this)?;
    Ok(state.table.get_mut(&stream).map_err(StreamError::from))
}

fn output<'a>(guest: &'a mut Guest<'_>, this: u32) -> wasmtime::Result<StreamResult<&'a mut DynOutputStream>> {
    let state = enter(guest)?;
    let stream = lent(state, this)?;
    Ok(state.table.get_mut(&stream).map_err(StreamError::from))
}

pub(super) fn read(guest: &mut Guest<'_>, this: u32, most: u64, out: u32) -> wasmtime::Result<i32> {
    let read = input(guest, this)?.and_then(|stream| stream.read(length(most)));
    store_read(guest, out, read)
}

pub(super) async fn blocking_read(guest: &mut Guest<'_>, this: u32, most: u64, out: u32) -> wasmtime::Result<i32> {
    let read = match input(guest, this)? {
        Ok(stream) => stream.blocking_read(length(most)).await,
        Err(error) => Err(error),
    };
    store_read(guest, out, read)
}

pub(super) fn skip(guest: &mut Guest<'_>, this: u32, most: u64, out: u32) -> wasmtime::Result<()> {
    let skipped = input(guest, this)?.and_then(|stream| stream.skip(length(most)));
    store_number(guest, out, skipped.map(|count| count as u64))
}

pub(super) async fn blocking_skip(guest: &mut Guest<'_>, this: u32, most: u64, out: u32) -> wasmtime::Result<()> {
    let skipped = match input(guest, this)? {
        Ok(stream) => stream.blocking_skip(length(most)).await,
        Err(error) => Err(error),
    };
    store_number(guest, out, skipped.map(|count| count as u64))
}

pub(super) fn subscribe_input(guest: &mut Guest<'_>, this: u32) -> wasmtime::Result<u32> {
    let state = enter(guest)?;
    let stream = lent::<DynInputStream>(state, this)?;
    let pollable = subscribe(&mut state.table, stream)?;
    handle(state, &pollable)
}

pub(super) async fn drop_input(guest: &mut Guest<'_>, this: u32) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let stream = given(state, this)?;
    HostInputStream::drop(&mut state.table, stream).await
}

pub(super) fn check_write(guest: &mut Guest<'_>, this: u32, out: u32) -> wasmtime::Result<()> {
    let room = output(guest, this)?.and_then(|stream| stream.check_write());
    store_number(guest, out, room.map(|count| count as u64))
}

/// The stream to write to, and the bytes.
fn written<'a>(
    guest: &'a mut Guest<'_>,
    this: u32,
    at: u32,
    count: u32,
) -> wasmtime::Result<(StreamResult<&'a mut DynOutputStream>, Bytes)> {
    let stream = lent(enter(guest)?, this)?;
    let (bytes, state) = list(guest, at, count)?;
    let bytes = Bytes::copy_from_slice(bytes);
    Ok((state.table.get_mut(&stream).map_err(StreamError::from), bytes))
}

pub(super) fn write(guest: &mut Guest<'_>, this: u32, at: u32, count: u32, out: u32) -> wasmtime::Result<()> {
    let (stream, bytes) = written(guest, this, at, count)?;
    let done = stream.and_then(|stream| stream.write(bytes));
    store_done(guest, out, done)
}

fn too_large(function: &str) -> StreamError {
    StreamError::Trap(wasmtime::Error::msg(format!(
        "Buffer too large for {function} (expected at most {MOST_AT_ONCE})"
    )))
}

pub(super) async fn blocking_write_and_flush(
    guest: &mut Guest<'_>,
    this: u32,
    at: u32,
    count: u32,
    out: u32,
) -> wasmtime::Result<()> {
    let done = match written(guest, this, at, count)? {
        _ if count > MOST_AT_ONCE => Err(too_large("blocking-write-and-flush")),
        (Ok(stream), bytes) => stream.blocking_write_and_flush(bytes).await,
        (Err(error), _) => Err(error),
    };
    store_done(guest, out, done)
}

pub(super) fn flush(guest: &mut Guest<'_>, this: u32, out: u32) -> wasmtime::Result<()> {
    let done = output(guest, this)?.and_then(|stream| stream.flush());
    store_done(guest, out, done)
}

pub(super) async fn blocking_flush(guest: &mut Guest<'_>, this: u32, out: u32) -> wasmtime::Result<()> {
    let done = match output(guest, this)? {
        Ok(stream) => match stream.flush() {
            Ok(()) => stream.write_ready().await.map(drop),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    store_done(guest, out, done)
}

pub(super) fn subscribe_output(guest: &mut Guest<'_>, this: u32) -> wasmtime::Result<u32> {
    let state = enter(guest)?;
    let stream = lent::<DynOutputStream>(state, this)?;
    let pollable = subscribe(&mut state.table, stream)?;
    handle(state, &pollable)
}

pub(super) fn write_zeroes(guest: &mut Guest<'_>, this: u32, count: u64, out: u32) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let stream = lent(state, this)?;
    let done = HostOutputStream::write_zeroes(&mut state.table, stream, count);
    store_done(guest, out, done)
}

pub(super) async fn blocking_write_zeroes(
    guest: &mut Guest<'_>,
    this: u32,
    count: u64,
    out: u32,
) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let stream = lent(state, this)?;
    let done = HostOutputStream::blocking_write_zeroes_and_flush(&mut state.table, stream, count).await;
    store_done(guest, out, done)
}

pub(super) fn splice(guest: &mut Guest<'_>, this: u32, from: u32, most: u64, out: u32) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let (to, from) = both(state, this, from)?;
    let count = HostOutputStream::splice(&mut state.table, to, from, most);
    store_number(guest, out, count)
}

pub(super) async fn blocking_splice(
    guest: &mut Guest<'_>,
    this: u32,
    from: u32,
    most: u64,
    out: u32,
) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let (to, from) = both(state, this, from)?;
    let count = HostOutputStream::blocking_splice(&mut state.table, to, from, most).await;
    store_number(guest, out, count)
}

type Streams = (Resource<DynOutputStream>, Resource<DynInputStream>);

fn both(state: &mut State, to: u32, from: u32) -> wasmtime::Result<Streams> {
    let handles = &super::abi::lowered(state)?.handles;
    Ok((handles.lent(to, 0)?, handles.lent(from, 1)?))
}

pub(super) async fn drop_output(guest: &mut Guest<'_>, this: u32) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let stream = given(state, this)?;
    HostOutputStream::drop(&mut state.table, stream).await
}

pub(super) async fn ready(guest: &mut Guest<'_>, this: u32) -> wasmtime::Result<u32> {
    let state = enter(guest)?;
    let pollable = lent(state, this)?;
    link::is_ready(state, pollable).await.map(u32::from)
}

pub(super) async fn block(guest: &mut Guest<'_>, this: u32) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let pollable = lent(state, this)?;
    HostPollable::block(&mut state.table, pollable).await
}

pub(super) async fn poll(guest: &mut Guest<'_>, at: u32, count: u32, out: u32) -> wasmtime::Result<i32> {
    enter(guest)?;
    let pollables = lent_list::<DynPollable>(guest, at, count)?;
    let ready = guest.data_mut().table.poll(pollables).await?;
    let bytes: Vec<u8> = ready.into_iter().flat_map(u32::to_le_bytes).collect();
    store_list(guest, out, bytes.into(), 4)
}

pub(super) fn drop_pollable(guest: &mut Guest<'_>, this: u32) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let pollable = given(state, this)?;
    HostPollable::drop(&mut state.table, pollable)
}

pub(super) fn to_debug_string(guest: &mut Guest<'_>, this: u32, out: u32) -> wasmtime::Result<i32> {
    let state = enter(guest)?;
    let error = lent::<Error>(state, this)?;
    let text = HostError::to_debug_string(&mut state.table, error)?;
    store_list(guest, out, text.into(), 1)
}

pub(super) fn drop_error(guest: &mut Guest<'_>, this: u32) -> wasmtime::Result<()> {
    let state = enter(guest)?;
    let error = given(state, this)?;
    HostError::drop(&mut state.table, error)
}
