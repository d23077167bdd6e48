//! Programs of WASI 0.1: core modules that export `_start`, run as they are. This is all of
//! `wasi_snapshot_preview1`: the connection as standard input and output, the log as standard
//! error, the granted directories under the rules of `sandboxed_dir`, clocks and random numbers.
//!
//! ```text
//! mod      a program's state; linking and running it
//!   ├► memory, errno      its memory, checked; the numbers of errors
//!   ├► descriptors        its table of descriptors
//!   ├► connection, files  reading and writing
//!   ├► paths, listing     names in granted directories
//!   └► poll, process      waiting; arguments, environment, clocks, its end
//! ```
//!
//! A call that need not wait completes in its first poll. Bytes move between a program's memory and
//! the socket without a copy.

mod connection;
mod descriptors;
mod errno;
mod file_io;
mod listing;
mod memory;
mod paths;
mod poll;
mod process;

use self::{
    descriptors::Descriptors,
    errno::{Answer, Errno, code},
    memory::View,
    process::Strings,
};
use super::{late_start::Learner, state::State};
use crate::{
    component::{
        grants::Granted,
        interfaces::{MEMORY, PREVIEW_1, START},
    },
    wire::Wire,
};
use std::{sync::Arc, time::Instant};
use wasmtime::{Caller, Engine, Extern, ExternType, InstancePre, Linker, Memory, Module, ModuleExport, Store};

/// Bytes that a call moves before it yields to other guests.
const TURN: u32 = 1 << 20;

/// The state of one program.
pub(super) struct Program {
    /// Its memory, found at the first call.
    memory: Option<Memory>,
    descriptors: Descriptors,
    wire: Arc<Wire>,
    learner: Learner,
    /// The origin of its monotonic clock.
    began: Instant,
    /// Kept from the call that returns their sizes.
    arguments: Option<Strings>,
    environment: Option<Strings>,
}

impl Program {
    pub(super) fn new(wire: Arc<Wire>, learner: Learner, granted: &Granted) -> Self {
        Self {
            memory: None,
            descriptors: Descriptors::new(granted),
            wire,
            learner,
            began: Instant::now(),
            arguments: None,
            environment: None,
        }
    }
}

/// The caller's memory and state.
fn parts<'a>(caller: &'a mut Caller<'_, State>) -> Answer<(View<'a>, &'a mut Program)> {
    let (view, state) = memory_and_state(caller)?;
    Ok((view, state.program.as_deref_mut().ok_or(Errno::NOTSUP)?))
}

fn memory_and_state<'a>(caller: &'a mut Caller<'_, State>) -> Answer<(View<'a>, &'a mut State)> {
    let known = caller.data().program.as_ref().and_then(|program| program.memory);
    let memory = match known {
        Some(memory) => memory,
        None => {
            let Some(Extern::Memory(memory)) = caller.get_export(MEMORY) else { return Err(Errno::FAULT) };
            caller.data_mut().program.as_mut().ok_or(Errno::NOTSUP)?.memory = Some(memory);
            memory
        }
    };
    let (bytes, state) = memory.data_and_store_mut(caller);
    Ok((View::new(bytes), state))
}

/// A linked program and its start function.
pub(super) struct ProgramPre {
    pre: InstancePre<State>,
    start: ModuleExport,
}

impl ProgramPre {
    pub(super) fn new(engine: &Engine, module: &Module) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        link(&mut linker)?;
        let refused = |why| Err(wasmtime::Error::msg(why));
        match module.get_export(START) {
            Some(ExternType::Func(start)) if start.params().len() + start.results().len() == 0 => {}
            _ => return refused("its _start is not a function that takes and returns nothing"),
        }
        match module.get_export(MEMORY) {
            Some(ExternType::Memory(memory)) if !memory.is_shared() => {}
            _ => return refused("its memory is shared with threads"),
        }
        let Some(start) = module.get_export_index(START) else { return refused("it does not export _start") };
        Ok(Self { pre: linker.instantiate_pre(module)?, start })
    }

    /// Instantiates a program, which runs its module's start section.
    pub(super) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<wasmtime::Instance> {
        store.data_mut().become_program()?;
        self.pre.instantiate_async(store).await
    }

    /// Runs a program to its end.
    pub(super) async fn run(&self, store: &mut Store<State>) -> wasmtime::Result<()> {
        let instance = self.instantiate(store).await?;
        let start = instance.get_module_export(&mut *store, &self.start).and_then(Extern::into_func);
        let start = start.ok_or_else(|| wasmtime::Error::msg("_start is not a function"))?;
        start.typed::<(), ()>(&*store)?.call_async(store, ()).await
    }
}

