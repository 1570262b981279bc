//! Durations and sizes as people write them.

use std::{fmt::Write as _, time::Duration};

/// Why a duration or size can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A duration without a unit.
    NoUnit,
    /// Not a whole number with a unit that we know.
    Malformed,
    /// More than fits: 2^64 - 1 milliseconds or bytes.
    TooLarge,
}

/// Milliseconds of each unit.
const DURATIONS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Bytes of each unit.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Reads `500ms`, `10s`, `5m`, `1h`, `7d`: a whole number and its unit.
pub(super) fn duration(text: &str) -> Result<Duration, Unreadable> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Err(Unreadable::NoUnit);
    }
    scaled(number, unit, DURATIONS).map(Duration::from_millis)
}

/// Reads `64KiB`, `8MiB`, `10MB`, or a bare number of bytes.
pub(super) fn size(text: &str) -> Result<u64, Unreadable> {
    match split(text)? {
        (number, "") => Ok(number),
        (number, unit) => scaled(number, unit, SIZES),
    }
}

/// Writes a duration in the largest unit that is exact.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, DURATIONS)
}

/// Writes a size in the largest binary unit that is exact.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES[..5])
}

fn split(text: &str) -> Result<(u64, &str), Unreadable> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(Unreadable::Malformed);
    }
    // Only digits stand here, so a failure can only be an overflow.
    Ok((number.parse().map_err(|_| Unreadable::TooLarge)?, unit))
}

fn scaled(number: u64, unit: &str, units: &[(&str, u64)]) -> Result<u64, Unreadable> {
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or(Unreadable::Malformed)?;
    number.checked_mul(*factor).ok_or(Unreadable::TooLarge)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let exact = units.iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    let (unit, factor) = exact.unwrap_or(&units[0]);
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write!(text, "{}{unit}", value / factor);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, millis) in [
            ("0s", 0),
            ("1ms", 1),
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("18446744073709551615ms", u64::MAX),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn durations_that_are_none() {
        for (text, why) in [
            ("10", Unreadable::NoUnit),
            ("", Unreadable::Malformed),
            ("s", Unreadable::Malformed),
            ("-1s", Unreadable::Malformed),
            ("1.5s", Unreadable::Malformed),
            ("10 s", Unreadable::Malformed),
            ("10S", Unreadable::Malformed),
            ("1h30m", Unreadable::Malformed),
            ("10sec", Unreadable::Malformed),
            ("18446744073709551615s", Unreadable::TooLarge),
            ("18446744073709551616ms", Unreadable::TooLarge),
        ] {
            assert_eq!(duration(text), Err(why), "{text}");
        }
    }

    #[test]
    fn sizes_are_exact() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("17B", 17),
            ("64KiB", 65_536),
            ("8MiB", 8_388_608),
            ("1GiB", 1_073_741_824),
            ("1TiB", 1_099_511_627_776),
            ("1KB", 1000),
            ("2MB", 2_000_000),
            ("3GB", 3_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("18446744073709551615", u64::MAX),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_none() {
        for (text, why) in [
            ("", Unreadable::Malformed),
            ("KiB", Unreadable::Malformed),
            ("64kib", Unreadable::Malformed),
            ("64K", Unreadable::Malformed),
            ("1.5GiB", Unreadable::Malformed),
            ("64 KiB", Unreadable::Malformed),
            ("-1", Unreadable::Malformed),
            ("18446744073709551616", Unreadable::TooLarge),
            ("16777216TiB", Unreadable::TooLarge),
        ] {
            assert_eq!(size(text), Err(why), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for millis in [0, 1, 999, 1000, 90_000, 3_600_000, 86_400_000] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&show_duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1000, 1024, 4 << 20, (1 << 40) + 1, 1 << 40] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_duration(Duration::from_secs(300)), "5m");
        assert_eq!(show_size(256 << 20), "256MiB");
    }
}
