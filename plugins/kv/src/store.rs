//! The values, as files. Guests share only the directory, and each of them may be ended between any
//! two of its calls. So each change is one call that the system does completely or not at all, and
//! nothing needs a lock:
//!
//! * a value is written to a file that other guests do not know, synced, and only then gets its
//!   name (by `rename`, or by `link` if the name must be new). A reader of the name sees the old
//!   value or the new one;
//! * the directory is synced before the change is acknowledged, since a power cut loses a name that
//!   is not on the disk.

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

/// The directory of values without a name yet. No key's file has this name.
const WRITING: &str = ".writing";

/// A file that is this old was left by a guest that was ended.
const ABANDONED: Duration = Duration::from_secs(600);

/// The store in a directory, as one guest uses it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Opened at the first change.
    directory: Option<Directory>,
}

impl Store {
    /// The store in this directory, which is not accessed until it is used.
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

    /// Sets the value of a key, whether or not it has one.
    ///
    /// # Errors
    ///
    /// If the system cannot. The value may then be the old one or the new one.
    pub fn set(&mut self, key: &Key, value: &[u8]) -> io::Result<()> {
        let written = self.write(value)?;
        fs::rename(&written, self.file(key)).inspect_err(|_| forget(&written))?;
        self.sync()
    }

    /// Sets the value of a key that does not have one. Returns whether it did.
    ///
    /// # Errors
    ///
    /// If the system cannot. The key may then have no value or this one.
    pub fn add(&mut self, key: &Key, value: &[u8]) -> io::Result<bool> {
        let written = self.write(value)?;
        let relative = written.strip_prefix(&self.path).unwrap_or(&written);
        let linked = self.directory()?.link(relative, Path::new(&key.file_name()));
        // The file keeps its other name from here on.
        forget(&written);
        match linked {
            Ok(()) => self.sync().map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the system cannot. The key may then exist or not.
    pub fn delete(&mut self, key: &Key) -> io::Result<bool> {
        match fs::remove_file(self.file(key)) {
            Ok(()) => self.sync().map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => self.check().map(|()| false),
            Err(error) => Err(error),
        }
    }

    /// The keys with this prefix, in order.
    ///
    /// # Errors
    ///
    /// If the system cannot list them, or there are more files than the host lists.
    pub fn keys(&self, prefix: &[u8]) -> io::Result<Vec<Key>> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            keys.extend(name.to_str().and_then(Key::of_file).filter(|key| key.bytes().starts_with(prefix)));
        }
        keys.sort();
        Ok(keys)
    }

    /// A missing directory has no keys, but is not a store either.
    fn check(&self) -> io::Result<()> {
        fs::metadata(&self.path).map(drop)
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.path.join(key.file_name())
    }

    /// Writes a value to the disk, under a name that other guests do not use.
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

/// Removes files of guests that were ended while they wrote. Nothing depends on it. If such a guest
/// still runs after all, giving its file a name fails, and it reports that.
fn clean(writing: &Path) {
    let Ok(entries) = fs::read_dir(writing) else { return };
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > ABANDONED)) {
            forget(&entry.path());
        }
    }
}

/// Removes a file that is no longer needed. If that fails, a later cleanup removes it.
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
    fn a_key_has_the_value_set_last() {
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
    fn one_of_many_concurrent_adds_succeeds() {
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
    fn only_keys_are_listed() {
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
    fn abandoned_files_are_removed_and_current_ones_are_not() {
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
