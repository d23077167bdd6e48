//! The directory of the store, held open to be synced: what was renamed, linked or removed in it is on the disk only then.

#[cfg(target_family = "wasm")]
pub(crate) use granted::Directory;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::Directory;

#[cfg(target_family = "wasm")]
mod granted {
    use std::io;
    use std::path::Path;

    use wasip2::filesystem::preopens::get_directories;
    use wasip2::filesystem::types::Descriptor;

    #[derive(Debug)]
    pub(crate) struct Directory(Descriptor);

    impl Directory {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            let granted = get_directories().into_iter().find(|(_, granted)| Path::new(granted) == path);
            let Some((directory, _)) = granted else {
                return Err(io::Error::other(format!("{} is not a directory that was granted", path.display())));
            };
            Ok(Self(directory))
        }

        pub(crate) fn sync(&self) -> io::Result<()> {
            self.0.sync().map_err(|code| io::Error::other(format!("the directory cannot be synced: {}", code.name())))
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod native {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    #[derive(Debug)]
    pub(crate) struct Directory(File);

    impl Directory {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            File::open(path).map(Self)
        }

        pub(crate) fn sync(&self) -> io::Result<()> {
            self.0.sync_all()
        }
    }
}