/// Links all of WASI 0.1.
fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    link_files(linker)?;
    link_paths(linker)?;
    link_process(linker)
}

/// Links a function that never waits.
macro_rules! now {
    ($linker:ident, $name:literal, ($($parameter:ident: $ty:ty),*) => $call:path $(, $argument:ident)*) => {
        $linker.func_wrap(PREVIEW_1, $name, |mut caller: Caller<'_, State>, $($parameter: $ty),*| {
            code($call(&mut caller, $($argument),*))
        })?;
    };
}

/// Links a function that may wait.
macro_rules! later {
    ($linker:ident, $name:literal, ($($parameter:ident: $ty:ty),*) => $call:path $(, $argument:expr)*) => {
        $linker.func_wrap_async(PREVIEW_1, $name, |mut caller: Caller<'_, State>, ($($parameter,)*): ($($ty,)*)| {
            Box::new(async move { code($call(&mut caller, $($argument),*).await) })
        })?;
    };
}

fn link_files(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    now!(linker, "fd_close", (fd: u32) => descriptors::close, fd);
    now!(linker, "fd_renumber", (from: u32, to: u32) => descriptors::renumber, from, to);
    now!(linker, "fd_fdstat_get", (fd: u32, out: u32) => descriptors::status, fd, out);
    now!(linker, "fd_fdstat_set_flags", (fd: u32, flags: u32) => descriptors::set_flags, fd, flags);
    now!(linker, "fd_fdstat_set_rights", (fd: u32, _base: u64, _inheriting: u64) => descriptors::set_rights, fd);
    now!(linker, "fd_prestat_get", (fd: u32, out: u32) => descriptors::prestat, fd, out);
    now!(linker, "fd_prestat_dir_name", (fd: u32, at: u32, length: u32) => descriptors::prestat_name, fd, at, length);
    now!(linker, "sock_accept", (fd: u32, _flags: u32, _out: u32) => descriptors::not_a_socket, fd);
    now!(
        linker,
        "sock_recv",
        (fd: u32, _spans: u32, _count: u32, _flags: u32, _length: u32, _out: u32) => descriptors::not_a_socket,
        fd
    );
    now!(
        linker,
        "sock_send",
        (fd: u32, _spans: u32, _count: u32, _flags: u32, _length: u32) => descriptors::not_a_socket,
        fd
    );
    now!(linker, "sock_shutdown", (fd: u32, _how: u32) => descriptors::not_a_socket, fd);
    now!(linker, "fd_seek", (fd: u32, offset: i64, whence: u32, out: u32) => file_io::seek, fd, offset, whence, out);
    now!(linker, "fd_tell", (fd: u32, out: u32) => file_io::tell, fd, out);
    later!(linker, "fd_read", (fd: u32, spans: u32, count: u32, out: u32) => connection::read, fd, spans, count, out);
    later!(linker, "fd_write", (fd: u32, spans: u32, count: u32, out: u32) => connection::write, fd, spans, count, out);
    later!(
        linker,
        "fd_pread",
        (fd: u32, spans: u32, count: u32, offset: u64, out: u32) => file_io::read_at,
        fd,
        spans,
        count,
        offset,
        out
    );
    later!(
        linker,
        "fd_pwrite",
        (fd: u32, spans: u32, count: u32, offset: u64, out: u32) => file_io::write_at,
        fd,
        spans,
        count,
        offset,
        out
    );
    later!(linker, "fd_advise", (fd: u32, offset: u64, length: u64, advice: u32) => file_io::advise, fd, offset, length, advice);
    later!(linker, "fd_allocate", (fd: u32, offset: u64, length: u64) => file_io::allocate, fd, offset, length);
    later!(linker, "fd_datasync", (fd: u32) => file_io::sync, fd, file_io::Sync::Data);
    later!(linker, "fd_sync", (fd: u32) => file_io::sync, fd, file_io::Sync::All);
    later!(linker, "fd_filestat_get", (fd: u32, out: u32) => file_io::status, fd, out);
    later!(linker, "fd_filestat_set_size", (fd: u32, size: u64) => file_io::set_size, fd, size);
    later!(
        linker,
        "fd_filestat_set_times",
        (fd: u32, accessed: u64, modified: u64, flags: u32) => file_io::set_times,
        fd,
        file_io::Times { accessed, modified, flags }
    );
    later!(
        linker,
        "fd_readdir",
        (fd: u32, at: u32, length: u32, cookie: u64, out: u32) => listing::read,
        fd,
        memory::Span { at, length },
        cookie,
        out
    );
    Ok(())
}

