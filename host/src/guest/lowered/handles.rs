//! The handles of one guest: small numbers for the resources that it owns, each of one type.

use std::any::TypeId;
use wasmtime::component::Resource;

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
    /// A place in the resource table, and what is there.
    Open {
        place: u32,
        ty: TypeId,
    },
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
    pub(super) fn insert<T: 'static>(&mut self, resource: &Resource<T>) -> wasmtime::Result<u32> {
        if self.open >= self.limit || self.next >= MOST {
            return refused("cannot allocate another handle: store handle limit exceeded");
        }
        let handle = self.next + 1;
        let open = Slot::Open { place: resource.rep(), ty: TypeId::of::<T>() };
        match self.slots.get_mut(self.next as usize) {
            Some(slot) => {
                if let Slot::Free { next } = *slot {
                    self.next = next;
                }
                *slot = open;
            }
            None => {
                self.slots.push(open);
                self.next = handle;
            }
        }
        self.open += 1;
        Ok(handle)
    }

    /// A resource that the guest lends for a call, to which it has lent `others` before.
    pub(super) fn lent<T: 'static>(&self, handle: u32, others: usize) -> wasmtime::Result<Resource<T>> {
        let place = self.place::<T>(handle)?;
        if self.open + others >= self.limit {
            return refused("cannot lend resource: store handle limit exceeded");
        }
        Ok(Resource::new_borrow(place))
    }

    /// Takes a resource from the guest.
    pub(super) fn remove<T: 'static>(&mut self, handle: u32) -> wasmtime::Result<Resource<T>> {
        let place = self.place::<T>(handle)?;
        if let Some(slot) = self.slots.get_mut(handle as usize - 1) {
            *slot = Slot::Free { next: self.next };
        }
        self.next = handle - 1;
        self.open -= 1;
        Ok(Resource::new_own(place))
    }

    fn place<T: 'static>(&self, handle: u32) -> wasmtime::Result<u32> {
        match handle.checked_sub(1).and_then(|index| self.slots.get(index as usize)) {
            Some(Slot::Open { place, ty }) if *ty == TypeId::of::<T>() => Ok(*place),
            Some(Slot::Open { .. }) => refused(&format!(
                "handle index {handle} used with the wrong type, expected guest-defined resource but found a \
                 different guest-defined resource"
            )),
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

    struct A;
    struct B;

    fn resource(place: u32) -> Resource<A> {
        Resource::new_own(place)
    }

    fn lent(handles: &Handles, handle: u32) -> Result<u32, String> {
        handles.lent::<A>(handle, 0).map(|resource| resource.rep()).map_err(|error| error.to_string())
    }

    fn removed(handles: &mut Handles, handle: u32) -> Option<u32> {
        handles.remove::<A>(handle).ok().map(|resource| resource.rep())
    }

    #[test]
    fn the_handle_that_was_closed_last_is_given_next() {
        let mut handles = Handles::new(10);
        assert_eq!([7, 8, 9].map(|place| handles.insert(&resource(place)).unwrap()), [1, 2, 3]);
        assert_eq!([1, 3].map(|handle| removed(&mut handles, handle)), [Some(7), Some(9)]);
        assert_eq!([4, 5, 6].map(|place| handles.insert(&resource(place)).unwrap()), [3, 1, 4]);
        assert_eq!([1, 2, 3, 4].map(|handle| lent(&handles, handle)), [Ok(5), Ok(8), Ok(4), Ok(6)]);
    }

    #[test]
    fn a_handle_that_is_not_open_is_refused() {
        let mut handles = Handles::new(10);
        handles.insert(&resource(7)).unwrap();
        for handle in [0, 2, u32::MAX] {
            assert_eq!(lent(&handles, handle), Err(format!("unknown handle index {handle}")));
            assert_eq!(removed(&mut handles, handle), None);
        }
        assert_eq!(removed(&mut handles, 1), Some(7));
        assert_eq!(lent(&handles, 1), Err("unknown handle index 1".to_owned()));
        assert_eq!(removed(&mut handles, 1), None);
    }

    #[test]
    fn a_handle_of_another_type_is_refused() {
        let mut handles = Handles::new(10);
        handles.insert(&resource(7)).unwrap();
        let error = handles.lent::<B>(1, 0).unwrap_err();
        assert!(error.to_string().starts_with("handle index 1 used with the wrong type"), "{error}");
        assert!(handles.remove::<B>(1).is_err());
        assert_eq!(lent(&handles, 1), Ok(7));
    }

    #[test]
    fn the_limit_covers_open_and_lent_handles() {
        let mut handles = Handles::new(2);
        handles.insert(&resource(7)).unwrap();
        assert_eq!(lent(&handles, 1), Ok(7));
        assert!(handles.lent::<A>(1, 1).is_err(), "two places are taken then");
        handles.insert(&resource(8)).unwrap();
        assert!(handles.insert(&resource(9)).is_err());
        assert!(lent(&handles, 1).is_err());
        assert_eq!(removed(&mut handles, 2), Some(8));
        assert_eq!(lent(&handles, 1), Ok(7));
    }
}
