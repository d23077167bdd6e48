//! The form of a record: a line of text for people, or a JSON object for machines. Both begin with
//! the process that wrote it.

use super::GENERATION;
use nix::unistd::getpid;
use serde_json::Value;
use std::{
    fmt::{self, Write},
    sync::atomic::Ordering,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// For people: `[PID/GENERATION] TIME LEVEL what happened field=value`.
pub(super) struct Text(Format<Full>);

impl Default for Text {
    fn default() -> Self {
        Self(Format::default().with_target(false))
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "[{}/{}] ", getpid(), GENERATION.load(Ordering::Relaxed))?;
        self.0.format_event(context, writer, event)
    }
}

/// For machines: one object a line. The keys of [`Object::begun`] come first, then the record's
/// fields.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut object = Object::begun(time, event.metadata().level().as_str());
        event.record(&mut object);
        object.write(&mut writer)
    }
}

/// A JSON object whose keys are unique (RFC 8259, section 4): of two equal keys a parser keeps
/// either.
struct Object(Vec<(String, Value)>);

impl Object {
    /// The keys of every record. No field may have one of these names.
    fn begun(time: String, level: &str) -> Self {
        let generation = GENERATION.load(Ordering::Relaxed);
        Self(vec![
            ("pid".into(), getpid().as_raw().into()),
            ("generation".into(), generation.into()),
            ("timestamp".into(), time.into()),
            ("level".into(), level.into()),
        ])
    }

    fn add(&mut self, field: &Field, value: Value) {
        let mut key = field.name().to_owned();
        // A bug in this program, for which a test searches the source. It costs the record only the
        // name of a key.
        while self.0.iter().any(|(known, _)| *known == key) {
            key.push('_');
        }
        self.0.push((key, value));
    }

    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            write!(writer, "{before}{}:{value}", Value::from(key.as_str()))?;
        }
        writer.write_str("}\n")
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string fails only if the value's own formatting does. The text before the
        // failure is kept.
        write!(text, "{value:?}").unwrap_or_default();
        self.add(field, text.into());
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// The keys of every record, which the fields of a macro must not use.
    const RESERVED: [&str; 5] = ["pid", "generation", "timestamp", "level", "message"];

    fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn no_record_has_a_field_with_a_reserved_name() {
        let mut found = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let mut records = 0;
        for (path, source) in found {
            for level in ["debug!(", "info!(", "warn!(", "error!(", "tell!("] {
                for (at, _) in source.match_indices(level) {
                    records += 1;
                    // The fields stand before the text.
                    let fields = source[at + level.len()..].split('"').next().unwrap();
                    let named = fields.split(',').map(|field| field.split('=').next().unwrap().trim());
                    for name in named.map(|name| name.trim_start_matches(['%', '?'])) {
                        assert!(!RESERVED.contains(&name), "{path}: a record has a field {name:?}: {level}{fields}");
                    }
                }
            }
        }
        assert!(records > 100, "the search for records is wrong: it found {records}");
    }
}
