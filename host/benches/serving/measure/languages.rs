//! The same answer from plugins in other languages, whose guests are larger by up to three orders
//! of magnitude.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use super::series::{COLUMNS, Series};
use super::succession::describe;
use super::{Bench, Contestant, Section, Side};
use crate::aims::Bound;
use crate::options::{Work, root};
use crate::servers::plugin;
use crate::statistics::Ratio;

/// Enough to keep all cores busy, and few enough for guests that take a millisecond.
const CLIENTS: usize = 16;
/// A program that is a core module of WASI 0.1, in the language of `hello`.
const PROGRAM: &str = "rust-command-0.1";

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let mut contestants = bench.start_all(&[Side::Native], Work::Hello, CLIENTS)?;
    let plugins = plugins()?;
    for path in &plugins {
        let server = bench.start(bench.host(CLIENTS)?.plugin(path, 1))?;
        contestants.push(Contestant { name: describe(path)?, server });
    }
    let measure = |option: &str| {
        let arguments = |one: &Contestant| format!("hello {}{option} --clients {CLIENTS}", one.server.address());
        Series::for_a_time(bench, &contestants, arguments)
    };
    let (tasks, threads) = (measure("")?, measure(" --threads")?);
    let mut section = Section::new("Plugins in other languages")
        .text(format!(
            "`hello` with {CLIENTS} clients: the SDK's plugins, and each example that `examples/build-all` has built. The last \
             column is the same ratio under the load of threads. Guests differ in what the engine does for a guest of that \
             size, and in what the language's runtime does before the handler runs."
        ))
        .columns(COLUMNS.into_iter().chain(["÷ native, threads"]));
    for (index, (one, other)) in tasks.iter().zip(&threads).enumerate() {
        let (of_tasks, of_threads) = (rate(&tasks[0], one), rate(&threads[0], other));
        let mut row = one.cells(&tasks[0]);
        row.push(of_threads.to_string());
        section.row(row);
        // The first contestant is the native server.
        let path = index.checked_sub(1).and_then(|index| plugins.get(index));
        if path.and_then(|path| path.file_stem()) == Some(OsStr::new(PROGRAM)) {
            let worst = of_tasks.median.min(of_threads.median);
            bench.aim("a program of WASI 0.1, worst load, 16 clients", Bound::AtLeast(0.85), worst, "× native");
        }
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;
    Ok(section)
}

fn rate(native: &Series, one: &Series) -> Ratio {
    Ratio::of_pairs(&native.rate(), &one.rate())
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
