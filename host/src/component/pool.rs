//! Pools: room for guests, and the engine that runs them there.
//!
//! There are never more guests than connections, of whichever plugins they are. So all plugins whose guests fit into the same
//! places share one pool: a plugin that is loaded anew finds it made, and fifty plugins take no more room than one.
//!
//! A guest that runs tasks of its own (WASI 0.3) may take as many stacks as it has instances that wait for each other. So those of
//! different plugins are apart: one that takes them all takes them from its own.

use super::{
    code::Code,
    engine::{self, Clock, Concurrency},
    mappings::{Holding, Mappings},
    source::Limits,
};
use crate::system::machine;
use serde::{Deserialize, Serialize};
use std::{
    num::NonZeroU32,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

const WASM_PAGE: usize = 64 << 10;

/// For the guest by which a plugin is tried before it serves, one plugin at a time, when all connections have theirs.
const TRIAL: u32 = 1;

/// What a pool keeps mapped of each guest's memory for guests to come, in bytes. With less than the pages that they write, guests of Go
/// or QuickJS take half as much time again; the largest known guest (Python) starts with 13 MiB.
const KEPT_EACH: RangeInclusive<usize> = 4 << 20..=16 << 20;

/// One part in so many of this process's memory is what all that a pool keeps may come to, where that is more than the least. There
/// may be two pools, and a successor.
const KEPT_PART: u64 = 4;

/// Pools that there are: like the number of connections they are about the process, and not about one plugin.
static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());

/// An engine with room for a guest on every connection.
#[derive(Debug)]
pub(crate) struct Pool {
    shape: Shape,
    pub(crate) engine: Engine,
    /// What its guests take of the mappings that this process may have.
    pub(crate) mappings: Arc<Holding>,
    pub(crate) clock: Arc<Clock>,
}

/// What distinguishes one pool from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    concurrency: Concurrency,
    /// The one plugin for which it is, where it is for one alone.
    owner: Option<PathBuf>,
    guests: NonZeroU32,
    memories_each: u32,
    tables_each: u32,
    /// The most of a table.
    elements: usize,
    /// The most of a memory, in bytes.
    memory: usize,
    /// What stays mapped of each memory, in bytes.
    kept: usize,
    /// Whether that is cleared without asking which pages were written.
    cleared_whole: bool,
}

/// What one guest of a plugin takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    /// Linear memories.
    pub(crate) memories: u32,
    /// Bytes that the largest of them has at the start.
    pub(crate) initial_memory: u64,
    pub(crate) tables: u32,
    /// Elements that the largest of them has at the start.
    pub(crate) elements: u64,
}

impl Needs {
    pub(super) fn of(code: &Code) -> Self {
        // Where modules are instantiated that only a guest knows, nothing is known. What does not fit then is refused when it is tried.
        let required = match code {
            Code::Component(component) => component.resources_required(),
            Code::Module(module) => Some(module.resources_required()),
        };
        Self {
            memories: required.as_ref().map_or(1, |required| required.num_memories.max(1)),
            initial_memory: required
                .as_ref()
                .and_then(|required| required.max_initial_memory_size)
                .unwrap_or(0)
                .saturating_mul(WASM_PAGE as u64),
            tables: required.as_ref().map_or(1, |required| required.num_tables),
            elements: required.and_then(|required| required.max_initial_table_size).unwrap_or(0),
        }
    }
}

/// How much is kept of each of so many guests, where nobody has said it; in whole MiB, so that a little more or less of a machine's
/// memory is no other pool.
fn fitting(memory: u64, guests: NonZeroU32) -> usize {
    let each = (memory / KEPT_PART / u64::from(guests.get())) >> 20 << 20;
    usize::try_from(each).unwrap_or(usize::MAX).clamp(*KEPT_EACH.start(), *KEPT_EACH.end())
}

impl Pool {
    /// Room for so many guests of the plugin with this path: the pool that has it, or else a new one.
    pub(super) fn with_room_for(
        guests: NonZeroU32,
        plugin: &Path,
        needs: &Needs,
        concurrency: Concurrency,
        limits: &Limits,
    ) -> wasmtime::Result<Arc<Self>> {
        let shape = Shape::of(guests, plugin, needs, concurrency, limits);
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        if let Some(pool) = pools.iter().filter_map(Weak::upgrade).find(|pool| pool.shape == shape) {
            return Ok(pool);
        }
        let pool = Arc::new(Self::reserve(shape)?);
        pools.push(Arc::downgrade(&pool));
        Ok(pool)
    }

