//! From when to when a certificate is valid: the one thing in it that the host reads itself, to warn of what clients will refuse.
//!
//! Nothing is decided by it. What cannot be read has no validity, and no warning.

use std::time::{SystemTime, UNIX_EPOCH};

/// In seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    from: i64,
    to: i64,
}

/// How a certificate stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    NotYet,
    Valid,
    Expired,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Validity {
    /// That of a certificate in DER: `SEQUENCE { SEQUENCE { [0] version, serial, algorithm, issuer, SEQUENCE { from, to }, …`.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(certificate)?;
        let (_, mut fields, _) = element(certificate)?;
        if fields.first() == Some(&VERSION) {
            fields = element(fields)?.2;
        }
        for _serial_algorithm_issuer in 0..3 {
            fields = element(fields)?.2;
        }
        let (SEQUENCE, validity, _) = element(fields)? else { return None };
        let (tag, from, rest) = element(validity)?;
        let from = seconds(tag, from)?;
        let (tag, to, _) = element(rest)?;
        Some(Self { from, to: seconds(tag, to)? })
    }

    pub(super) fn now(self) -> Standing {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.at(i64::try_from(now).unwrap_or(i64::MAX))
    }

    fn at(self, moment: i64) -> Standing {
        if moment < self.from {
            Standing::NotYet
        } else if moment > self.to {
            Standing::Expired
        } else {
            Standing::Valid
        }
    }
}

/// The tag of what a text of DER begins with, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        // So many bytes have the length: no certificate needs more than three.
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f)).filter(|(bytes, _)| bytes.len() <= 3)?;
        (bytes.iter().fold(0, |length, &byte| (length << 8) | usize::from(byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ`, whose years begin in 1950, or `YYYYMMDDhhmmssZ`.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let parts: Vec<i64> = rest.chunks(2).map(number).collect::<Option<_>>()?;
    let &[month @ 1..=12, day @ 1..=31, hour @ 0..24, minute @ 0..60, second @ 0..=60] = parts.as_slice() else {
        return None;
    };
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days from the first of 1970. A year that begins in March has its leap day at its end, where it moves no other day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // From March on, months have 31 and 30 days in turn, which makes 153 in five.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (year, month, day, expected) in [
            (1970, 1, 1, 0),
            (1969, 12, 31, -1),
            (2000, 2, 29, 11_016),
            (2000, 3, 1, 11_017),
            (2026, 11, 22, 20_779),
            (2100, 3, 1, 47_541),
        ] {
            assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn both_ways_to_write_a_time_are_read() {
        assert_eq!(seconds(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, b"491231235959Z"), seconds(GENERALIZED_TIME, b"20491231235959Z"));
        assert_eq!(seconds(GENERALIZED_TIME, b"99991231235959Z"), Some(253_402_300_799));
        for wrong in ["", "Z", "7001010000Z", "700101000000", "701301000000Z", "7001010000x0Z", "70010100000012Z"] {
            assert_eq!(seconds(UTC_TIME, wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_certificate_is_read_and_garbage_is_not() {
        let mut parameters = rcgen::CertificateParams::new(vec!["example.org".into()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2000, 2, 29);
        parameters.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let validity = Validity::of(certificate.der()).unwrap();
        let (from, to) = (11_016 * 86_400, days(2060, 1, 1) * 86_400);
        assert_eq!(validity, Validity { from, to });
        assert_eq!([from - 1, from, to, to + 1].map(|moment| validity.at(moment)), {
            [Standing::NotYet, Standing::Valid, Standing::Valid, Standing::Expired]
        });
        for end in 0..certificate.der().len() {
            assert_eq!(Validity::of(&certificate.der()[..end]), None, "cut after {end} bytes");
        }
    }
}
