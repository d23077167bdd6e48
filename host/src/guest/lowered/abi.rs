//! The canonical ABI, as far as these imports need it: handles and lists among the parameters,
//! results that are flat, in the guest's memory, or in a block from its allocator.
//!
//! The order of a call is that of the component model, since a guest can observe it: parameters are
//! checked first, then the function does its work, then the place of the result is checked, and
//! only then a resource in it becomes a handle.

use super::Lowered;
use crate::guest::state::{HOSTCALL_BYTES, State};
use bytes::Bytes;
use std::collections::VecDeque;
use wasmtime::{Caller, component::Resource};
use wasmtime_wasi_io::{
    bindings::wasi::io::streams::{Host as _, StreamError as Declared},
    streams::StreamResult,
};

/// No block is needed, or no further one.
pub(super) const NO_BLOCK: i32 = -1;

/// A block is its size, and above that its alignment: what `component::lowering` weaves in.
const SIZE_BITS: u32 = crate::component::lowering::SIZE_BITS;

/// A result that waits for blocks from the guest's allocator.
#[derive(Debug)]
pub(super) enum Pending {
    /// A list in one block.
    List {
        /// The place of its address and length.
        at: u32,
        bytes: Bytes,
        alignment: u32,
        length: u32,
    },
    /// A list whose items are one or two lists of bytes each.
    Lists {
        at: u32,
        length: u32,
        /// The block of the list itself, and the place in it of the next item.
        block: Option<(u32, u32)>,
        items: VecDeque<Bytes>,
    },
}

pub(super) fn trap<T>(why: &str) -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg(why.to_owned()))
}

pub(super) fn lowered(state: &mut State) -> wasmtime::Result<&mut Lowered> {
    state.lowered.as_deref_mut().ok_or_else(|| wasmtime::Error::msg("the guest has no state"))
}

/// The state, for a call that the guest may make now.
pub(super) fn enter<'a>(caller: &'a mut Caller<'_, State>) -> wasmtime::Result<&'a mut State> {
    let state = caller.data_mut();
    if state.lowered.as_ref().is_none_or(|lowered| lowered.closed) {
        return trap("cannot leave component instance");
    }
    Ok(state)
}

/// A resource that the guest lends.
pub(super) fn lent<T: 'static>(state: &mut State, handle: u32) -> wasmtime::Result<Resource<T>> {
    lowered(state)?.handles.lent(handle, 0)
}

/// A resource that the guest gives away.
pub(super) fn given<T: 'static>(state: &mut State, handle: u32) -> wasmtime::Result<Resource<T>> {
    lowered(state)?.handles.remove(handle)
}

/// A handle to a resource that the guest gets.
pub(super) fn handle<T: 'static>(state: &mut State, resource: &Resource<T>) -> wasmtime::Result<u32> {
    lowered(state)?.handles.insert(resource)
}

/// The guest's memory, and the state.
fn memory<'a>(caller: &'a mut Caller<'_, State>) -> wasmtime::Result<(&'a mut [u8], &'a mut State)> {
    let known = caller.data().lowered.as_ref().and_then(|lowered| lowered.memory);
    match known {
        Some(memory) => Ok(memory.data_and_store_mut(caller)),
        None => trap("the guest has no memory"),
    }
}

fn slice(memory: &[u8], at: u32, length: usize) -> Option<&[u8]> {
    memory.get(at as usize..)?.get(..length)
}

fn put(memory: &mut [u8], at: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    match memory.get_mut(at as usize..).and_then(|rest| rest.get_mut(..bytes.len())) {
        Some(place) => {
            place.copy_from_slice(bytes);
            Ok(())
        }
        None => trap("pointer out of bounds"),
    }
}

/// Fails unless a result may be stored there. Call it after the function's work.
fn check(memory: &[u8], at: u32, alignment: u32, size: usize) -> wasmtime::Result<()> {
    if !at.is_multiple_of(alignment) {
        return trap("pointer not aligned");
    }
    match slice(memory, at, size) {
        Some(_) => Ok(()),
        None => trap("pointer out of bounds"),
    }
}

/// A list of bytes among the parameters, for a function that reads it in place.
pub(super) fn list<'a>(
    caller: &'a mut Caller<'_, State>,
    at: u32,
    length: u32,
) -> wasmtime::Result<(&'a [u8], &'a mut State)> {
    let (memory, state) = memory(caller)?;
    let bytes = bytes_of(memory, at, length)?;
    Ok((bytes, state))
}

