//! The place where a guest trapped, for the author of its plugin: function names, and lines if the
//! plugin has debug information.
//!
//! All of this comes from the plugin and is untrusted. So debug information is read only after a
//! trap, on a thread apart from the workers, by one reader for each plugin. A record waits only
//! briefly for it, and then has the names alone.

use super::outline::Outline;
use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time;
use wasmparser::{Encoding, Payload};
use wasmtime::{FrameInfo, Trap, WasmBacktrace};

/// The most functions in a message.
const FRAMES: usize = 6;

/// The most bytes of one name.
const LONGEST_NAME: usize = 256;

/// The most bytes of debug information kept for a plugin: several times that of a Rust plugin with
/// its standard library.
const MOST_DEBUG_INFORMATION: usize = 64 << 20;

/// How long a record waits for the lines. Reading those of a Rust plugin takes some milliseconds.
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// Functions that only carry out a panic. They come first, and are left out if others follow.
const MACHINERY: [&str; 11] = [
    "core::",
    "std::",
    "alloc::",
    "panic_abort::",
    "rust_panic",
    "rust_begin_unwind",
    "__rust",
    "abort",
    "_abort",
    "__abort",
    "__assert_fail",
];

/// The debug information of a plugin.
#[derive(Debug)]
pub(crate) struct Symbols {
    modules: Vec<Module>,
    /// Held by the thread that reads it.
    reading: Mutex<()>,
}

/// The debug information of one core module.
#[derive(Debug)]
struct Module {
    /// The range of its code within the plugin.
    code: Range<u64>,
    sections: Vec<(String, Vec<u8>)>,
}

/// A function, and a line in it.
#[derive(Clone, Debug, Default)]
struct Place {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
}

impl Symbols {
    /// The debug information of a plugin, if it has some, by the offsets that the engine reports.
    pub(super) fn of(plugin: &[u8]) -> Option<Arc<Self>> {
        Self::within(plugin).map(Arc::new)
    }

    fn within(plugin: &[u8]) -> Option<Self> {
        let mut modules: Vec<Module> = Vec::new();
        let mut within: Vec<Option<usize>> = Vec::new();
        let mut kept = 0;
        for payload in Outline::of(plugin) {
            match payload.ok()? {
                Payload::Version { encoding, .. } => {
                    within.push((encoding == Encoding::Module).then_some(modules.len()));
                    if encoding == Encoding::Module {
                        modules.push(Module { code: 0..0, sections: Vec::new() });
                    }
                }
                Payload::End(_) => {
                    within.pop();
                }
                payload => {
                    let Some(module) = within.last().copied().flatten().and_then(|index| modules.get_mut(index)) else {
                        continue;
                    };
                    match payload {
                        Payload::CodeSectionStart { range, .. } => module.code = range.start as u64..range.end as u64,
                        Payload::CustomSection(section) if is_debug_information(section.name()) => {
                            kept += section.data().len();
                            if kept > MOST_DEBUG_INFORMATION {
                                return None;
                            }
                            module.sections.push((section.name().to_owned(), section.data().to_vec()));
                        }
                        _ => {}
                    }
                }
            }
        }
        modules.retain(|module| !module.sections.is_empty());
        (!modules.is_empty()).then(|| Self { modules, reading: Mutex::new(()) })
    }

    /// The functions at these offsets in the plugin, each after those inlined there. `None` while
    /// another caller reads.
    fn look(&self, offsets: &[Option<u64>]) -> Option<Vec<Vec<Place>>> {
        let _reading = self.reading.try_lock().ok()?;
        let mut places = vec![Vec::new(); offsets.len()];
        for module in &self.modules {
            let section = |id: gimli::SectionId| {
                let section = module.sections.iter().find(|(name, _)| name == id.name());
                let bytes = section.map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
                Ok::<_, gimli::Error>(gimli::EndianSlice::new(bytes, gimli::LittleEndian))
            };
            let Ok(context) = gimli::Dwarf::load(section).and_then(addr2line::Context::from_dwarf) else { continue };
            for (places, offset) in places.iter_mut().zip(offsets) {
                let Some(offset) = offset.filter(|offset| module.code.contains(offset)) else { continue };
                let Ok(mut frames) = context.find_frames(offset - module.code.start).skip_all_loads() else { continue };
                while let Ok(Some(frame)) = frames.next() {
                    let function = frame.function.as_ref().and_then(|name| name.raw_name().ok());
                    let (file, line) =
                        frame.location.as_ref().map_or((None, None), |location| (location.file, location.line));
                    places.push(Place {
                        function: function.map(|name| demangled(&name)),
                        file: file.map(shortened),
                        line,
                    });
                    if places.len() >= FRAMES {
                        break;
                    }
                }
            }
        }
        Some(places)
    }
}

/// Whether a custom section of this name holds debug information.
pub(super) fn is_debug_information(section: &str) -> bool {
    section.starts_with(".debug_")
}

