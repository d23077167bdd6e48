//! The same answer from plugins in other languages, whose guests are larger by up to three orders of magnitude.

use std::fs;
use std::path::PathBuf;

use super::series::{COLUMNS, Series};
use super::succession::describe;
use super::{Bench, Contestant, Section};
use crate::options::{Work, root};
use crate::servers::{Launch, plugin};

/// Enough to keep all cores busy, and few enough for guests that take a millisecond.
const CLIENTS: usize = 16;

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let mut contestants = vec![Contestant {
        name: "native".to_owned(),
        server: bench.start(Launch::native(Work::Hello, CLIENTS + super::SPARE_CONNECTIONS)?)?,
    }];
    for path in plugins()? {
        let server = bench.start(bench.host(CLIENTS)?.plugin(&path, 1))?;
        contestants.push(Contestant { name: describe(&path)?, server });
    }
    let arguments = |one: &Contestant| format!("hello {} --clients {CLIENTS}", one.server.address());
    let all = Series::for_a_time(bench, &contestants, arguments)?;
    let mut section = Section::new("Plugins in other languages")
        .text(format!(
            "`hello` as above with {CLIENTS} clients: of the SDK, and of each example that `examples/build-all` has built. What differs \
             is what the engine does for a guest of that size, and what the language's runtime does before the handler runs."
        ))
        .columns(COLUMNS);
    for one in &all {
        section.row(one.cells(&all[0]));
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;
    Ok(section)
}

/// The SDK's two, and the examples that were built, in the order of their names.
fn plugins() -> anyhow::Result<Vec<PathBuf>> {
    let mut examples: Vec<PathBuf> = fs::read_dir(root().join("target/examples"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .filter(|path| path.file_stem().and_then(|name| name.to_str()).is_some_and(greets))
        .collect();
    examples.sort();
    let mut all = vec![plugin("hello")?, plugin("hello-async")?];
    all.append(&mut examples);
    Ok(all)
}

/// Whether an example answers as `hello` does, over the connection alone.
fn greets(name: &str) -> bool {
    name.contains("-hello-") || name.contains("-command")
}
