//! Compiled plugins, kept on disk: compiling takes 50 ms to 10 s, loading what was compiled a few milliseconds.
//!
//! An entry is found by the content of the plugin and by everything that changes code generation (the engine's version, its
//! settings, the processor's features). It ends with its own digest. Entries are trusted only in a directory that nobody else
//! can write, on a path that nobody else can redirect; anything doubtful is compiled anew.

use super::{adapter::Blueprint, problem::Problem};
use crate::sys::Artifact;
use rustix::{
    fs::{Mode, OFlags},
    process::geteuid,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tracing::{debug, info, warn};
use wasmtime::Engine;

/// Entries that are kept, the latest used ones: enough for a day of changing a plugin many times.
const ENTRIES: usize = 64;

const SUFFIX: &str = "cwasm";

/// What an entry is called while it is written, and after how long it is taken for abandoned.
const UNFINISHED: &str = "new";
const ABANDONED: Duration = Duration::from_secs(3600);

/// A cache directory, or none.
#[derive(Debug)]
pub(super) struct Cache(Option<PathBuf>);

/// Why a compiled plugin cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is no directory to keep it in.
    #[error(
        "there is no cache to compile it into: name a directory, as in --cache-dir /var/cache/uninterruptible-host"
    )]
    Nowhere,
    /// Nobody should load machine code from there.
    #[error("--cache-dir {}: {problem}", .dir.display())]
    Untrusted {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It cannot be written.
    #[error("--cache-dir: {} cannot be written: {cause}", .entry.display())]
    Unwritten {
        /// What was to be written.
        entry: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Compiles a plugin into a directory, where that does not have it yet. Tells the entry, and whether it is new.
pub(super) fn keep(dir: Option<&Path>, engine: &Engine, plugin: &Blueprint<'_>) -> Result<(PathBuf, bool), Problem> {
    let dir = dir.ok_or(KeepError::Nowhere)?;
    let dir = prepare(dir).map_err(|problem| KeepError::Untrusted { dir: dir.to_owned(), problem })?;
    let entry = dir.join(entry_name(engine, plugin));
    if read(&entry).is_ok() {
        return Ok((entry, false));
    }
    match write(&dir, &entry, &compile(engine, plugin)?) {
        Ok(()) => Ok((entry, true)),
        Err(cause) => Err(KeepError::Unwritten { entry, cause }.into()),
    }
}

impl Cache {
    /// Opens a directory, making it where it does not exist. One that cannot be trusted is not used, with a warning.
    pub(super) fn open(dir: Option<&Path>) -> Self {
        let Some(dir) = dir else { return Self(None) };
        match prepare(dir) {
            Ok(dir) => Self(Some(dir)),
            Err(problem) => {
                warn!(dir = %dir.display(), "compiled plugins are not kept: {problem}");
                Self(None)
            }
        }
    }

    /// The entry of a plugin, where there is one that can be trusted.
    pub(super) fn holds(&self, engine: &Engine, plugin: &Blueprint<'_>) -> Option<PathBuf> {
        let entry = self.0.as_ref()?.join(entry_name(engine, plugin));
        read(&entry).is_ok().then_some(entry)
    }

    /// The compiled form of a plugin, from the cache or from the compiler.
    pub(super) fn artifact(&self, engine: &Engine, plugin: &Blueprint<'_>) -> Result<Artifact, Problem> {
        let Some(dir) = &self.0 else { return compile(engine, plugin).map(Artifact::Fresh) };
        let path = dir.join(entry_name(engine, plugin));
        match read(&path) {
            Ok(file) => {
                debug!(entry = %path.display(), "compiled plugin found");
                return Ok(Artifact::Kept(file));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!(entry = %path.display(), "a compiled plugin is not trusted and is made anew: {error}"),
        }
        info!("compiling the plugin");
        let compiled = compile(engine, plugin)?;
        if let Err(error) = write(dir, &path, &compiled) {
            warn!(entry = %path.display(), "the compiled plugin could not be kept: {error}");
        }
        Ok(Artifact::Fresh(compiled))
    }
}

/// The compiled form of a plugin, whatever the cache has.
pub(super) fn compile(engine: &Engine, plugin: &Blueprint<'_>) -> Result<Vec<u8>, Problem> {
    engine.precompile_component(&plugin.component()?).map_err(Problem::of_compiler)
}

/// Makes the directory where it is missing, and says why it cannot be trusted where it cannot.
fn prepare(dir: &Path) -> Result<PathBuf, String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("the directory cannot be made: {error}"))?;
    // Links are followed once, here; what they lead to is what is judged and used.
    let dir = dir.canonicalize().map_err(|error| format!("the directory cannot be found: {error}"))?;
    let me = geteuid().as_raw();
    for part in dir.ancestors() {
        let metadata =
            fs::symlink_metadata(part).map_err(|error| format!("{} cannot be looked at: {error}", part.display()))?;
        if metadata.uid() != me && metadata.uid() != 0 {
            return Err(format!("{} belongs to another user; use a directory of your own", part.display()));
        }
        // In a sticky directory, such as /tmp, others can make entries but not replace ours.
        let others_replace = metadata.mode() & 0o022 != 0 && (part == dir || metadata.mode() & 0o1000 == 0);
        if others_replace {
            return Err(format!("others can write {0}; chmod go-w {0}", part.display()));
        }
    }
    Ok(dir)
}

fn entry_name(engine: &Engine, plugin: &Blueprint<'_>) -> String {
    let mut settings = Digest(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut settings);
    let settings = settings.0.finalize().to_hex();
    format!("{}-{}.{SUFFIX}", plugin.digest().to_hex(), settings.get(..16).unwrap_or_default())
}

/// Opens an entry and checks that it is ours and undamaged. Not blocking, in case a pipe has been put there.
fn read(path: &Path) -> io::Result<File> {
    let mut file = File::from(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    let metadata = file.metadata()?;
    if !metadata.is_file()
        || metadata.mode() & 0o022 != 0
        || (metadata.uid() != geteuid().as_raw() && metadata.uid() != 0)
    {
        return Err(io::Error::other("others can write it, or it is not a file of ours"));
    }
    let Some(length) = metadata.len().checked_sub(blake3::OUT_LEN as u64) else {
        return Err(io::Error::other("it is cut short"));
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader((&mut file).take(length))?;
    let mut digest = [0; blake3::OUT_LEN];
    file.read_exact(&mut digest)?;
    if hasher.finalize() != digest {
        return Err(io::Error::other("it is damaged"));
    }
    // Tells which entries are in use.
    drop(file.set_modified(SystemTime::now()));
    Ok(file)
}

/// Writes an entry so that it is found whole or not at all.
fn write(dir: &Path, path: &Path, compiled: &[u8]) -> io::Result<()> {
    // A name that no other process has, on this machine or on another that shares the directory.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let temporary = path.with_extension(format!("{}-{}.{UNFINISHED}", std::process::id(), now.as_nanos()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(compiled)?;
        file.write_all(blake3::hash(compiled).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    forget_the_oldest(dir);
    written
}

/// Removes what is used no more: all but the latest entries, and what a process that was killed has left unfinished.
fn forget_the_oldest(dir: &Path) {
    let Ok(files) = fs::read_dir(dir) else { return };
    let mut entries = Vec::new();
    for file in files.flatten() {
        let path = file.path();
        let Some(used) = file.metadata().ok().and_then(|metadata| metadata.modified().ok()) else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(SUFFIX) => entries.push((used, path)),
            Some(UNFINISHED) if used.elapsed().is_ok_and(|age| age > ABANDONED) => drop(fs::remove_file(path)),
            _ => {}
        }
    }
    entries.sort_unstable_by_key(|(used, _)| std::cmp::Reverse(*used));
    for (_, path) in entries.into_iter().skip(ENTRIES) {
        drop(fs::remove_file(path));
    }
}

/// Feeds whatever is hashed to a digest.
struct Digest(blake3::Hasher);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Only the whole digest is used.
    fn finish(&self) -> u64 {
        0
    }
}
