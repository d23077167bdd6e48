//! The values, as files. Guests share nothing but the directory, and any of them may end between any two of its calls; so each
//! change is one call that the system does wholly or not at all, and nothing needs a lock:
//!
//! * a value is written to a file that nobody else knows, synced, and only then given its name (`rename`, or `link` where the name
//!   must be new). Whoever opens the name sees the old value or the new one;
//! * the directory is synced before the change is acknowledged, since a name that is not on the disk is none after a power cut.

use std::collections::hash_map::RandomState;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::directory::Directory;
use crate::key::Key;

/// In bytes.
pub const LONGEST_VALUE: usize = 1024 * 1024;

/// Where values are until they have a name. No key's file is called so.
const WRITING: &str = ".writing";

/// A file that is still there after so long was its guest's last.
const ABANDONED: Duration = Duration::from_secs(600);

/// The store in a directory, as one guest has it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Opened at the first change.
    directory: Option<Directory>,
}

impl Store {
    /// The store in this directory, which is looked at when it is used.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), directory: None }
    }

    /// The value under a key, if there is one.
    ///
    /// # Errors
    ///
    /// If the system cannot read it.
    pub fn get(&self, key: &Key) -> io::Result<Option<Vec<u8>>> {
        let file = match fs::File::open(self.file(key)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.check().map(|()| None),
            Err(error) => return Err(error),
        };
        let mut value = Vec::new();
        if file.take(LONGEST_VALUE as u64 + 1).read_to_end(&mut value)? > LONGEST_VALUE {
            return Err(io::Error::new(ErrorKind::InvalidData, "a file that is larger than any value"));
        }
        Ok(Some(value))
    }

    /// Puts a value under a key, whether there was one or not.
    ///
    /// # Errors
    ///
    /// If the system cannot; then the value may be the old one or the new one.
    pub fn set(&mut self, key: &Key, value: &[u8]) -> io::Result<()> {
        let written = self.write(value)?;
        fs::rename(&written, self.file(key)).inspect_err(|_| forget(&written))?;
        self.sync()
    }

    /// Puts a value under a key that has none, and tells whether it had none.
    ///
    /// # Errors
    ///
    /// If the system cannot; then there may be no value or this one.
    pub fn add(&mut self, key: &Key, value: &[u8]) -> io::Result<bool> {
        let written = self.write(value)?;
        let relative = written.strip_prefix(&self.path).unwrap_or(&written);
        let linked = self.directory()?.link(relative, Path::new(&key.file_name()));
        // Its other name is what counts from here on.
        forget(&written);
        match linked {
            Ok(()) => self.sync().map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key, and tells whether there was one.
    ///
    /// # Errors
    ///
    /// If the system cannot; then the key may be there or not.
    pub fn delete(&mut self, key: &Key) -> io::Result<bool> {
        match fs::remove_file(self.file(key)) {
            Ok(()) => self.sync().map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => self.check().map(|()| false),
            Err(error) => Err(error),
        }
    }

    /// The keys that begin with these bytes, in order.
    ///
    /// # Errors
    ///
    /// If the system cannot list them, and where there are more files than the host lists.
    pub fn keys(&self, prefix: &[u8]) -> io::Result<Vec<Key>> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            keys.extend(name.to_str().and_then(Key::of_file).filter(|key| key.bytes().starts_with(prefix)));
        }
        keys.sort();
        Ok(keys)
    }

    /// A directory that is not there has no keys, but is no store either.
    fn check(&self) -> io::Result<()> {
        fs::metadata(&self.path).map(drop)
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.path.join(key.file_name())
    }

    /// Writes a value, to the disk, under a name that nobody else uses.
    fn write(&mut self, value: &[u8]) -> io::Result<PathBuf> {
        let writing = self.path.join(WRITING);
        if self.directory.is_none() {
            self.directory()?;
            match fs::create_dir(&writing) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => clean(&writing),
                Err(error) => return Err(error),
            }
        }
        let path = writing.join(format!("{:016x}", RandomState::new().build_hasher().finish()));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(value).and_then(|()| file.sync_all()).inspect_err(|_| forget(&path))?;
        Ok(path)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.directory()?.sync()
    }

    fn directory(&mut self) -> io::Result<&Directory> {
        match &mut self.directory {
            Some(directory) => Ok(directory),
            none => Ok(none.insert(Directory::open(&self.path)?)),
        }
    }
}

