//! Converts words to values: counts, times, sizes. Each error names the option, the word and the
//! values that it takes.

use super::error::Error;
use crate::component::Kind;
use std::{fmt::Display, num::NonZeroU32, str::FromStr, time::Duration};

pub(super) fn parse<T: FromStr<Err: Display>>(option: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|remedy| Error::value(option, text, remedy))
}

/// Most variables, arguments, directories and addresses, of each kind: every guest that asks gets
/// them all.
const MOST_GRANTS: usize = 256;

/// Parses each value. Values with a name must have different names.
pub(super) fn distinct<T: FromStr<Err: Display>>(
    option: &'static str,
    texts: &[String],
    name: impl Fn(&T) -> &str,
) -> Result<Vec<T>, Error> {
    let mut values: Vec<T> = Vec::new();
    for text in texts {
        let value: T = parse(option, text)?;
        if values.iter().any(|earlier| !name(earlier).is_empty() && name(earlier) == name(&value)) {
            // Only the name: the value may be a secret.
            return Err(Error::value(option, name(&value), "is given a second time; give it once"));
        }
        values.push(value);
    }
    if values.len() > MOST_GRANTS {
        return Err(Error::value(option, values.len(), format!("is more than {MOST_GRANTS} of them; give fewer")));
    }
    Ok(values)
}

/// Several values of one option, combined.
pub(super) fn parse_all<T: FromStr<Err: Display> + FromIterator<T>>(
    option: &'static str,
    values: &[String],
) -> Result<T, Error> {
    values.iter().map(|value| parse::<T>(option, value)).collect()
}

pub(super) fn truth(option: &'static str, text: &str) -> Result<bool, Error> {
    text.parse().map_err(|_error| Error::value(option, text, "is not one of true, false"))
}

/// A whole number that is not zero.
pub(super) struct Count(pub(super) NonZeroU32);

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Limited by the counters of the runtime, far beyond the capacity of a machine.
        match text.parse() {
            Ok(count @ 1..=1_000_000) => NonZeroU32::new(count).map(Self).ok_or("is not a count"),
            _ => Err("is not a whole number from 1 to 1000000"),
        }
    }
}

pub(super) fn duration(option: &'static str, text: &str) -> Result<Duration, Error> {
    const REMEDY: &str = "is not a time with its unit, as in 500ms, 30s or 5m";
    // A year is longer than any process lives here, and keeps every deadline far from overflow.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(Error::value(option, text, "is zero; give at least 1ms")),
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err(Error::value(option, text, "is longer than a year; give less")),
        Err(_) => Err(Error::value(option, text, REMEDY)),
    }
}

pub(super) fn optional_duration(option: &'static str, text: &str) -> Result<Option<Duration>, Error> {
    match duration(option, text) {
        _ if text == "none" => Ok(None),
        Err(Error::Value { value, remedy, .. }) => {
            Err(Error::value(option, value, format!("{remedy}; none disables it")))
        }
        time => time.map(Some),
    }
}

/// `None` for the first kind that the plugin matches.
pub(super) fn plugin_kind(text: &str) -> Result<Option<Kind>, Error> {
    if text == "auto" { Ok(None) } else { parse("--plugin-kind", text).map(Some) }
}

/// Binary units as in `64MiB`, decimal ones as in `64MB`.
pub(super) fn size(option: &'static str, text: &str) -> Result<usize, Error> {
    match bytes(option, text)? {
        0 => Err(Error::value(option, text, "is zero; a small guest needs 2MiB")),
        bytes => Ok(bytes),
    }
}

/// `None` to choose by the plugin, the available memory and the number of connections.
pub(super) fn kept_memory(text: &str) -> Result<Option<usize>, Error> {
    const OPTION: &str = "--guest-memory-kept";
    match bytes(OPTION, text) {
        _ if text == "auto" => Ok(None),
        Err(Error::Value { value, remedy, .. }) => Err(Error::value(
            OPTION,
            value,
            format!("{remedy}; auto depends on the plugin and the memory of the machine"),
        )),
        kept => kept.map(Some),
    }
}

fn bytes(option: &'static str, text: &str) -> Result<usize, Error> {
    const UNITS: [(&str, usize); 6] =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    // A guest of wasm32 cannot address more.
    const LARGEST: usize = 4 << 30;
    let parsed = UNITS.iter().find_map(|(unit, factor)| {
        Some(text.strip_suffix(unit)?.trim_end().parse::<usize>().ok()?.checked_mul(*factor))
    });
    match parsed.flatten() {
        Some(bytes) if bytes <= LARGEST => Ok(bytes),
        Some(_) => Err(Error::value(option, text, "is more than 4GiB, which a guest cannot address")),
        None => Err(Error::value(option, text, "is not a whole number with its unit, as in 64MiB")),
    }
}
