//! Memory mappings: how many guests take, of the number that the kernel allows a process.
//!
//! A guest for which there are none is refused before it takes any: a process whose last one is gone cannot make threads, nor have
//! more of its own memory, and ends at once with all that it serves.

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

/// For what is not of guests: the program, its libraries, its threads and its heap. A host that has just started has 100.
const OF_THE_PROCESS: u64 = 1024;

/// A stack and its guard page, from the start on.
const OF_A_STACK: u64 = 2;

/// What a guest's memory is mapped as once a guest has had it: before its data, its data, behind it, and what it may still grow into.
const OF_A_MEMORY: u64 = 4;

/// Guests' memories that the engine maps beyond the most guests that there were at once, since it prefers those to others that were used
/// lately.
const SPARE_GUESTS: u64 = 100;

/// What the setting should be for what was loaded last. Like the setting it is about the process, not about one plugin; and so are the next.
static NEEDED: AtomicU64 = AtomicU64::new(0);

/// What all pools have mapped or are about to.
static USED: AtomicU64 = AtomicU64::new(0);

/// The setting when it was last looked at.
static ALLOWED: AtomicU64 = AtomicU64::new(0);

/// What a pool maps for each guest that there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mappings {
    /// As soon as there is the pool.
    at_rest: u64,
    /// Once there is the guest, and from then on.
    live: u64,
}

impl Mappings {
    pub(crate) fn of_a_guest(concurrency: Concurrency, memories: u32) -> Self {
        Self { at_rest: OF_A_STACK * u64::from(concurrency.stacks()), live: OF_A_MEMORY * u64::from(memories) }
    }

    /// What the setting should be for these pools: whichever of them the guests are in, and when a plugin is loaded anew whose guests
    /// fit into none of them.
    pub(super) fn needed(pools: &[Self], guests: NonZeroU32) -> u64 {
        let with_guests = |each: &Self| each.of_pool(guests) + each.live * u64::from(guests.get());
        let another = pools.iter().map(|each| each.of_pool(guests)).max().unwrap_or(0);
        pools.iter().map(with_guests).sum::<u64>() + another + OF_THE_PROCESS
    }

    /// What a pool takes before there are guests.
    fn of_pool(self, guests: NonZeroU32) -> u64 {
        self.at_rest * u64::from(guests.get()) + self.live * SPARE_GUESTS
    }
}

/// The kernel allows fewer mappings than as many guests take as there may be.
#[derive(Debug)]
pub struct Shortage {
    allowed: u64,
    needed: u64,
    fitting: u64,
    wanted: NonZeroU32,
}

impl Shortage {
    /// Whether so many guests at once do not fit, all in the pool that takes the most. To be asked of all pools at once.
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
            "{fitting} guests at once fit, of the {wanted} that --max-connections allows: vm.max_map_count is {allowed}, and should be \
             {needed} (sysctl -w vm.max_map_count={needed}); or lower --max-connections"
        )
    }
}

/// The mappings of one pool, given back with the last of its guests.
#[derive(Debug)]
pub(crate) struct Holding {
    each: Mappings,
    guests: NonZeroU32,
    live: AtomicU64,
    /// Guests for which there are mappings, which stay when a guest goes.
    mapped: AtomicU64,
}

impl Holding {
    /// For so many guests.
    pub(crate) fn new(each: Mappings, guests: NonZeroU32) -> Result<Arc<Self>, Full> {
        take(each.of_pool(guests))?;
        Ok(Arc::new(Self { each, guests, live: AtomicU64::new(0), mapped: AtomicU64::new(0) }))
    }

    /// What each guest takes.
    pub(crate) fn each(&self) -> Mappings {
        self.each
    }

    /// Room for one guest.
    pub(crate) fn room(self: &Arc<Self>) -> Result<Room, Full> {
        let room = Room(Arc::clone(self));
        let live = self.live.fetch_add(1, Ordering::Relaxed) + 1;
        // Two that get here at once may count one too many; it is the next guest's.
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

/// A guest's mappings, for as long as there is the guest.
#[derive(Debug)]
pub(crate) struct Room(Arc<Holding>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// There are no mappings left but those that the process itself may need.
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
    // Somebody may have raised it, which needs no restart.
    let allowed = allowed().unwrap_or(u64::MAX / 2);
    ALLOWED.store(allowed, Ordering::Relaxed);
    fits(allowed).then_some(()).ok_or(Full)
}

/// Whether a guest failed because the system gives this process no more memory, or mappings of it.
pub(crate) fn ran_out(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Full>()
            || cause.downcast_ref() == Some(&Errno::NOMEM)
            || cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()))
    })
}

/// What to do about it.
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

/// `None` where the system does not tell.
fn allowed() -> Option<u64> {
    fs::read_to_string(SETTING).ok()?.trim().parse().ok()
}