fn link_paths(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use self::paths::Name;
    later!(linker, "path_create_directory", (fd: u32, at: u32, length: u32) => paths::create_directory, Name { fd, at, length });
    later!(linker, "path_remove_directory", (fd: u32, at: u32, length: u32) => paths::remove_directory, Name { fd, at, length });
    later!(linker, "path_unlink_file", (fd: u32, at: u32, length: u32) => paths::unlink, Name { fd, at, length });
    later!(
        linker,
        "path_filestat_get",
        (fd: u32, follow: u32, at: u32, length: u32, out: u32) => paths::status,
        Name { fd, at, length },
        follow,
        out
    );
    later!(
        linker,
        "path_filestat_set_times",
        (fd: u32, follow: u32, at: u32, length: u32, accessed: u64, modified: u64, flags: u32) => paths::set_times,
        Name { fd, at, length },
        follow,
        file_io::Times { accessed, modified, flags }
    );
    later!(
        linker,
        "path_link",
        (fd: u32, follow: u32, at: u32, length: u32, new_fd: u32, new_at: u32, new_length: u32) => paths::link,
        Name { fd, at, length },
        follow,
        Name { fd: new_fd, at: new_at, length: new_length }
    );
    later!(
        linker,
        "path_open",
        (fd: u32, follow: u32, at: u32, length: u32, open: u32, rights: u64, _inheriting: u64, flags: u32, out: u32)
            => paths::open,
        Name { fd, at, length },
        paths::Opening { follow, open, rights, flags },
        out
    );
    later!(
        linker,
        "path_readlink",
        (fd: u32, at: u32, length: u32, to: u32, room: u32, out: u32) => paths::read_link,
        Name { fd, at, length },
        memory::Span { at: to, length: room },
        out
    );
    later!(
        linker,
        "path_rename",
        (fd: u32, at: u32, length: u32, new_fd: u32, new_at: u32, new_length: u32) => paths::rename,
        Name { fd, at, length },
        Name { fd: new_fd, at: new_at, length: new_length }
    );
    later!(
        linker,
        "path_symlink",
        (target: u32, target_length: u32, fd: u32, at: u32, length: u32) => paths::symlink,
        memory::Span { at: target, length: target_length },
        Name { fd, at, length }
    );
    Ok(())
}

fn link_process(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    now!(linker, "args_sizes_get", (count: u32, size: u32) => process::arguments_sizes, count, size);
    now!(linker, "args_get", (pointers: u32, strings: u32) => process::arguments, pointers, strings);
    now!(linker, "environ_sizes_get", (count: u32, size: u32) => process::environment_sizes, count, size);
    now!(linker, "environ_get", (pointers: u32, strings: u32) => process::environment, pointers, strings);
    now!(linker, "clock_res_get", (clock: u32, out: u32) => process::resolution, clock, out);
    now!(linker, "clock_time_get", (clock: u32, _precision: u64, out: u32) => process::time, clock, out);
    now!(linker, "sched_yield", () => process::proceed);
    now!(linker, "proc_raise", (_signal: u32) => process::unsupported);
    linker.func_wrap(PREVIEW_1, "proc_exit", process::exit)?;
    later!(linker, "random_get", (at: u32, length: u32) => process::random, memory::Span { at, length });
    later!(
        linker,
        "poll_oneoff",
        (from: u32, to: u32, count: u32, out: u32) => poll::poll,
        from,
        to,
        count,
        out
    );
    Ok(())
}