    fn reserve(shape: Shape) -> wasmtime::Result<Self> {
        let mappings = Holding::new(Mappings::of_a_guest(shape.concurrency, shape.memories_each), shape.places())?;
        let mut config = engine::config(shape.concurrency);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(shape.allocation()));
        let engine = Engine::new(&config)?;
        let clock = Clock::start(engine.weak())?;
        Ok(Self { shape, engine, mappings, clock })
    }

    pub(crate) fn concurrency(&self) -> Concurrency {
        self.shape.concurrency
    }

    /// What to say of a plugin whose guests would start in half the time if more were kept of each.
    pub(super) fn advice(&self, needs: &Needs) -> Option<String> {
        // For each of its memories as much is kept as for the largest.
        let whole = needs.initial_memory.saturating_mul(needs.memories.into()).next_multiple_of(1 << 20);
        let guests = machine::memory() / KEPT_PART / whole.max(1);
        (needs.initial_memory > self.shape.kept as u64 && whole <= *KEPT_EACH.end() as u64 && guests > 0).then(|| {
            format!(
                "each of its guests starts with {mib} MiB, of which {} stay for the next one: with --max-connections {guests} or fewer all \
                 of it does, and guests start faster (interpreters in half the time); so they do with --guest-memory-kept {mib}MiB, for as \
                 many as there ever are at once",
                (self.shape.kept as u64 * u64::from(needs.memories)) >> 20,
                mib = whole >> 20,
            )
        })
    }
}

impl Shape {
    fn of(guests: NonZeroU32, plugin: &Path, needs: &Needs, concurrency: Concurrency, limits: &Limits) -> Self {
        /// A guest of this size writes so few pages that asking for them is cheaper than clearing it whole.
        const SMALL: usize = 4 << 20;
        /// Room for the tables of all known guests, which reserve address space alone; the largest (Python) begins with 5,704.
        const MOST_ELEMENTS: usize = 16 << 10;

        let memories_each = needs.memories;
        let initial = usize::try_from(needs.initial_memory).unwrap_or(usize::MAX);
        let elements = usize::try_from(needs.elements).unwrap_or(usize::MAX);
        // Memory that stays mapped from one guest to the next is cleared by hand instead of by the kernel, which would have to
        // interrupt every other processor to unmap it. Where all of a guest's memory can be kept it is cleared whole; else the
        // kernel is asked which pages were written, and the rest is unmapped.
        let kept =
            limits.guest_memory_kept.unwrap_or_else(|| fitting(machine::memory(), guests)) / memories_each as usize;
        Self {
            concurrency,
            owner: (concurrency == Concurrency::Concurrent).then(|| plugin.to_owned()),
            guests,
            memories_each,
            // In steps, so that plugins of one toolchain have one shape.
            tables_each: needs.tables.max(1).next_multiple_of(4),
            // Room to grow, as far as `memory` lets it.
            elements: elements.saturating_mul(2).max(MOST_ELEMENTS).checked_next_power_of_two().unwrap_or(usize::MAX),
            memory: limits.guest_memory.next_multiple_of(WASM_PAGE),
            kept,
            cleared_whole: initial > SMALL && initial <= kept,
        }
    }

    fn places(&self) -> NonZeroU32 {
        self.guests.saturating_add(TRIAL)
    }

