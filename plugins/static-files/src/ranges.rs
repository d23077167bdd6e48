//! Range requests: RFC 9110, section 14.

/// A client that asks for more parts at once gets the whole file, since ranges should save work.
const MOST_PARTS: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// It asked for no valid part.
    Whole,
    Parts(Vec<Part>),
    /// All parts that it asked for are outside the file.
    Nothing,
}

/// At least one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: u64,
    pub(crate) length: u64,
}

impl Part {
    pub(crate) fn last(self) -> u64 {
        self.first + self.length - 1
    }

    /// The part in the form of a `Content-Range`.
    pub(crate) fn of(self, length: u64) -> String {
        format!("bytes {}-{}/{length}", self.first, self.last())
    }
}

impl Selection {
    /// The parts of a file of this length that the header `Range` selects.
    pub(crate) fn of(header: &str, length: u64) -> Self {
        let Some((unit, list)) = header.split_once('=') else { return Self::Whole };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        let mut parts = Vec::new();
        for (count, range) in list.split(',').enumerate() {
            match part(range.trim(), length) {
                None => return Self::Whole,
                Some(_) if count == MOST_PARTS => return Self::Whole,
                Some(found) => parts.extend(found),
            }
        }
        // Overlapping parts may be more than the whole file.
        let wanted = parts.iter().map(|part| u128::from(part.length)).sum::<u128>();
        if parts.is_empty() {
            Self::Nothing
        } else if parts.len() > 1 && wanted >= u128::from(length) {
            Self::Whole
        } else {
            Self::Parts(parts)
        }
    }
}

/// `None` if it is not a range, `Some(None)` if it selects nothing.
fn part(range: &str, length: u64) -> Option<Option<Part>> {
    let (first, last) = range.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?.min(length);
        return Some((suffix > 0).then(|| Part { first: length - suffix, length: suffix }));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some((first < length).then(|| Part { first, length: last.min(length - 1) - first + 1 }))
}

/// A number that is too large counts as the largest.
fn number(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Part, Selection};

    #[track_caller]
    fn selects(header: &str, parts: &[(u64, u64)]) {
        let parts = parts.iter().map(|&(first, length)| Part { first, length }).collect();
        assert_eq!(Selection::of(header, 100), Selection::Parts(parts), "{header}");
    }

    #[test]
    fn parts_are_selected() {
        selects("bytes=0-0", &[(0, 1)]);
        selects("bytes=0-99", &[(0, 100)]);
        selects("Bytes=10-19", &[(10, 10)]);
        selects("bytes=90-", &[(90, 10)]);
        selects("bytes=-10", &[(90, 10)]);
        selects("bytes=-1000", &[(0, 100)]);
        selects("bytes=90-99999999999999999999999", &[(90, 10)]);
        selects("bytes=0-9, 20-29,-5", &[(0, 10), (20, 10), (95, 5)]);
        selects("bytes=0-9,200-", &[(0, 10)]);
    }

    #[test]
    fn an_invalid_range_selects_the_whole_file() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "lines=1-2",
            "bytes=9-1",
            "bytes=a-b",
            "bytes=-",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1-2,x",
            "bytes=0-50,40-99",
        ] {
            assert_eq!(Selection::of(header, 100), Selection::Whole, "{header}");
        }
        let many = format!("bytes={}", vec!["0-0"; 17].join(","));
        assert_eq!(Selection::of(&many, 100), Selection::Whole);
        assert!(matches!(Selection::of(&many[..many.len() - 4], 100), Selection::Parts(parts) if parts.len() == 16));
    }

    #[test]
    fn a_range_outside_the_file_selects_nothing() {
        for header in ["bytes=100-", "bytes=100-200,300-", "bytes=-0"] {
            assert_eq!(Selection::of(header, 100), Selection::Nothing, "{header}");
        }
        assert_eq!(Selection::of("bytes=0-", 0), Selection::Nothing);
        assert_eq!(Selection::of("bytes=-5", 0), Selection::Nothing);
    }
}
