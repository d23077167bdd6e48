//! What the standard library calls of the C library to say something, with no descriptors but those of standard output and error.
#![allow(unsafe_code, reason = "this is the interface of C")]

use std::{
    ffi::{c_char, c_int},
    ptr, slice,
};

mod bindings {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the WIT files are the documentation")]

    wit_bindgen::generate!({
        inline: "
            package uninterruptible:guest-minimal;
            world guest {
                import wasi:cli/stdout@0.2.0;
                import wasi:cli/stderr@0.2.0;
            }
        ",
        path: ["../../wit/0.2/deps/io", "wit/cli"],
        generate_all,
    });
}

use bindings::wasi::cli::{stderr::get_stderr, stdout::get_stdout};

/// The most that the host takes at once.
const LARGEST_WRITE: usize = 4096;

fn say(descriptor: c_int, bytes: &[u8]) {
    let stream = match descriptor {
        1 => get_stdout(),
        2 => get_stderr(),
        _ => panic!(
            "this plugin has no files, since it names uninterruptible-guest-minimal: with that taken out, it has"
        ),
    };
    for piece in bytes.chunks(LARGEST_WRITE) {
        // Where the host does not listen, nobody can be told so.
        drop(stream.blocking_write_and_flush(piece));
    }
}

/// A piece of what is written: `struct iovec`.
#[repr(C)]
struct Piece {
    base: *const u8,
    length: usize,
}

/// `write(2)`, of which all that it takes is said.
///
/// # Safety
///
/// `length` bytes can be read at `base`.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, base: *const u8, length: usize) -> isize {
    if length > 0 {
        // SAFETY: as the caller has promised, and so it is no null pointer.
        say(descriptor, unsafe { slice::from_raw_parts(base, length) });
    }
    length.cast_signed()
}

/// `writev(2)`.
///
/// # Safety
///
/// `count` pieces can be read at `pieces`, and the bytes of each.
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(descriptor: c_int, pieces: *const Piece, count: c_int) -> isize {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: as the caller has promised.
    let pieces = if count == 0 { &[] } else { unsafe { slice::from_raw_parts(pieces, count) } };
    // SAFETY: as the caller has promised.
    pieces.iter().map(|piece| unsafe { write(descriptor, piece.base, piece.length) }).sum()
}

/// `getenv(3)` where there is no environment.
#[unsafe(no_mangle)]
extern "C" fn getenv(_name: *const c_char) -> *const c_char {
    ptr::null()
}