fn bytes_of(memory: &[u8], at: u32, length: u32) -> wasmtime::Result<&[u8]> {
    let Some(bytes) = slice(memory, at, length as usize) else {
        return trap("list pointer/length out of bounds of memory");
    };
    if length as usize > HOSTCALL_BYTES {
        return trap("too much data is being copied between the host and the guest");
    }
    Ok(bytes)
}

/// A list of handles that the guest lends.
pub(super) fn lent_list<T: 'static>(
    caller: &mut Caller<'_, State>,
    at: u32,
    length: u32,
) -> wasmtime::Result<Vec<Resource<T>>> {
    let (memory, state) = memory(caller)?;
    let bytes = bytes_of(memory, at, length.saturating_mul(4))?;
    if !at.is_multiple_of(4) {
        return trap("list pointer is not aligned");
    }
    let handles = &lowered(state)?.handles;
    let resource = |(others, handle): (usize, &[u8; 4])| handles.lent(u32::from_le_bytes(*handle), others);
    bytes.as_chunks().0.iter().enumerate().map(resource).collect()
}

/// Stores a result of this alignment, which has no padding before its end.
pub(super) fn store(
    caller: &mut Caller<'_, State>,
    at: u32,
    alignment: u32,
    size: usize,
    bytes: &[u8],
) -> wasmtime::Result<()> {
    let (memory, _) = memory(caller)?;
    check(memory, at, alignment, size)?;
    put(memory, at, bytes)
}

/// Stores an optional resource.
pub(super) fn store_option<T: 'static>(
    caller: &mut Caller<'_, State>,
    at: u32,
    resource: Option<Resource<T>>,
) -> wasmtime::Result<()> {
    let (memory, state) = memory(caller)?;
    check(memory, at, 4, 8)?;
    match resource {
        None => put(memory, at, &[0]),
        Some(resource) => {
            let handle = handle(state, &resource)?;
            put(memory, at, &[1])?;
            put(memory, at + 4, &handle.to_le_bytes())
        }
    }
}

/// The result of a stream's function, with the layout of its payload.
fn stream_result<T>(
    caller: &mut Caller<'_, State>,
    at: u32,
    alignment: u32,
    size: usize,
    result: StreamResult<T>,
) -> wasmtime::Result<Option<T>> {
    let result = match result {
        Ok(value) => Ok(value),
        Err(error) => Err(caller.data_mut().table.convert_stream_error(error)?),
    };
    let (memory, state) = memory(caller)?;
    check(memory, at, alignment, size)?;
    let payload = at + alignment;
    match result {
        Ok(value) => {
            put(memory, at, &[0])?;
            Ok(Some(value))
        }
        Err(error) => {
            put(memory, at, &[1])?;
            match error {
                Declared::LastOperationFailed(error) => {
                    let handle = handle(state, &error)?;
                    put(memory, payload, &[0])?;
                    put(memory, payload + 4, &handle.to_le_bytes())?;
                }
                Declared::Closed => put(memory, payload, &[1])?,
            }
            Ok(None)
        }
    }
}

/// Stores `result<_, stream-error>`.
pub(super) fn store_done(caller: &mut Caller<'_, State>, at: u32, result: StreamResult<()>) -> wasmtime::Result<()> {
    stream_result(caller, at, 4, 12, result).map(|_done| ())
}

/// Stores `result<u64, stream-error>`.
pub(super) fn store_number(caller: &mut Caller<'_, State>, at: u32, result: StreamResult<u64>) -> wasmtime::Result<()> {
    match stream_result(caller, at, 8, 16, result)? {
        Some(number) => put(memory(caller)?.0, at + 8, &number.to_le_bytes()),
        None => Ok(()),
    }
}

/// Begins to store `result<list<u8>, stream-error>`.
pub(super) fn store_read(
    caller: &mut Caller<'_, State>,
    at: u32,
    result: StreamResult<Bytes>,
) -> wasmtime::Result<i32> {
    match stream_result(caller, at, 4, 12, result)? {
        Some(bytes) => wait_for_block(caller, at + 4, bytes, 1),
        None => Ok(NO_BLOCK),
    }
}

/// Begins to store a list of items of this size, which is their alignment too; or a string.
pub(super) fn store_list(caller: &mut Caller<'_, State>, at: u32, bytes: Bytes, item: u32) -> wasmtime::Result<i32> {
    check(memory(caller)?.0, at, 4, 8)?;
    wait_for_block(caller, at, bytes, item)
}

/// Begins to store an optional list of bytes, or an optional string.
pub(super) fn store_optional(
    caller: &mut Caller<'_, State>,
    at: u32,
    bytes: Option<impl Into<Bytes>>,
) -> wasmtime::Result<i32> {
    let (memory, _) = memory(caller)?;
    check(memory, at, 4, 12)?;
    put(memory, at, &[u8::from(bytes.is_some())])?;
    match bytes {
        Some(bytes) => wait_for_block(caller, at + 4, bytes.into(), 1),
        None => Ok(NO_BLOCK),
    }
}

