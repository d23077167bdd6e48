//! Compiling ahead of time: into the cache, so that a start or a reload finds what it needs.

use super::{
    adapter::Blueprint,
    cache::{self, Cache},
    engine,
    kind::Kind,
    plugin,
    problem::Problem,
};
use crate::config::Wasi03;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A plugin that is compiled.
#[derive(Debug)]
pub struct Compiled {
    /// Where it is kept.
    pub entry: PathBuf,
    /// How long it took; `None` where it was there already.
    pub took: Option<Duration>,
}

/// Compiles a plugin into the cache, and finds out that it links.
///
/// # Errors
///
/// Where no configuration could serve it, or where it cannot be kept.
pub fn compile(
    path: &Path,
    kind: Option<Kind>,
    cache_dir: Option<&Path>,
    wasi_0_3: Wasi03,
) -> Result<Compiled, Problem> {
    let started = Instant::now();
    let bytes = plugin::read(path)?;
    let contract = plugin::accepted(&bytes, kind, wasi_0_3)?;
    let blueprint = Blueprint::new(&bytes, contract.kind);
    let compiler = engine::compiler(contract.concurrency).map_err(Problem::of_compiler)?;
    let (entry, is_new) = cache::keep(cache_dir, &compiler, &blueprint)?;
    let took = is_new.then(|| started.elapsed());
    let artifact = Cache::open(cache_dir).artifact(&compiler, &blueprint)?;
    plugin::link(&compiler, &artifact.load(&compiler).map_err(Problem::of_compiler)?, &contract)?;
    Ok(Compiled { entry, took })
}
