//! A plugin's file. Its content passes through a small buffer to find its compiled form, because
//! getting memory for the whole file from the kernel takes longer than reading it. The file is read
//! whole only for compiling. Cache entries are checked in the same way.

use super::problem::{LARGEST, Problem};
use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

/// Bytes read at once: they stay in the processor's cache until they are hashed.
const PIECE: usize = 256 << 10;

/// An open file.
#[derive(Debug)]
pub(crate) struct PluginFile {
    file: File,
    stamp: Stamp,
}

/// Its length, and the time of its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl PluginFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        // Opening a pipe would wait for its writer.
        if !fs::metadata(path).map_err(Problem::Unreadable)?.is_file() {
            return Err(Problem::NotAFile);
        }
        let file = File::open(path).map_err(Problem::Unreadable)?;
        let stamp = Stamp::of(&file).map_err(Problem::Unreadable)?;
        if stamp.length > LARGEST {
            return Err(Problem::TooLarge(stamp.length));
        }
        Ok(Self { file, stamp })
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.stamp.length
    }

    /// The key of its compiled form.
    pub(super) fn key(&self) -> Result<blake3::Hash, Problem> {
        let mut hasher = blake3::Hasher::new();
        let read = for_each_piece(&self.file, self.stamp.length, |piece| _ = hasher.update(piece));
        self.was_read_whole(read.map_err(Problem::Unreadable)?)?;
        Ok(hasher.finalize())
    }

    /// Its whole content.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.stamp.length).unwrap_or_default());
        let mut file = &self.file;
        file.rewind().and_then(|()| file.take(LARGEST).read_to_end(&mut bytes)).map_err(Problem::Unreadable)?;
        self.was_read_whole(bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Fails if the file has changed: the content may be a mix of old and new.
    fn was_read_whole(&self, length: u64) -> Result<(), Problem> {
        let now = Stamp::of(&self.file).map_err(Problem::Unreadable)?;
        if now == self.stamp && length == now.length { Ok(()) } else { Err(Problem::Changing) }
    }
}

/// Reads a file from its beginning, at most `most` bytes, and passes each piece to `look`. Returns
/// the number of bytes read.
pub(super) fn for_each_piece(file: &File, most: u64, mut look: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < most {
        let room = usize::try_from(most - at).unwrap_or(PIECE).min(PIECE);
        match file.read_at(buffer.get_mut(..room).unwrap_or_default(), at) {
            Ok(0) => break,
            Ok(length) => {
                look(buffer.get(..length).unwrap_or_default());
                at += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { length: metadata.len(), seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() })
    }
}