/// Begins to store a list whose items are lists of bytes, `width` of them each.
pub(super) fn store_lists(
    caller: &mut Caller<'_, State>,
    at: u32,
    items: VecDeque<Bytes>,
    width: u32,
) -> wasmtime::Result<i32> {
    check(memory(caller)?.0, at, 4, 8)?;
    let count = u32::try_from(items.len())?;
    let pending = Pending::Lists { at, length: count / width, block: None, items };
    ask(caller, pending, u64::from(count) * 8, 4)
}

fn wait_for_block(caller: &mut Caller<'_, State>, at: u32, bytes: Bytes, item: u32) -> wasmtime::Result<i32> {
    let length = u32::try_from(bytes.len())? / item;
    let size = bytes.len() as u64;
    ask(caller, Pending::List { at, bytes, alignment: item, length }, size, item)
}

/// Asks the guest for a block. Until it is there the guest may call no import.
fn ask(caller: &mut Caller<'_, State>, pending: Pending, size: u64, alignment: u32) -> wasmtime::Result<i32> {
    if size >= 1 << SIZE_BITS {
        return trap("the result is too large to copy into the guest");
    }
    let lowered = lowered(caller.data_mut())?;
    lowered.pending = Some(pending);
    lowered.closed = true;
    Ok((alignment << SIZE_BITS | size as u32).cast_signed())
}

/// Stores the next part of the pending result in a block that the guest has made.
pub(super) fn stored(caller: &mut Caller<'_, State>, block: u32) -> wasmtime::Result<i32> {
    let Some(pending) = lowered(caller.data_mut())?.pending.take() else { return trap("no result is pending") };
    let (memory, state) = memory(caller)?;
    let fits = |memory: &[u8], alignment: u32, size: usize| {
        if !block.is_multiple_of(alignment) {
            return trap("realloc return: result not aligned");
        }
        match slice(memory, block, size) {
            Some(_) => Ok(()),
            None => trap("realloc return: beyond end of memory"),
        }
    };
    match pending {
        Pending::List { at, bytes, alignment, length } => {
            fits(memory, alignment, bytes.len())?;
            put(memory, block, &bytes)?;
            put_range(memory, at, block, length)?;
            lowered(state)?.closed = false;
            Ok(NO_BLOCK)
        }
        Pending::Lists { at, length, block: whole, mut items } => {
            let (first, place) = match whole {
                None => {
                    fits(memory, 4, items.len() * 8)?;
                    (block, block)
                }
                Some((first, place)) => {
                    let item = items.pop_front().unwrap_or_default();
                    fits(memory, 1, item.len())?;
                    put(memory, block, &item)?;
                    put_range(memory, place, block, u32::try_from(item.len())?)?;
                    (first, place + 8)
                }
            };
            match items.front().map(Bytes::len) {
                Some(size) => {
                    let pending = Pending::Lists { at, length, block: Some((first, place)), items };
                    ask(caller, pending, size as u64, 1)
                }
                None => {
                    put_range(memory, at, first, length)?;
                    lowered(state)?.closed = false;
                    Ok(NO_BLOCK)
                }
            }
        }
    }
}

fn put_range(memory: &mut [u8], at: u32, first: u32, length: u32) -> wasmtime::Result<()> {
    put(memory, at, &first.to_le_bytes())?;
    put(memory, at + 4, &length.to_le_bytes())
}

/// Takes the handler's result, `result<_, string>`. What cleans up after it may call no import.
pub(super) fn returned(caller: &mut Caller<'_, State>, at: u32) -> wasmtime::Result<()> {
    let (memory, state) = memory(caller)?;
    check(memory, at, 4, 12)?;
    let word = |at: u32| slice(memory, at, 4).and_then(<[u8]>::first_chunk).copied().map(u32::from_le_bytes);
    let result = match slice(memory, at, 1) {
        Some([0]) => Ok(()),
        Some([1]) => {
            let text = word(at + 4).zip(word(at + 8)).and_then(|(first, length)| slice(memory, first, length as usize));
            let Some(text) = text else { return trap("string pointer/length out of bounds of memory") };
            if text.len() > HOSTCALL_BYTES {
                return trap("too much data is being copied between the host and the guest");
            }
            Err(String::from_utf8(text.to_vec())?)
        }
        _ => return trap("invalid expected discriminant"),
    };
    let lowered = lowered(state)?;
    lowered.returned = Some(result);
    lowered.closed = true;
    Ok(())
}