/// Describes an error of a guest and, as far as the plugin tells, the functions, innermost first.
pub(crate) async fn described(error: &wasmtime::Error, symbols: Option<&Arc<Symbols>>) -> String {
    let what = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    located(what, error, symbols).await
}

/// The same for an error that is described already as `what`.
pub(crate) async fn located(what: String, error: &wasmtime::Error, symbols: Option<&Arc<Symbols>>) -> String {
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    let mut names = named(frames, &looked_up(frames, symbols).await);
    if names.is_empty() {
        // A plugin without names: functions by number, as in `wasm-objdump`.
        names = frames.iter().take(FRAMES).map(|frame| format!("function {}", frame.func_index())).collect();
    }
    if names.is_empty() { what } else { format!("{what}, in {}", names.join(" < ")) }
}

async fn looked_up(frames: &[FrameInfo], symbols: Option<&Arc<Symbols>>) -> Vec<Vec<Place>> {
    let Some(symbols) = symbols.cloned() else { return Vec::new() };
    let offsets: Vec<_> = frames.iter().map(|frame| frame.module_offset().map(|offset| offset as u64)).collect();
    let look = tokio::task::spawn_blocking(move || symbols.look(&offsets));
    match time::timeout(LONGEST_LOOK, look).await {
        Ok(Ok(Some(places))) => places,
        _ => Vec::new(),
    }
}

fn named(frames: &[FrameInfo], places: &[Vec<Place>]) -> Vec<String> {
    let mut names = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let own = frame.func_name().map(demangled);
        match places.get(index).map(Vec::as_slice).unwrap_or_default() {
            [] => names.extend(own.map(|function| Place { function: Some(function), ..Place::default() })),
            known => names.extend(
                known.iter().map(|place| Place { function: place.function.clone().or(own.clone()), ..place.clone() }),
            ),
        }
    }
    let names: Vec<_> = names.into_iter().filter(|place| place.function.is_some()).collect();
    let first = names.iter().position(|place| !is_machinery(place)).unwrap_or_default();
    names.iter().skip(first).take(FRAMES).map(Place::to_string).collect()
}

fn is_machinery(place: &Place) -> bool {
    let name = place.function.as_deref().unwrap_or_default().trim_start_matches(['<', '&']);
    MACHINERY.iter().any(|prefix| name == *prefix || (name.starts_with(prefix) && *prefix != "abort"))
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.as_deref().unwrap_or("?"))?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (Some(file), None) => write!(f, " ({file})"),
            _ => Ok(()),
        }
    }
}

/// A name as in the source, without the hash that compilers add.
fn demangled(name: &str) -> String {
    let name = match rustc_demangle::try_demangle(name) {
        // A name may demangle to a huge text, so it is written only as far as needed.
        Ok(name) => shown(&format_args!("{name:#}")),
        Err(_) => shown(&name),
    };
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name.to_owned(),
        _ => name,
    }
}

/// The beginning of a text that may be long.
fn shown(text: &dyn std::fmt::Display) -> String {
    struct Beginning(String);
    impl std::fmt::Write for Beginning {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let room = LONGEST_NAME.saturating_sub(self.0.len());
            self.0.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
            if text.len() > room { Err(std::fmt::Error) } else { Ok(()) }
        }
    }
    let mut beginning = Beginning(String::new());
    // It fails if the text is longer.
    std::fmt::Write::write_fmt(&mut beginning, format_args!("{text}")).ok();
    beginning.0
}

/// The part of a path that matters within a project: from the last `src` on, else the file name.
fn shortened(path: &str) -> String {
    let from = path.rfind("/src/").map_or_else(|| path.rfind('/').map_or(0, |slash| slash + 1), |slash| slash + 1);
    shown(&path.get(from..).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_as_in_the_source() {
        for (mangled, name) in [
            ("_ZN5hello14handle_request17h0123456789abcdefE", "hello::handle_request"),
            ("_RNvCs1234_5hello14handle_request", "hello::handle_request"),
            ("hello::handle_request::h0123456789abcdef", "hello::handle_request"),
            ("handle_request", "handle_request"),
        ] {
            assert_eq!(demangled(mangled), name, "{mangled}");
        }
        assert_eq!(demangled(&"é".repeat(1000)).len(), LONGEST_NAME);
    }

    #[test]
    fn paths_begin_at_the_source_directory() {
        assert_eq!(shortened("/home/me/hello/src/handler/line.rs"), "src/handler/line.rs");
        assert_eq!(shortened("/home/me/hello/hello.c"), "hello.c");
        assert_eq!(shortened("hello.c"), "hello.c");
    }

    #[test]
    fn panic_machinery_is_recognised() {
        let place = |name: &str| Place { function: Some(name.to_owned()), ..Place::default() };
        for name in ["core::panicking::panic_fmt", "<core::option::Option<u8>>::unwrap", "abort", "__assert_fail"] {
            assert!(is_machinery(&place(name)), "{name}");
        }
        for name in ["hello::handle_request", "abort_transfer", "main", "core_loop"] {
            assert!(!is_machinery(&place(name)), "{name}");
        }
    }
}
