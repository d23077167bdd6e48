//! The handles of one guest: small numbers for the resources that it owns.
//!
//! As in the engine's own table, the type of a resource is checked when it is used: `ResourceTable`
//! knows it.

/// A number that no handle has; the component model's limit.
const MOST: u32 = 1 << 28;

/// A table of handles.
#[derive(Debug)]
pub(super) struct Handles {
    slots: Vec<Slot>,
    /// The slot for the next handle.
    next: u32,
    open: usize,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    /// The place in the resource table.
    Open(u32),
    Free {
        next: u32,
    },
}

impl Handles {
    pub(super) fn new(limit: usize) -> Self {
        // A connection and its two streams.
        Self { slots: Vec::with_capacity(4), next: 0, open: 0, limit }
    }

    /// Gives the guest a handle to a resource.
    pub(super) fn insert(&mut self, place: u32) -> wasmtime::Result<u32> {
        if self.open >= self.limit || self.next >= MOST {
            return refused("cannot allocate another handle: store handle limit exceeded");
        }
        let handle = self.next + 1;
        match self.slots.get_mut(self.next as usize) {
            Some(slot) => {
                if let Slot::Free { next } = *slot {
                    self.next = next;
                }
                *slot = Slot::Open(place);
            }
            None => {
                self.slots.push(Slot::Open(place));
                self.next = handle;
            }
        }
        self.open += 1;
        Ok(handle)
    }

    /// The place of a resource that the guest lends for a call, to which it has lent `others`
    /// before.
    pub(super) fn lent(&self, handle: u32, others: usize) -> wasmtime::Result<u32> {
        let place = self.open(handle)?;
        if self.open + others >= self.limit {
            return refused("cannot lend resource: store handle limit exceeded");
        }
        Ok(place)
    }

    /// Takes a resource from the guest.
    pub(super) fn remove(&mut self, handle: u32) -> wasmtime::Result<u32> {
        let place = self.open(handle)?;
        if let Some(slot) = self.slots.get_mut(handle as usize - 1) {
            *slot = Slot::Free { next: self.next };
        }
        self.next = handle - 1;
        self.open -= 1;
        Ok(place)
    }

    fn open(&self, handle: u32) -> wasmtime::Result<u32> {
        match handle.checked_sub(1).and_then(|index| self.slots.get(index as usize)) {
            Some(Slot::Open(place)) => Ok(*place),
            _ => refused(&format!("unknown handle index {handle}")),
        }
    }
}

fn refused<T>(why: &str) -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handle_that_was_closed_last_is_given_next() {
        let mut handles = Handles::new(10);
        assert_eq!([7, 8, 9].map(|place| handles.insert(place).unwrap()), [1, 2, 3]);
        assert_eq!(handles.remove(1).unwrap(), 7);
        assert_eq!(handles.remove(3).unwrap(), 9);
        assert_eq!([4, 5, 6].map(|place| handles.insert(place).unwrap()), [3, 1, 4]);
        assert_eq!([1, 2, 3, 4].map(|handle| handles.lent(handle, 0).unwrap()), [5, 8, 4, 6]);
    }

    #[test]
    fn a_handle_that_is_not_open_is_refused() {
        let mut handles = Handles::new(10);
        handles.insert(7).unwrap();
        for handle in [0, 2, u32::MAX] {
            assert!(handles.lent(handle, 0).is_err() && handles.remove(handle).is_err(), "{handle}");
        }
        handles.remove(1).unwrap();
        assert_eq!(handles.lent(1, 0).unwrap_err().to_string(), "unknown handle index 1");
        assert!(handles.remove(1).is_err());
    }

    #[test]
    fn the_limit_covers_open_and_lent_handles() {
        let mut handles = Handles::new(2);
        handles.insert(7).unwrap();
        assert!(handles.lent(1, 0).is_ok());
        assert!(handles.lent(1, 1).is_err(), "two places are taken then");
        handles.insert(8).unwrap();
        assert!(handles.insert(9).is_err());
        assert!(handles.lent(1, 0).is_err());
        handles.remove(2).unwrap();
        assert!(handles.lent(1, 0).is_ok());
    }
}
