//! Compiles plugins ahead of time into the cache, so that a start or a reload finds them compiled.

use super::link;
use crate::component::{
    ComponentLayer, Kind, Problem, Wasi03, cache, code::Code, contract::Declared, engine, file::PluginFile, loaded,
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A compiled plugin.
#[derive(Debug)]
pub struct Compiled {
    /// The path of its entry.
    pub entry: PathBuf,
    /// How long compiling took; `None` if the entry was there already.
    pub took: Option<Duration>,
}

/// Compiles a plugin into the cache, and checks that it links.
///
/// # Errors
///
/// If no configuration could serve the plugin, or its entry cannot be written.
pub fn compile(
    path: &Path,
    kind: Option<Kind>,
    cache_dir: Option<&Path>,
    wasi_0_3: Wasi03,
    layer: ComponentLayer,
) -> Result<Compiled, Problem> {
    let started = Instant::now();
    let bytes = PluginFile::open(path)?.bytes()?;
    let mut declared = Declared::by(&bytes)?;
    let contract = loaded::accepted(&declared, kind, wasi_0_3)?;
    let compiler = engine::compiler(contract.concurrency).map_err(Problem::of_compiler)?;
    declared.settle_layer(&bytes, compiler, layer, link::links);
    let (path, entry) = cache::keep(cache_dir, layer, compiler, &bytes, declared)?;
    let took = entry.artifact.is_fresh().then(|| started.elapsed());
    let form = entry.known.declared.form();
    let code = Code::load(&entry.artifact, compiler, form).map_err(Problem::of_compiler)?;
    link::link(compiler, &code, &contract)?;
    Ok(Compiled { entry: path, took })
}
