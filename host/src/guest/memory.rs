//! The limit on a guest's memory: the sum over all linear memories and tables of all its modules.

use crate::component::mappings::{Full, Room};
use std::fmt;
use wasmtime::ResourceLimiter;

/// The most elements of all tables together; the largest known guest (Python) has some 9,000.
const TABLE_ELEMENTS: usize = 200_000;

/// The most core instances, memories and tables; the largest known guest (Python) has 14 core
/// modules.
const ITEMS: usize = 256;

/// The memory of one guest, and its limits.
#[derive(Debug)]
pub(super) struct Memory {
    used: usize,
    cap: usize,
    /// Added by the current growth, in case it fails.
    growth: usize,
    table_elements: usize,
    /// The room for its mappings, or the reason why there is none.
    room: Result<Room, Full>,
    /// The last rejected request.
    pub(super) refused: Option<Refused>,
}

/// A rejected request of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Bytes of memory in total.
    Memory { wanted: u64, allowed: u64 },
    /// Table elements in total.
    Tables { wanted: u64 },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { wanted, allowed } => write!(
                f,
                "the guest wanted {} of memory, and --guest-memory allows {}",
                mebibytes(*wanted),
                mebibytes(*allowed)
            ),
            Self::Tables { wanted } => {
                write!(f, "the guest wanted {wanted} table elements, and {TABLE_ELEMENTS} is the fixed limit")
            }
        }
    }
}

/// A size for people.
pub(crate) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

impl Memory {
    pub(super) fn new(cap: usize, room: Result<Room, Full>) -> Self {
        Self { used: 0, cap, growth: 0, table_elements: 0, room, refused: None }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if self.room.is_err() {
            return Err(Full.into());
        }
        let growth = desired.saturating_sub(current);
        let fits = self.used.checked_add(growth).is_some_and(|total| total <= self.cap);
        if fits {
            self.used += growth;
            self.growth = growth;
        } else {
            let wanted = self.used.saturating_add(growth) as u64;
            self.refused = Some(Refused::Memory { wanted, allowed: self.cap as u64 });
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used -= std::mem::take(&mut self.growth);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        let fits = total <= TABLE_ELEMENTS;
        if fits {
            self.table_elements = total;
        } else {
            self.refused = Some(Refused::Tables { wanted: total as u64 });
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        ITEMS
    }

    fn tables(&self) -> usize {
        ITEMS
    }

    fn memories(&self) -> usize {
        ITEMS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::{
        engine::Concurrency,
        mappings::{Holding, Mappings},
    };
    use std::num::NonZeroU32;

    fn memory() -> Memory {
        let holding = Holding::new(Mappings::of_a_guest(Concurrency::Plain, 1), NonZeroU32::MIN).unwrap();
        Memory::new(100, holding.room())
    }

    #[test]
    fn the_limit_covers_all_memories_together() {
        let mut memory = memory();
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(!memory.memory_growing(0, 60, None).unwrap());
        assert_eq!(memory.refused, Some(Refused::Memory { wanted: 120, allowed: 100 }));
        assert!(memory.memory_growing(60, 100, None).unwrap());
    }

    #[test]
    fn failed_growth_is_not_counted() {
        let mut memory = memory();
        assert!(memory.memory_growing(0, 100, None).unwrap());
        memory.memory_grow_failed(wasmtime::Error::msg("out of slots")).unwrap();
        assert!(memory.memory_growing(0, 100, None).unwrap());
    }
}
