//! The directory of the store, held open for calls that the standard library's C library does not
//! support in each build variant of `plugins/build`: link, and sync, after which renames, links and
//! removals in it are on the disk.

#[cfg(target_family = "wasm")]
pub(crate) use granted::Directory;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::Directory;

#[cfg(target_family = "wasm")]
mod granted {
    use std::io;
    use std::path::Path;

    use wasip2::filesystem::preopens::get_directories;
    use wasip2::filesystem::types::{Descriptor, ErrorCode, PathFlags};

    #[derive(Debug)]
    pub(crate) struct Directory(Descriptor);

    impl Directory {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            let granted = get_directories().into_iter().find(|(_, granted)| Path::new(granted) == path);
            let Some((directory, _)) = granted else {
                return Err(io::Error::other(format!("{} is not a granted directory", path.display())));
            };
            Ok(Self(directory))
        }

        pub(crate) fn sync(&self) -> io::Result<()> {
            self.0.sync().map_err(|code| io::Error::other(format!("the directory cannot be synced: {}", code.name())))
        }

        /// Gives a file a second name, which must be new. Both are relative to the directory.
        pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
            let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
            self.0.link_at(PathFlags::empty(), &from, &self.0, &to).map_err(|code| match code {
                ErrorCode::Exist => io::ErrorKind::AlreadyExists.into(),
                code => io::Error::other(format!("it cannot be linked: {}", code.name())),
            })
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod native {
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    pub(crate) struct Directory(File, PathBuf);

    impl Directory {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            Ok(Self(File::open(path)?, path.to_owned()))
        }

        pub(crate) fn sync(&self) -> io::Result<()> {
            self.0.sync_all()
        }

        pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
            fs::hard_link(self.1.join(from), self.1.join(to))
        }
    }
}
