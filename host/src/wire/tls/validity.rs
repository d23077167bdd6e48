//! The period in which a certificate is valid, for warnings about certificates that clients will
//! reject.
//!
//! It does not decide what is accepted. An unreadable period means no warning.

use super::der;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    from: i64,
    to: i64,
}

/// A second, printed as `2026-11-22 10:30:00 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) i64);

/// The state of a certificate at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    NotYet,
    Valid,
    Expired,
}

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Validity {
    /// Parses the validity field of a certificate: two times.
    pub(super) fn of(field: &[u8]) -> Option<Self> {
        let (tag, from, rest) = der::element(field)?;
        let from = seconds(tag, from)?;
        let (tag, to, _) = der::element(rest)?;
        Some(Self { from, to: seconds(tag, to)? })
    }

    /// Its first second.
    pub(super) fn from(self) -> Moment {
        Moment(self.from)
    }

    /// Its last second.
    pub(super) fn to(self) -> Moment {
        Moment(self.to)
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

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // The estimate may be off by one year: the day on which the year begins shows it.
        let mut year = 1970 + day.div_euclid(366);
        while days(year + 1, 1, 1) <= day {
            year += 1;
        }
        let month = (1..=12).rev().find(|&month| days(year, month, 1) <= day).unwrap_or(1);
        let day = day - days(year, month, 1) + 1;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Days since 1 January 1970. Years that begin in March have the leap day at their end, where it
/// moves no other day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // From March on, months have 31 and 30 days in turn: 153 in five months.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_match_the_calendar() {
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
    fn a_moment_prints_as_date_and_time() {
        for (moment, written) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (11_016 * 86_400 + 3_661, "2000-02-29 01:01:01 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
            (i64::from(i32::MAX), "2038-01-19 03:14:07 UTC"),
        ] {
            assert_eq!(Moment(moment).to_string(), written);
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
        let read = |der: &[u8]| super::super::x509::X509::of(der)?.validity;
        let validity = read(certificate.der()).unwrap();
        let (from, to) = (11_016 * 86_400, days(2060, 1, 1) * 86_400);
        assert_eq!(validity, Validity { from, to });
        assert_eq!([from - 1, from, to, to + 1].map(|moment| validity.at(moment)), {
            [Standing::NotYet, Standing::Valid, Standing::Valid, Standing::Expired]
        });
        for end in 0..certificate.der().len() {
            assert_eq!(read(&certificate.der()[..end]), None, "cut after {end} bytes");
        }
    }
}
