//! The engine: how plugins are compiled, where guests come from, and the clock that interrupts them.

use super::mappings::{Mappings, Pool};
use crate::config::Limits;
use std::{
    num::NonZeroU32,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, ResourcesRequired,
};

/// How often a running guest is interrupted for a look at the clock; also the longest that one which does not yield delays
/// another on its worker, twice over (`meter`).
pub(super) const TICK: Duration = Duration::from_millis(1);

const WASM_PAGE: usize = 64 << 10;

/// What the pool keeps mapped for guests to come, in bytes: in all, and for each of them, where that leaves too little. With less than
/// the pages that they write, guests of Go or QuickJS take half as much time again; the largest known guest (Python) starts with 13 MiB.
const KEPT_IN_ALL: usize = 1 << 30;
const KEPT_EACH: RangeInclusive<usize> = 4 << 20..=16 << 20;

/// The clock rests when no guest has run for so many ticks.
const REST_AFTER: u32 = 20;

/// Whether the engine can run the component model's own concurrency. It costs every connection 2 to 3 µs, so that only the
/// plugins that use it pay for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concurrency {
    /// WASI 0.2 only.
    Plain,
    /// WASI 0.2 and 0.3, async functions, streams and futures.
    Concurrent,
}

fn config(concurrency: Concurrency) -> Config {
    let concurrent = concurrency == Concurrency::Concurrent;
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(concurrent).wasm_component_model_async(concurrent);
    config
}

impl Concurrency {
    /// How many stacks a guest may need: one whose tasks run concurrently, a second one for what the host does in its memory meanwhile.
    pub(super) fn stacks(self) -> u64 {
        match self {
            Self::Plain => 1,
            Self::Concurrent => 2,
        }
    }
}

/// An engine that compiles, and reads compiled plugins to find out what their guests need.
pub(super) fn compiler(concurrency: Concurrency) -> wasmtime::Result<Engine> {
    Engine::new(&config(concurrency))
}

/// An engine that runs the guests of a plugin, from a pool with room for one on every connection.
#[derive(Clone, Debug)]
pub(super) struct Runtime {
    pub(super) engine: Engine,
    pub(super) concurrency: Concurrency,
    /// What its guests take of the mappings that this process may have.
    pub(super) mappings: Arc<Pool>,
    pub(super) clock: Arc<Clock>,
}

impl Runtime {
    /// Reserves the pool. `required` is what one guest of the plugin needs.
    pub(super) fn new(
        concurrency: Concurrency,
        required: &ResourcesRequired,
        limits: &Limits,
        guests: NonZeroU32,
    ) -> wasmtime::Result<Self> {
        let mut config = config(concurrency);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
            concurrency,
            required,
            limits,
            guests.get(),
        )));
        let mappings = Pool::new(Mappings::of_a_guest(concurrency, required), guests)?;
        let engine = Engine::new(&config)?;
        let clock = Clock::start(engine.weak())?;
        Ok(Self { engine, concurrency, mappings, clock })
    }
}

/// The bytes that the largest memory of a guest has at the start; the engine counts pages.
pub(super) fn initial_memory(required: &ResourcesRequired) -> u64 {
    required.max_initial_memory_size.unwrap_or(0).saturating_mul(WASM_PAGE as u64)
}

fn pool(
    concurrency: Concurrency,
    required: &ResourcesRequired,
    limits: &Limits,
    guests: u32,
) -> PoolingAllocationConfig {
    /// A guest of this size writes so few pages that asking for them is cheaper than clearing it whole.
    const SMALL: usize = 4 << 20;

    let memories_each = required.num_memories.max(1);
    let initial = initial_memory(required);
    let elements = usize::try_from(required.max_initial_table_size.unwrap_or(0)).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        .total_core_instances(u32::MAX)
        .total_stacks(u32::try_from(u64::from(guests) * concurrency.stacks()).unwrap_or(u32::MAX))
        .max_core_instances_per_component(u32::MAX)
        // What an instance may need of the host's own memory; the largest known plugin needs a tenth of it.
        .max_core_instance_size(16 << 20)
        .max_component_instance_size(16 << 20)
        .max_memories_per_component(memories_each)
        .total_memories(guests.saturating_mul(memories_each))
        .max_memory_size(limits.guest_memory.next_multiple_of(WASM_PAGE))
        .max_tables_per_component(required.num_tables.max(1))
        .total_tables(guests.saturating_mul(required.num_tables.max(1)))
        // Room to grow, as far as `memory` lets it.
        .table_elements(elements.saturating_mul(2).max(1024));
    // Memory that stays mapped from one guest to the next is cleared by hand instead of by the kernel, which would have to
    // interrupt every other processor to unmap it. Where all of a guest's memory can be kept it is cleared whole; else the
    // kernel is asked which pages were written, and the rest is unmapped.
    let initial = usize::try_from(initial).unwrap_or(usize::MAX);
    let fitting = (KEPT_IN_ALL / guests as usize).clamp(*KEPT_EACH.start(), *KEPT_EACH.end());
    let kept = limits.guest_memory_kept.unwrap_or(fitting) / memories_each as usize;
    let whole = initial > SMALL && initial <= kept;
    pool.linear_memory_keep_resident(kept)
        .table_keep_resident(elements.saturating_mul(size_of::<usize>()).clamp(4 << 10, 1 << 20))
        .async_stack_keep_resident(64 << 10)
        .pagemap_scan(if !whole && PoolingAllocationConfig::is_pagemap_scan_available() {
            Enabled::Yes
        } else {
            Enabled::No
        });
    pool
}

/// Advances the epoch while guests run, and rests while they wait.
#[derive(Debug)]
pub(super) struct Clock {
    running: Arc<AtomicBool>,
    resting: Arc<AtomicBool>,
    thread: Thread,
}

impl Clock {
    /// To be called when a guest begins to run, and at each tick that finds it running.
    pub(super) fn guest_runs(&self) {
        if !self.running.load(Ordering::SeqCst) {
            self.running.store(true, Ordering::SeqCst);
        }
        // The clock says that it rests before it looks for the last time whether a guest runs, so that one of the two is seen.
        if self.resting.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    fn start(engine: EngineWeak) -> wasmtime::Result<Arc<Self>> {
        let running = Arc::new(AtomicBool::new(false));
        let resting = Arc::new(AtomicBool::new(false));
        let (runs, rests) = (Arc::clone(&running), Arc::clone(&resting));
        let thread = thread::Builder::new().name("epochs".into()).spawn(move || {
            let mut idle = 0;
            loop {
                idle = if runs.swap(false, Ordering::SeqCst) { 0 } else { idle + 1 };
                if idle < REST_AFTER {
                    thread::park_timeout(TICK);
                } else {
                    rests.store(true, Ordering::SeqCst);
                    if !runs.load(Ordering::SeqCst) {
                        // Wakes once a second all the same, to notice when the engine is gone.
                        thread::park_timeout(Duration::from_secs(1));
                    }
                    rests.store(false, Ordering::SeqCst);
                }
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Arc::new(Self { running, resting, thread: thread.thread().clone() }))
    }
}
