//! Compiled plugins, kept on disk: compiling takes 50 ms to 10 s, loading what was compiled a few milliseconds.
//!
//! An entry is found by the content of the plugin and by everything that changes code generation (the engine's version, its
//! settings, the processor's features). Behind the code stands what else is known of the plugin since it was compiled, and an
//! entry ends with its checksum, by which damage is noticed. Entries are trusted only in a directory that nobody else can write, on
//! a path that nobody else can redirect; anything doubtful is compiled anew.

use super::{
    code::Code,
    contract::Declared,
    engine::{self, Concurrency},
    pool::Needs,
    problem::Problem,
};
use crate::{
    record::digest::Digest,
    system::kernel::artifact::{Artifact, TrustedDirectory},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tracing::{debug, info, warn};
use wasmtime::Engine;

/// Entries that are kept, the latest used ones: enough for a day of changing a plugin many times.
const ENTRIES: usize = 64;

const SUFFIX: &str = "cwasm";

/// To be counted up when what stands behind the code changes, or how it is found out, or the engines' settings.
const LAYOUT: u8 = 2;

/// What an entry is called while it is written, and after how long it is taken for abandoned.
const UNFINISHED: &str = "new";
const ABANDONED: Duration = Duration::from_secs(3600);

/// A cache directory, or none.
#[derive(Debug)]
pub(super) struct Cache(Option<TrustedDirectory>);

/// Why a compiled plugin cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is no directory to keep it in.
    #[error("compiling needs a cache directory: name one, as in --cache-dir /var/cache/uninterruptible-host")]
    Nowhere,
    /// Nobody should load machine code from there.
    #[error("--cache-dir {}: {problem}", crate::record::secret::Shown::bare(.dir))]
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

/// What a directory has of a plugin, or else what is compiled into it now; and where.
pub(crate) fn keep(
    dir: Option<&Path>,
    engine: &Engine,
    plugin: &[u8],
    declared: Declared,
) -> Result<(PathBuf, Entry), Problem> {
    let dir = dir.ok_or(KeepError::Nowhere)?;
    let dir =
        TrustedDirectory::prepare(dir).map_err(|problem| KeepError::Untrusted { dir: dir.to_owned(), problem })?;
    let name = entry_name(&blake3::hash(plugin))?;
    let path = dir.path().join(&name);
    let loads = |entry: &Entry| Code::load(&entry.artifact, engine, entry.known.declared.form()).is_ok();
    if let Some(entry) = read(&dir, &name).ok().filter(loads) {
        return Ok((path, entry));
    }
    let entry = compile(engine, plugin, Digest::of(plugin), declared)?;
    match write(&dir, &name, &entry) {
        Ok(()) => Ok((path, entry)),
        Err(cause) => Err(KeepError::Unwritten { entry: path, cause }.into()),
    }
}

/// A plugin that is compiled.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) artifact: Artifact,
    pub(crate) known: Known,
}

/// What else is known of it then, so that its file need not be read for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) digest: Digest,
    pub(crate) declared: Declared,
    /// What a guest of it takes, which only code that was loaded tells.
    pub(crate) needs: Needs,
}

impl Cache {
    /// Opens a directory, making it where it does not exist. One that cannot be trusted is not used, with a warning.
    pub(super) fn open(dir: Option<&Path>) -> Self {
        let Some(dir) = dir else { return Self(None) };
        match TrustedDirectory::prepare(dir) {
            Ok(dir) => Self(Some(dir)),
            Err(problem) => {
                warn!(dir = %dir.display(), error = %problem, "plugin cache disabled");
                Self(None)
            }
        }
    }

    /// Where a plugin is, where it is there and can be trusted.
    pub(super) fn holds(&self, key: &blake3::Hash) -> Option<PathBuf> {
        let (dir, name) = (self.0.as_ref()?, entry_name(key).ok()?);
        read(dir, &name).is_ok().then(|| dir.path().join(name))
    }

    /// What there is of a plugin, where that can be trusted.
    pub(super) fn find(&self, key: &blake3::Hash) -> Result<Option<Entry>, Problem> {
        let Some(dir) = &self.0 else { return Ok(None) };
        let name = entry_name(key)?;
        let path = dir.path().join(&name);
        match read(dir, &name) {
            Ok(entry) => {
                debug!(entry = %path.display(), "compiled plugin found");
                return Ok(Some(entry));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!(entry = %path.display(), %error, "cached plugin rejected, recompiling"),
        }
        Ok(None)
    }

    /// Compiles a plugin, and keeps what comes of it for the next time.
    pub(super) fn make(
        &self,
        engine: &Engine,
        plugin: &[u8],
        digest: Digest,
        declared: Declared,
    ) -> Result<Entry, Problem> {
        info!("compiling plugin");
        let entry = compile(engine, plugin, digest, declared)?;
        if let Some(dir) = &self.0 {
            let name = entry_name(&blake3::hash(plugin))?;
            if let Err(error) = write(dir, &name, &entry) {
                warn!(entry = %dir.path().join(name).display(), %error, "plugin cache write failed");
            }
        }
        Ok(entry)
    }
}

/// Compiles a plugin, whatever the cache has.
pub(super) fn compile(engine: &Engine, plugin: &[u8], digest: Digest, declared: Declared) -> Result<Entry, Problem> {
    let form = declared.form();
    let artifact = Code::compile(engine, plugin, form).map_err(Problem::of_compiler)?;
    let needs = Needs::of(&Code::load(&artifact, engine, form).map_err(Problem::of_compiler)?);
    Ok(Entry { artifact, known: Known { digest, declared, needs } })
}

fn entry_name(key: &blake3::Hash) -> Result<String, Problem> {
    // An entry of the other engine does not load, and only a degenerate plugin has one: which it is follows from the plugin, but for
    // what `--plugin-kind` says of one that is of both generations without using either.
    let engine = engine::compiler(Concurrency::Plain).map_err(Problem::of_compiler)?;
    let mut settings = Settings(blake3::Hasher::new());
    (LAYOUT, env!("CARGO_PKG_VERSION")).hash(&mut settings);
    engine.precompile_compatibility_hash().hash(&mut settings);
    let settings = settings.0.finalize().to_hex();
    Ok(format!("{}-{}.{SUFFIX}", key.to_hex(), settings.get(..16).unwrap_or_default()))
}

/// Opens an entry that can be trusted.
fn read(dir: &TrustedDirectory, name: &str) -> io::Result<Entry> {
    let (artifact, known) = dir.open(name)?;
    Ok(Entry { artifact, known: serde_json::from_slice(&known)? })
}

/// Writes an entry so that it is found whole or not at all.
fn write(dir: &TrustedDirectory, name: &str, entry: &Entry) -> io::Result<()> {
    // A name that no other process has, on this machine or on another that shares the directory.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let unfinished = format!("{}-{}.{UNFINISHED}", std::process::id(), now.as_nanos());
    let temporary = dir.path().join(name).with_extension(unfinished);
    let written = dir.keep(name, &temporary, &entry.artifact, &serde_json::to_vec(&entry.known)?);
    forget_the_oldest(dir.path());
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
struct Settings(blake3::Hasher);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Only the whole digest is used.
    fn finish(&self) -> u64 {
        0
    }
}
