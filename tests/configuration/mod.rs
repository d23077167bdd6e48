//! The configuration file, its place below the command line and the environment, and `check`.

mod check;
mod errors;
mod serving;

use crate::harness::{Host, Setup, connect, directory, read_to_end, shared_cache};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A configuration file in a directory of its own.
struct File {
    path: PathBuf,
    _directory: Arc<tempfile::TempDir>,
}

impl File {
    fn saying(text: &str) -> Self {
        let directory = directory();
        let path = directory.path().join("host.toml");
        fs::write(&path, text).unwrap();
        Self { path, _directory: Arc::new(directory) }
    }

    fn setup(&self) -> Setup {
        Setup::bare().option("--config", &self.path).option("--cache-dir", shared_cache())
    }

    fn rewrite(&self, text: &str) {
        let draft = self.path.with_extension("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, &self.path).unwrap();
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().unwrap())
}

fn ask(host: &Host, listener: usize) -> String {
    let mut stream = connect(host.addresses[listener]);
    stream.write_all(b"bob\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    String::from_utf8(read_to_end(&mut stream)).unwrap()
}

/// The host rejects the text with code 2 and this one line, whose `FILE` stands for the file.
fn refused(text: &str, line: &str) {
    let file = File::saying(text);
    for setup in [file.setup(), Setup::bare().argument("check").option("--config", &file.path)] {
        let (code, out, err) = setup.run();
        assert_eq!((code, out.as_str()), (2, ""), "{text}: {err}");
        let line = line.replace("FILE, line", &format!("{}, line", file.path.display()));
        assert_eq!(err.lines().collect::<Vec<_>>(), [format!("uninterruptible-host: {line}")], "{text}");
    }
}
