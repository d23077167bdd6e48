//! Pools: room for guests, and the engine that runs them there.
//!
//! There are never more guests than connections, whatever their plugins. So all plugins whose
//! guests fit into the same places share one pool: a reloaded plugin finds its pool ready, and
//! fifty plugins take no more room than one.
//!
//! A guest with tasks of its own (WASI 0.3) may take one stack for each of its instances that wait
//! for each other. So such plugins have separate pools: one that takes all stacks takes only its
//! own.

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

/// Room for the trial guest of a plugin before it serves, one plugin at a time, when all
/// connections have their guests.
const TRIAL: u32 = 1;

/// Bytes of each guest's memory that a pool keeps mapped for later guests. With fewer than the
/// pages that they write, guests of Go or QuickJS take half as much time again. The largest known
/// guest (Python) starts with 13 MiB.
const KEPT_EACH: RangeInclusive<usize> = 4 << 20..=16 << 20;

/// The divisor of this process's memory for the most that a pool keeps in total, if that is more
/// than the least. There may be two pools, and a successor.
const KEPT_PART: u64 = 4;

/// All pools: like the number of connections they concern the process, not one plugin.
static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());

/// An engine with room for a guest on every connection.
#[derive(Debug)]
pub(crate) struct Pool {
    shape: Shape,
    pub(crate) engine: Engine,
    /// The mappings of its guests.
    pub(crate) mappings: Arc<Holding>,
    pub(crate) clock: Arc<Clock>,
}

/// The properties that distinguish pools.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    concurrency: Concurrency,
    /// The only plugin of the pool, if it is not shared.
    owner: Option<PathBuf>,
    guests: NonZeroU32,
    memories_each: u32,
    tables_each: u32,
    /// The most elements of a table.
    elements: usize,
    /// The most bytes of a memory.
    memory: usize,
    /// Bytes of each memory that stay mapped.
    kept: usize,
    /// Whether the kept memory is cleared whole, without asking which pages were written.
    cleared_whole: bool,
}

/// The needs of one guest of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    /// Linear memories.
    pub(crate) memories: u32,
    /// The initial bytes of the largest memory.
    pub(crate) initial_memory: u64,
    pub(crate) tables: u32,
    /// The initial elements of the largest table.
    pub(crate) elements: u64,
}

impl Needs {
    pub(super) fn of(code: &Code) -> Self {
        // Modules that only a guest instantiates are not known here. If they do not fit, the trial
        // guest fails.
        let required = match code {
            Code::Component(component) => component.resources_required(),
            Code::Lowered(module) | Code::Module(module) => Some(module.resources_required()),
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

/// The default number of bytes kept of each guest's memory, in whole MiB, so that small differences
/// in a machine's memory do not make another pool.
fn fitting(memory: u64, guests: NonZeroU32) -> usize {
    let each = (memory / KEPT_PART / u64::from(guests.get())) >> 20 << 20;
    usize::try_from(each).unwrap_or(usize::MAX).clamp(*KEPT_EACH.start(), *KEPT_EACH.end())
}

impl Pool {
    /// Room for this many guests of the plugin at this path: an existing pool, or else a new one.
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

    /// A hint for a plugin whose guests would start in half the time if more of each were kept.
    pub(super) fn advice(&self, needs: &Needs) -> Option<String> {
        // Each memory keeps as much as the largest.
        let whole = needs.initial_memory.saturating_mul(needs.memories.into()).next_multiple_of(1 << 20);
        let guests = machine::memory() / KEPT_PART / whole.max(1);
        (needs.initial_memory > self.shape.kept as u64 && whole <= *KEPT_EACH.end() as u64 && guests > 0).then(|| {
            format!(
                "each of its guests starts with {mib} MiB, of which the host keeps {} for the next one: with \
                 --max-connections {guests} or less it keeps all, and guests start faster (interpreters in half the time); \
                 --guest-memory-kept {mib}MiB does the same, but takes this memory for as many guests as ever run at once",
                (self.shape.kept as u64 * u64::from(needs.memories)) >> 20,
                mib = whole >> 20,
            )
        })
    }
}

impl Shape {
    fn of(guests: NonZeroU32, plugin: &Path, needs: &Needs, concurrency: Concurrency, limits: &Limits) -> Self {
        /// For a guest of this size, asking for its few written pages is cheaper than clearing it
        /// whole.
        const SMALL: usize = 4 << 20;
        /// Room for the tables of all known guests, which reserve address space only. The largest
        /// (Python) starts with 5,704.
        const MOST_ELEMENTS: usize = 16 << 10;

        let memories_each = needs.memories;
        let initial = usize::try_from(needs.initial_memory).unwrap_or(usize::MAX);
        let elements = usize::try_from(needs.elements).unwrap_or(usize::MAX);
        // Memory that stays mapped between guests is cleared by hand. The kernel would have to
        // interrupt every other processor to unmap it. If all of a guest's memory can be kept, it
        // is cleared whole. Otherwise the kernel reports which pages were written, and the rest is
        // unmapped.
        let kept =
            limits.guest_memory_kept.unwrap_or_else(|| fitting(machine::memory(), guests)) / memories_each as usize;
        Self {
            concurrency,
            owner: (concurrency == Concurrency::Concurrent).then(|| plugin.to_owned()),
            guests,
            memories_each,
            // In steps, so that plugins of one toolchain have the same shape.
            tables_each: needs.tables.max(1).next_multiple_of(4),
            // Room to grow, within `memory`.
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
            // The host's own memory for an instance; the largest known plugin needs a tenth of it.
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
    fn plugins_of_the_same_shape_share_a_pool() {
        let small = pool(3, &SMALL, &keeping(4));
        assert!(Arc::ptr_eq(&small, &pool(3, &SMALL, &keeping(4))));
        assert!(Arc::ptr_eq(&small, &pool(3, &LARGE, &keeping(4))), "both are covered");
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
        // A lookup holds each pool for a moment.
        while pool.strong_count() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn plugins_that_may_take_many_stacks_do_not_share_them() {
        let guests = NonZeroU32::new(3).unwrap();
        let of = |path: &str, concurrency| {
            Pool::with_room_for(guests, Path::new(path), &SMALL, concurrency, &keeping(4)).unwrap()
        };
        assert!(!Arc::ptr_eq(&of("one", Concurrency::Concurrent), &of("other", Concurrency::Concurrent)));
        let one = of("one", Concurrency::Concurrent);
        assert!(Arc::ptr_eq(&one, &of("one", Concurrency::Concurrent)), "loaded again");
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
    fn advice_is_given_for_guests_whose_memory_is_kept_in_part() {
        let said = pool(2, &LARGE, &keeping(4)).advice(&LARGE).unwrap();
        assert!(
            said.contains("starts with 13 MiB, of which the host keeps 4")
                && said.contains("--guest-memory-kept 13MiB"),
            "{said}"
        );
        assert_eq!(pool(2, &LARGE, &keeping(13)).advice(&LARGE), None);
        assert_eq!(pool(2, &SMALL, &keeping(4)).advice(&SMALL), None);
        let largest = Needs { initial_memory: 17 << 20, ..LARGE };
        assert_eq!(pool(2, &largest, &keeping(4)).advice(&largest), None, "the default does not keep so much");
        let two = Needs { memories: 2, initial_memory: 6 << 20, ..LARGE };
        let said = pool(2, &two, &keeping(8)).advice(&two).unwrap();
        assert!(said.contains("starts with 12 MiB, of which the host keeps 8"), "{said}");
        assert_eq!(pool(2, &two, &keeping(12)).advice(&two), None);
    }
}
