//! Memory mappings: how many guests use, of the number that the kernel allows a process.
//!
//! A guest is rejected before it takes mappings if too few are left: a process without any cannot
//! create threads or get more memory, and ends at once with all its connections.

use super::engine::Concurrency;
use rustix::io::Errno;
use std::{
    fmt, fs, io,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const SETTING: &str = "/proc/sys/vm/max_map_count";

/// Mappings of everything but guests: the program, its libraries, its threads and its heap. A host
/// that has just started has 100.
const OF_THE_PROCESS: u64 = 1024;

/// Mappings of a stack with its guard page, from the start on.
const OF_A_STACK: u64 = 2;

/// Mappings of a guest's memory after its first use: before its data, its data, after it, and the
/// room to grow.
const OF_A_MEMORY: u64 = 4;

/// Guests' memories that the engine maps beyond the highest number of guests at once, since it
/// prefers fresh ones to those used recently.
const SPARE_GUESTS: u64 = 100;

/// The recommended setting for the last load. Like the setting it concerns the process, not one
/// plugin, and so do the next two.
static NEEDED: AtomicU64 = AtomicU64::new(0);

/// The mappings of all pools, including those about to be made.
static USED: AtomicU64 = AtomicU64::new(0);

/// The setting at the last look.
static ALLOWED: AtomicU64 = AtomicU64::new(0);

/// The mappings of a pool for each possible guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mappings {
    /// From the creation of the pool.
    at_rest: u64,
    /// After the first guest in this place, and from then on.
    live: u64,
}

impl Mappings {
    pub(crate) fn of_a_guest(concurrency: Concurrency, memories: u32) -> Self {
        Self { at_rest: OF_A_STACK * u64::from(concurrency.stacks()), live: OF_A_MEMORY * u64::from(memories) }
    }

    /// The recommended setting for these pools: whichever of them the guests are in, and with a
    /// reload of a plugin whose guests fit into none of them.
    pub(super) fn needed(pools: &[Self], guests: NonZeroU32) -> u64 {
        let with_guests = |each: &Self| each.of_pool(guests) + each.live * u64::from(guests.get());
        let another = pools.iter().map(|each| each.of_pool(guests)).max().unwrap_or(0);
        pools.iter().map(with_guests).sum::<u64>() + another + OF_THE_PROCESS
    }

    /// The mappings of a pool before its first guest.
    fn of_pool(self, guests: NonZeroU32) -> u64 {
        self.at_rest * u64::from(guests.get()) + self.live * SPARE_GUESTS
    }
}

/// The kernel allows fewer mappings than the largest number of guests needs.
#[derive(Debug)]
pub struct Shortage {
    allowed: u64,
    needed: u64,
    fitting: u64,
    wanted: NonZeroU32,
}

impl Shortage {
    /// Checks whether this many guests fit at once, all in the pool that takes the most. Pass all
    /// pools together.
    pub(crate) fn find(pools: &[Mappings], wanted: NonZeroU32) -> Option<Self> {
        let needed = Mappings::needed(pools, wanted);
        NEEDED.store(needed, Ordering::Relaxed);
        let allowed = allowed()?;
        let at_rest: u64 = pools.iter().map(|each| each.of_pool(wanted)).sum();
        let live = pools.iter().map(|each| each.live).max()?;
        let fitting = allowed.saturating_sub(at_rest).saturating_sub(OF_THE_PROCESS) / live;
        (fitting < wanted.get().into()).then_some(Self { allowed, needed, fitting, wanted })
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allowed, needed, fitting, wanted } = self;
        write!(
            f,
            "only {fitting} guests fit at once, of the {wanted} that --max-connections allows: vm.max_map_count is {allowed}, \
             and should be \
             {needed} (sysctl -w vm.max_map_count={needed}); or lower --max-connections"
        )
    }
}

/// The mappings of one pool, released with the last of its guests.
#[derive(Debug)]
pub(crate) struct Holding {
    each: Mappings,
    guests: NonZeroU32,
    live: AtomicU64,
    /// Guests that have been mapped. Their mappings stay when they go.
    mapped: AtomicU64,
}

impl Holding {
    /// The mappings for this many guests.
    pub(crate) fn new(each: Mappings, guests: NonZeroU32) -> Result<Arc<Self>, Full> {
        take(each.of_pool(guests))?;
        Ok(Arc::new(Self { each, guests, live: AtomicU64::new(0), mapped: AtomicU64::new(0) }))
    }

    /// The mappings of each guest.
    pub(crate) fn each(&self) -> Mappings {
        self.each
    }

    /// Takes room for one guest.
    pub(crate) fn room(self: &Arc<Self>) -> Result<Room, Full> {
        let room = Room(Arc::clone(self));
        let live = self.live.fetch_add(1, Ordering::Relaxed) + 1;
        // Two callers at once may count one too many, which the next guest then uses.
        if live > self.mapped.load(Ordering::Relaxed) {
            take(self.each.live)?;
            self.mapped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(room)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mapped = *self.mapped.get_mut();
        USED.fetch_sub(self.each.of_pool(self.guests) + self.each.live * mapped, Ordering::Relaxed);
    }
}

/// The mappings of a guest, for the life of the guest.
#[derive(Debug)]
pub(crate) struct Room(Arc<Holding>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Only the mappings that the process itself may need are left.
#[derive(Debug, thiserror::Error)]
#[error("no room for another guest")]
pub(crate) struct Full;

fn take(mappings: u64) -> Result<(), Full> {
    let fits = |allowed: u64| {
        let after = |used: u64| Some(used + mappings).filter(|after| *after + OF_THE_PROCESS <= allowed);
        USED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).is_ok()
    };
    if fits(ALLOWED.load(Ordering::Relaxed)) {
        return Ok(());
    }
    // An operator may have raised it, which needs no restart.
    let allowed = allowed().unwrap_or(u64::MAX / 2);
    ALLOWED.store(allowed, Ordering::Relaxed);
    fits(allowed).then_some(()).ok_or(Full)
}

/// Whether a guest failed because the system refused this process memory or mappings.
pub(crate) fn ran_out(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Full>()
            || cause.downcast_ref() == Some(&Errno::NOMEM)
            || cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()))
    })
}

/// The remedy.
pub(crate) fn remedy() -> String {
    let needed = NEEDED.load(Ordering::Relaxed);
    match allowed().filter(|allowed| *allowed < needed) {
        Some(allowed) => format!(
            "vm.max_map_count is {allowed}, and should be {needed} (sysctl -w vm.max_map_count={needed}); or lower --max-connections"
        ),
        None => "the system refuses this process more memory: check its limits (ulimit -v, the cgroup's), or lower \
                 --max-connections"
            .to_owned(),
    }
}

/// The setting; `None` if the system does not show it.
fn allowed() -> Option<u64> {
    fs::read_to_string(SETTING).ok()?.trim().parse().ok()
}
