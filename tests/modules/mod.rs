//! Programs that are core modules of WASI 0.1, as C, Go, Zig and many other languages make them.
//! The host serves them as they are. The programs in `programs/wasi-0.1`, which `conformance` runs,
//! show what each function does.

mod c;
mod calls;
mod serving;

use std::{
    fs,
    path::{Path, PathBuf},
};

const READ: &str = r#"(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))"#;

const WRITE: &str =
    r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;

const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

/// The minimal program of all those languages: a module that reads once, and writes the same bytes.
pub fn parrot(memory: &str) -> String {
    format!(
        r#"(module {READ} {WRITE} {EXIT}
            (memory (export "memory") {memory})
            (data (i32.const 0) "\10\00\00\00\00\10\00\00")
            (func (export "_start")
                (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
                    (then (call $exit (i32.const 1))))
                (i32.store (i32.const 4) (i32.load (i32.const 8)))
                (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
                    (then (call $exit (i32.const 1))))))"#
    )
}

pub fn module(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("parrot.wasm");
    fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path
}
