//! Compiled plugins on disk: compiling takes 50 ms to 10 s, loading a compiled plugin a few
//! milliseconds.
//!
//! The key of an entry is the content of the plugin and everything that changes code generation
//! (the engine's version, its settings, the processor's features). An entry holds the code, then
//! facts about the plugin, then a checksum that reveals damage. Entries are trusted only in a
//! directory that other users can neither write nor redirect. A doubtful entry is compiled again.

use super::{
    code::Code,
    contract::Declared,
    engine::{self, Concurrency},
    pool::Needs,
    problem::Problem,
    source::ComponentLayer,
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

/// The most entries, the most recently used ones: enough for a day of frequent changes to a plugin.
const ENTRIES: usize = 64;

const SUFFIX: &str = "cwasm";

/// Increase this number when the data after the code changes, or its computation, or the engines'
/// settings.
const LAYOUT: u8 = 3;

/// The extension of an entry while it is written, and the age at which it counts as abandoned.
const UNFINISHED: &str = "new";
const ABANDONED: Duration = Duration::from_secs(3600);

/// A cache directory, if there is one.
#[derive(Debug)]
pub(super) struct Cache {
    dir: Option<TrustedDirectory>,
    layer: ComponentLayer,
}

/// Why a compiled plugin cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is no directory for it.
    #[error("compiling needs a cache directory: name one, as in --cache-dir /var/cache/uninterruptible-host")]
    Nowhere,
    /// The directory is not safe for machine code.
    #[error("--cache-dir {}: {problem}", crate::record::secret::Shown::bare(.dir))]
    Untrusted {
        /// The directory.
        dir: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The entry cannot be written.
    #[error("--cache-dir: {} cannot be written: {cause}", .entry.display())]
    Unwritten {
        /// The file.
        entry: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
}

/// Finds a plugin in a directory, or compiles it into the directory. Returns its path.
pub(crate) fn keep(
    dir: Option<&Path>,
    layer: ComponentLayer,
    engine: &Engine,
    plugin: &[u8],
    declared: Declared,
) -> Result<(PathBuf, Entry), Problem> {
    let dir = dir.ok_or(KeepError::Nowhere)?;
    let dir =
        TrustedDirectory::prepare(dir).map_err(|problem| KeepError::Untrusted { dir: dir.to_owned(), problem })?;
    let name = entry_name(&blake3::hash(plugin), layer)?;
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

/// A compiled plugin.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) artifact: Artifact,
    pub(crate) known: Known,
}

/// Facts about the plugin, stored so that its file need not be read for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) digest: Digest,
    pub(crate) declared: Declared,
    /// The needs of a guest, which only loaded code shows.
    pub(crate) needs: Needs,
}

impl Cache {
    /// Opens a directory, and creates it if it does not exist. Warns and goes without, if it cannot
    /// be trusted.
    pub(super) fn open(dir: Option<&Path>, layer: ComponentLayer) -> Self {
        let dir = dir.and_then(|dir| match TrustedDirectory::prepare(dir) {
            Ok(dir) => Some(dir),
            Err(problem) => {
                warn!(dir = %dir.display(), error = %problem, "plugin cache disabled");
                None
            }
        });
        Self { dir, layer }
    }

    /// The path of a plugin's entry, if there is one that can be trusted.
    pub(super) fn holds(&self, key: &blake3::Hash) -> Option<PathBuf> {
        let (dir, name) = (self.dir.as_ref()?, entry_name(key, self.layer).ok()?);
        read(dir, &name).is_ok().then(|| dir.path().join(name))
    }

    /// The entry of a plugin, if there is one that can be trusted.
    pub(super) fn find(&self, key: &blake3::Hash) -> Result<Option<Entry>, Problem> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let name = entry_name(key, self.layer)?;
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

    /// Compiles a plugin, and stores the result for the next time.
    pub(super) fn make(
        &self,
        engine: &Engine,
        plugin: &[u8],
        digest: Digest,
        declared: Declared,
    ) -> Result<Entry, Problem> {
        info!("compiling plugin");
        let entry = compile(engine, plugin, digest, declared)?;
        if let Some(dir) = &self.dir {
            let name = entry_name(&blake3::hash(plugin), self.layer)?;
            if let Err(error) = write(dir, &name, &entry) {
                warn!(entry = %dir.path().join(name).display(), %error, "plugin cache write failed");
            }
        }
        Ok(entry)
    }
}

/// Compiles a plugin, whatever the cache has.
pub(super) fn compile(engine: &Engine, plugin: &[u8], digest: Digest, declared: Declared) -> Result<Entry, Problem> {
    let artifact = Code::compile(engine, plugin, &declared).map_err(Problem::of_compiler)?;
    let needs = Needs::of(&Code::load(&artifact, engine, declared.form()).map_err(Problem::of_compiler)?);
    Ok(Entry { artifact, known: Known { digest, declared, needs } })
}

fn entry_name(key: &blake3::Hash, layer: ComponentLayer) -> Result<String, Problem> {
    // An entry for the other engine does not load. The plugin decides which engine it needs, except
    // for `--plugin-kind` on a degenerate plugin that is of both generations without using either.
    let engine = engine::compiler(Concurrency::Plain).map_err(Problem::of_compiler)?;
    let mut settings = Settings(blake3::Hasher::new());
    (LAYOUT, env!("CARGO_PKG_VERSION"), layer == ComponentLayer::Keep).hash(&mut settings);
    engine.precompile_compatibility_hash().hash(&mut settings);
    let settings = settings.0.finalize().to_hex();
    Ok(format!("{}-{}.{SUFFIX}", key.to_hex(), settings.get(..16).unwrap_or_default()))
}

/// Opens an entry that can be trusted.
fn read(dir: &TrustedDirectory, name: &str) -> io::Result<Entry> {
    let (artifact, known) = dir.open(name)?;
    Ok(Entry { artifact, known: serde_json::from_slice(&known)? })
}

/// Writes an entry that is found whole or not at all.
fn write(dir: &TrustedDirectory, name: &str, entry: &Entry) -> io::Result<()> {
    // A name that is unique to this process, also among machines that share the directory.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let unfinished = format!("{}-{}.{UNFINISHED}", std::process::id(), now.as_nanos());
    let temporary = dir.path().join(name).with_extension(unfinished);
    let written = dir.keep(name, &temporary, &entry.artifact, &serde_json::to_vec(&entry.known)?);
    forget_the_oldest(dir.path());
    written
}

/// Removes all but the most recently used entries, and unfinished ones of killed processes.
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

/// Feeds everything that is hashed to a digest.
struct Settings(blake3::Hasher);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Unused: only the whole digest counts.
    fn finish(&self) -> u64 {
        0
    }
}
