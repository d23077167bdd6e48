//! A file to serve: opened once, so that the whole response is about the same file, even if it is
//! replaced meanwhile.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::content_type::content_type;
use crate::target::Target;

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) open: fs::File,
    pub(crate) length: u64,
    pub(crate) modified: SystemTime,
    pub(crate) content_type: &'static str,
}

#[derive(Debug)]
pub(crate) enum Found {
    File(File),
    /// Its index is served, at another path.
    Directory,
}

impl Found {
    pub(crate) fn beneath(root: &Path, target: &Target<'_>) -> io::Result<Self> {
        let open = fs::File::open(root.join(target.path()))?;
        let metadata = open.metadata()?;
        if metadata.is_file() {
            return Ok(Self::File(File {
                open,
                length: metadata.len(),
                modified: modified(&metadata),
                content_type: content_type(target.path()),
            }));
        }
        // A directory that is named like the index. The host does not open other kinds of files.
        if target.is_directory() || !metadata.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self::Directory)
    }
}

fn modified(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH)
}

impl File {
    /// The entity tag of this content. If two contents have the same length, the file system's
    /// times tell them apart, to a few milliseconds.
    pub(crate) fn tag(&self) -> String {
        let modified = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("\"{:x}-{:x}\"", modified.as_nanos(), self.length)
    }

    /// In whole seconds, as HTTP requires, and not in the future.
    pub(crate) fn last_modified(&self, now: SystemTime) -> SystemTime {
        let modified = self.modified.min(now).duration_since(UNIX_EPOCH).unwrap_or_default();
        UNIX_EPOCH + Duration::from_secs(modified.as_secs())
    }
}
