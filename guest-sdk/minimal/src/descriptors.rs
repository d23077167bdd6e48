//! The functions of the C library that the standard library calls on a panic, with only the
//! descriptors of standard output and error.
#![expect(unsafe_code, reason = "this is the interface of C")]

use std::{
    ffi::{CStr, CString, c_char, c_int},
    ptr, slice,
    sync::OnceLock,
};

mod bindings {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the WIT files are the documentation")]

    wit_bindgen::generate!({
        inline: "
            package uninterruptible:guest-minimal;
            world guest {
                import wasi:cli/environment@0.2.0;
                import wasi:cli/stdout@0.2.0;
                import wasi:cli/stderr@0.2.0;
            }
        ",
        path: ["../../wit/0.2/deps/io", "wit/cli"],
        generate_all,
    });
}

use bindings::wasi::cli::{environment::get_environment, stderr::get_stderr, stdout::get_stdout};

/// The most bytes that the host takes at once.
const LARGEST_WRITE: usize = 4096;

/// Writes to the host's log. Returns whether the host took the bytes.
fn say(descriptor: c_int, bytes: &[u8]) -> bool {
    let stream = match descriptor {
        1 => get_stdout(),
        2 => get_stderr(),
        _ => panic!(
            "a write to a file or a socket of the standard library's, which uninterruptible-guest-minimal takes away"
        ),
    };
    bytes.chunks(LARGEST_WRITE).all(|piece| stream.blocking_write_and_flush(piece).is_ok())
}

/// A piece of a write: `struct iovec`.
#[repr(C)]
struct Piece {
    base: *const u8,
    length: usize,
}

/// `write(2)`, which takes all bytes or fails.
///
/// # Safety
///
/// `length` bytes can be read at `base`.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, base: *const u8, length: usize) -> isize {
    // SAFETY: promised by the caller. The pointer is not null if there are bytes.
    let bytes = if length == 0 { &[] } else { unsafe { slice::from_raw_parts(base, length) } };
    if say(descriptor, bytes) { length.cast_signed() } else { -1 }
}

/// `writev(2)`, which takes one piece.
///
/// # Safety
///
/// `count` pieces can be read at `pieces`, and the bytes of each.
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(descriptor: c_int, pieces: *const Piece, count: c_int) -> isize {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: promised by the caller.
    let pieces = if count == 0 { &[] } else { unsafe { slice::from_raw_parts(pieces, count) } };
    match pieces.iter().find(|piece| piece.length > 0) {
        // SAFETY: promised by the caller.
        Some(piece) => unsafe { write(descriptor, piece.base, piece.length) },
        None => 0,
    }
}

/// `getenv(3)`.
///
/// # Safety
///
/// `name` ends with a NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn getenv(name: *const c_char) -> *const c_char {
    static ENVIRONMENT: OnceLock<Vec<(String, CString)>> = OnceLock::new();
    let variables = ENVIRONMENT.get_or_init(|| {
        let given = get_environment().into_iter();
        given.filter_map(|(name, value)| Some((name, CString::new(value).ok()?))).collect()
    });
    // SAFETY: promised by the caller.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let found = variables.iter().find(|(given, _)| given.as_bytes() == name);
    found.map_or(ptr::null(), |(_, value)| value.as_ptr())
}
