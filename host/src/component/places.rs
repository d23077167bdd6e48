//! Limits the descriptors of this process that a guest holds. Each open file, directory listing and
//! socket takes one place, and a guest has a fixed number. `config` reserves as many for each
//! connection, so that guests cannot use up the descriptors that accepting needs.

use std::{
    fs::File,
    sync::{Arc, Weak},
};
use wasmtime::component::{Resource, ResourceTable};

/// The places of one guest. A proxy needs one, a file server two.
pub(crate) const PLACES: u32 = 16;

/// The places taken.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<Place>);

#[derive(Debug)]
enum Place {
    /// By a file or a directory, while a descriptor or stream of the guest refers to it.
    File(Weak<File>),
    /// By the holder of the other end.
    Held(Weak<()>),
    /// By an entry of the guest's table, while it is unchanged.
    Entry(u32, fn(&ResourceTable, u32) -> bool),
    /// Until the guest ends.
    ForGood,
}

impl Places {
    /// Takes a place for the life of the result; `None` if all are taken.
    pub(crate) fn take(&mut self, table: &ResourceTable) -> Option<Arc<()>> {
        self.0.retain(|place| match place {
            Place::File(file) => file.strong_count() > 0,
            Place::Held(holder) => holder.strong_count() > 0,
            Place::Entry(entry, is_there) => is_there(table, *entry),
            Place::ForGood => true,
        });
        if self.0.len() >= PLACES as usize {
            return None;
        }
        let holder = Arc::new(());
        self.0.push(Place::Held(Arc::downgrade(&holder)));
        Some(holder)
    }

    /// Binds the place to a file.
    pub(crate) fn keep_for_file(&mut self, _held: Arc<()>, file: &Arc<File>) {
        self.0.push(Place::File(Arc::downgrade(file)));
    }

    /// Binds the place to an entry of the guest's table.
    pub(crate) fn keep_for_entry<T: 'static>(&mut self, _held: Arc<()>, entry: &Resource<T>) {
        self.0.push(Place::Entry(entry.rep(), |table, entry| table.get(&Resource::<T>::new_borrow(entry)).is_ok()));
    }

    /// Keeps the place until the guest ends.
    pub(crate) fn keep_for_good(&mut self, _held: Arc<()>) {
        self.0.push(Place::ForGood);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_released_with_their_holders() {
        let (mut table, mut places) = (ResourceTable::new(), Places::default());
        let full = |places: &mut Places, table: &ResourceTable| places.take(table).is_none();

        let file = Arc::new(tempfile::tempfile().unwrap());
        let held = places.take(&table).unwrap();
        places.keep_for_file(held, &file);
        let entry = table.push(0_u8).unwrap();
        let held = places.take(&table).unwrap();
        places.keep_for_entry(held, &entry);
        let mut rest: Vec<_> = (2..PLACES).map(|_| places.take(&table).unwrap()).collect();
        assert!(full(&mut places, &table));

        drop(file);
        rest.push(places.take(&table).unwrap());
        assert!(full(&mut places, &table));

        table.delete(entry).unwrap();
        // Another resource in the same slot does not hold the place.
        let _other = table.push("another").unwrap();
        let held = places.take(&table).unwrap();
        places.keep_for_good(held);
        assert!(full(&mut places, &table));

        drop(rest);
        assert!(!full(&mut places, &table));
    }
}