    fn allocation(&self) -> PoolingAllocationConfig {
        let places = self.places().get();
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(places)
            .total_core_instances(u32::MAX)
            .total_stacks(places.saturating_mul(self.concurrency.stacks()))
            .max_core_instances_per_component(u32::MAX)
            // What an instance may need of the host's own memory; the largest known plugin needs a tenth of it.
            .max_core_instance_size(16 << 20)
            .max_component_instance_size(16 << 20)
            .max_memories_per_component(self.memories_each)
            .max_memories_per_module(self.memories_each)
            .total_memories(places.saturating_mul(self.memories_each))
            .max_memory_size(self.memory)
            .max_tables_per_component(self.tables_each)
            .max_tables_per_module(self.tables_each)
            .total_tables(places.saturating_mul(self.tables_each))
            .table_elements(self.elements)
            .linear_memory_keep_resident(self.kept)
            .table_keep_resident(self.elements.saturating_mul(size_of::<usize>()).min(1 << 20))
            .async_stack_keep_resident(64 << 10)
            .pagemap_scan(if !self.cleared_whole && PoolingAllocationConfig::is_pagemap_scan_available() {
                Enabled::Yes
            } else {
                Enabled::No
            });
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SMALL: Needs = Needs { memories: 1, initial_memory: 1_114_112, tables: 2, elements: 89 };
    const LARGE: Needs = Needs { memories: 1, initial_memory: 12_910_592, tables: 2, elements: 5_704 };

    fn keeping(mib: usize) -> Limits {
        Limits {
            guest_memory: 64 << 20,
            guest_memory_kept: Some(mib << 20),
            guest_cpu_time: Duration::from_secs(10),
            guest_resources: 4096,
        }
    }

    fn pool(guests: u32, needs: &Needs, limits: &Limits) -> Arc<Pool> {
        let guests = NonZeroU32::new(guests).unwrap();
        Pool::with_room_for(guests, Path::new("plugin"), needs, Concurrency::Plain, limits).unwrap()
    }

    #[test]
    fn guests_that_fit_into_the_same_places_share_them() {
        let small = pool(3, &SMALL, &keeping(4));
        assert!(Arc::ptr_eq(&small, &pool(3, &SMALL, &keeping(4))));
        assert!(Arc::ptr_eq(&small, &pool(3, &LARGE, &keeping(4))), "both are asked about");
        for other in [
            pool(4, &SMALL, &keeping(4)),
            pool(3, &SMALL, &keeping(5)),
            pool(3, &SMALL, &Limits { guest_memory: 32 << 20, ..keeping(4) }),
            pool(3, &Needs { memories: 2, ..SMALL }, &keeping(4)),
            pool(3, &Needs { tables: 5, ..SMALL }, &keeping(4)),
            pool(3, &Needs { elements: 9_000, ..SMALL }, &keeping(4)),
        ] {
            assert!(!Arc::ptr_eq(&small, &other), "{:?}", other.shape);
        }
        let kept_whole = pool(3, &LARGE, &keeping(13));
        assert!(kept_whole.shape.cleared_whole && !pool(3, &SMALL, &keeping(13)).shape.cleared_whole);
    }

    #[test]
    fn a_pool_without_plugins_is_gone() {
        let pool = Arc::downgrade(&pool(5, &SMALL, &keeping(4)));
        // Whoever looks for one holds each for an instant.
        while pool.strong_count() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn stacks_are_not_shared_by_plugins_that_may_take_many() {
        let guests = NonZeroU32::new(3).unwrap();
        let of = |path: &str, concurrency| {
            Pool::with_room_for(guests, Path::new(path), &SMALL, concurrency, &keeping(4)).unwrap()
        };
        assert!(!Arc::ptr_eq(&of("one", Concurrency::Concurrent), &of("other", Concurrency::Concurrent)));
        let one = of("one", Concurrency::Concurrent);
        assert!(Arc::ptr_eq(&one, &of("one", Concurrency::Concurrent)), "loaded anew");
    }

    #[test]
    fn as_much_is_kept_as_a_part_of_the_memory_allows() {
        let mib = |memory: u64, guests| fitting(memory << 20, NonZeroU32::new(guests).unwrap()) >> 20;
        assert_eq!(mib(24_105, 4096), 4);
        assert_eq!(mib(24_105, 600), 10);
        assert_eq!(mib(24_105, 100), 16);
        assert_eq!(mib(100, 100), 4);
    }

    #[test]
    fn what_would_make_guests_faster_is_said_of_those_that_are_kept_in_part() {
        let said = pool(2, &LARGE, &keeping(4)).advice(&LARGE).unwrap();
        assert!(
            said.contains("starts with 13 MiB, of which 4 stay") && said.contains("--guest-memory-kept 13MiB"),
            "{said}"
        );
        assert_eq!(pool(2, &LARGE, &keeping(13)).advice(&LARGE), None);
        assert_eq!(pool(2, &SMALL, &keeping(4)).advice(&SMALL), None);
        let largest = Needs { initial_memory: 17 << 20, ..LARGE };
        assert_eq!(pool(2, &largest, &keeping(4)).advice(&largest), None, "no default keeps so much");
        let two = Needs { memories: 2, initial_memory: 6 << 20, ..LARGE };
        let said = pool(2, &two, &keeping(8)).advice(&two).unwrap();
        assert!(said.contains("starts with 12 MiB, of which 8 stay"), "{said}");
        assert_eq!(pool(2, &two, &keeping(12)).advice(&two), None);
    }
}