/// Removes what guests have left that were ended while they wrote. Nothing depends on it; and should one of them still be at it
/// after all, its file has no name to be given, which it reports.
fn clean(writing: &Path) {
    let Ok(entries) = fs::read_dir(writing) else { return };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > ABANDONED)) {
            forget(&entry.path());
        }
    }
}

/// Removes a file that does not matter any more; one that cannot be removed is cleaned up later.
fn forget(path: &Path) {
    fs::remove_file(path).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::{ABANDONED, Store, WRITING};
    use crate::key::Key;
    use std::fs;
    use std::thread;
    use std::time::SystemTime;

    fn key(text: &str) -> Key {
        Key::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_value_is_what_was_set_last() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new(directory.path());
        assert_eq!(store.get(&key("a/b")).unwrap(), None);
        for value in [b"one".as_slice(), b"", b"\0\xff\n"] {
            store.set(&key("a/b"), value).unwrap();
            assert_eq!(store.get(&key("a/b")).unwrap().as_deref(), Some(value));
            assert_eq!(fs::read(directory.path().join("a%2Fb")).unwrap(), value);
        }
        assert!(store.delete(&key("a/b")).unwrap());
        assert!(!store.delete(&key("a/b")).unwrap());
        assert_eq!(store.get(&key("a/b")).unwrap(), None);
        assert_eq!(fs::read_dir(directory.path().join(WRITING)).unwrap().count(), 0);
    }

    #[test]
    fn of_many_that_add_one_has_added() {
        let directory = tempfile::tempdir().unwrap();
        let add = |number: u8| {
            let path = directory.path();
            move || Store::new(path).add(&key("lock"), &[number]).unwrap().then_some(number)
        };
        let winners: Vec<u8> = thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|number| scope.spawn(add(number))).collect();
            all.into_iter().filter_map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1);
        assert_eq!(Store::new(directory.path()).get(&key("lock")).unwrap(), Some(winners));
        assert_eq!(fs::read_dir(directory.path().join(WRITING)).unwrap().count(), 0);
    }

    #[test]
    fn a_reader_beside_writers_sees_a_whole_value() {
        let directory = tempfile::tempdir().unwrap();
        let write = |byte: u8| {
            let mut store = Store::new(directory.path());
            move || (0..200).for_each(|_| store.set(&key("k"), &vec![byte; 100 + usize::from(byte)]).unwrap())
        };
        thread::scope(|scope| {
            let writers: Vec<_> = [1, 2, 3].map(|byte| scope.spawn(write(byte))).into();
            while writers.iter().any(|writer| !writer.is_finished()) {
                if let Some(value) = Store::new(directory.path()).get(&key("k")).unwrap() {
                    assert!(value.iter().all(|byte| *byte == value[0]) && value.len() == 100 + usize::from(value[0]));
                }
            }
        });
    }

    #[test]
    fn keys_are_listed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::new(directory.path());
        for name in ["user:2", "user:1", "zoo"] {
            store.set(&key(name), b"").unwrap();
        }
        fs::write(directory.path().join("notes.txt"), "").unwrap();
        assert_eq!(store.keys(b"user:").unwrap(), [key("user:1"), key("user:2")]);
        assert_eq!(store.keys(b"").unwrap().len(), 3);
    }

    #[test]
    fn what_was_left_behind_is_removed_and_what_is_being_written_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let writing = directory.path().join(WRITING);
        fs::create_dir(&writing).unwrap();
        fs::write(writing.join("new"), "").unwrap();
        let left = fs::File::create(writing.join("left")).unwrap();
        left.set_modified(SystemTime::now() - ABANDONED * 2).unwrap();
        Store::new(directory.path()).set(&key("k"), b"v").unwrap();
        assert!(writing.join("new").exists() && !writing.join("left").exists());
    }
}
