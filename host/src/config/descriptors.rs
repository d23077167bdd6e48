//! How many connections the descriptor limit allows.

use super::{
    error::Error,
    value::{Count, parse},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{fmt, num::NonZeroU32};

/// Descriptors other than connections: listeners, epoll, log, pipes, plugin files and their
/// watches, and those that a restart needs.
const RESERVED: u64 = 56;

/// The admin endpoint: itself, its accept loop's copy, a copy during a restart, and 32 connections.
const OF_ADMIN: u64 = 35;

/// Descriptors that calls of guests with grants may hold for a moment: three for each waiting
/// thread, as a rename needs.
const OF_CALLS: u64 = 3 * 64;

/// For each listener: itself, its accept loop's copy, and a copy during a restart.
const PER_LISTENER: u64 = 3;

/// The default, if the descriptor limit allows it: far above the load of a small service, and half
/// of what `vm.max_map_count` allows (65,530 by default; a live guest takes six to eight mappings).
const DEFAULT_MAX_CONNECTIONS: u32 = 4096;

/// Descriptors that are not for connections. Each draining generation is held by one.
pub(super) fn reserved(listeners: usize, max_draining: NonZeroU32, admin: bool) -> u64 {
    RESERVED + if admin { OF_ADMIN } else { 0 } + PER_LISTENER * listeners as u64 + u64::from(max_draining.get())
}

/// The default is lower than it would be with more descriptors.
#[derive(Clone, Copy, Debug)]
pub struct ReducedDefault {
    to: u32,
    limit: u64,
    needed: u64,
}

impl fmt::Display for ReducedDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, limit, needed } = self;
        write!(
            f,
            "--max-connections is {to} instead of {DEFAULT_MAX_CONNECTIONS}, since the descriptor limit is {limit}; to serve \
             as many, raise it (ulimit -n {needed}, or LimitNOFILE= in the systemd unit)"
        )
    }
}

/// The cap of connections, and the reduction of its default, if any. `granted` is the number of
/// descriptors that a guest may hold beside its connection.
pub(super) fn max_connections(
    asked: Option<&str>,
    reserved: u64,
    granted: u32,
) -> Result<(NonZeroU32, Option<ReducedDefault>), Error> {
    // If the limits cannot be read or raised, nothing can be checked; the accept loop backs off
    // when it reaches them.
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard),
        Ok((soft, _)) => soft,
        Err(_) => u64::MAX,
    };
    let each = u64::from(granted) + 1;
    let reserved = reserved + if granted == 0 { 0 } else { OF_CALLS };
    let room = limit.saturating_sub(reserved) / each;
    match asked {
        Some(text) => {
            let Count(asked) = parse("--max-connections", text)?;
            if u64::from(asked.get()) <= room {
                Ok((asked, None))
            } else {
                let why = if granted == 0 { "" } else { ", since a guest may open granted files and sockets too" };
                let needed = u64::from(asked.get()) * each + reserved;
                Err(Error::Descriptors { asked: asked.get(), limit, room, each: why, needed })
            }
        }
        None => {
            let fitting = u32::try_from(room).map_or(DEFAULT_MAX_CONNECTIONS, |room| room.min(DEFAULT_MAX_CONNECTIONS));
            let needed = u64::from(DEFAULT_MAX_CONNECTIONS) * each + reserved;
            let reduced_default =
                (fitting < DEFAULT_MAX_CONNECTIONS).then_some(ReducedDefault { to: fitting, limit, needed });
            NonZeroU32::new(fitting).map(|fitting| (fitting, reduced_default)).ok_or(Error::NoDescriptors { limit })
        }
    }
}
