//! What a guest holds of this process's descriptors. Each open file, listing of a directory and socket takes a place, of which a
//! guest has so many and no more: `config` reserves as many for each connection, so that guests cannot use up what accepting
//! needs.

use std::{
    fs::File,
    sync::{Arc, Weak},
};
use wasmtime::component::{Resource, ResourceTable};

/// Places of one guest. A proxy needs one, a server of files two.
pub(crate) const PLACES: u32 = 16;

/// The places that are taken.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<Place>);

#[derive(Debug)]
enum Place {
    /// By a file or a directory, until no descriptor or stream of the guest's refers to it.
    File(Weak<File>),
    /// By whatever keeps the other end of this.
    Held(Weak<()>),
    /// By an entry of the guest's table that is still what it was.
    Entry(u32, fn(&ResourceTable, u32) -> bool),
    /// Until the guest ends.
    ForGood,
}

impl Places {
    /// Takes a place for as long as the result is kept, if there is one.
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

    /// The place is a file's from now on.
    pub(crate) fn keep_for_file(&mut self, _held: Arc<()>, file: &Arc<File>) {
        self.0.push(Place::File(Arc::downgrade(file)));
    }

    /// The place is from now on that of an entry of the guest's table.
    pub(crate) fn keep_for_entry<T: 'static>(&mut self, _held: Arc<()>, entry: &Resource<T>) {
        self.0.push(Place::Entry(entry.rep(), |table, entry| table.get(&Resource::<T>::new_borrow(entry)).is_ok()));
    }

    /// The place is not given back.
    pub(crate) fn keep_for_good(&mut self, _held: Arc<()>) {
        self.0.push(Place::ForGood);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_by_whatever_took_them() {
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
        // Another resource in the same slot is not the one that took the place.
        let _other = table.push("another").unwrap();
        let held = places.take(&table).unwrap();
        places.keep_for_good(held);
        assert!(full(&mut places, &table));

        drop(rest);
        assert!(!full(&mut places, &table));
    }
}
