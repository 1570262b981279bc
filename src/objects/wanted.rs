//! What of an object is wanted: under which conditions, and which bytes.

use std::time::{Duration, SystemTime};

use super::Preconditions;
use crate::store::{ETag, Stat};

/// What a reader wants.
#[derive(Default)]
pub struct Wanted {
    /// Conditions on the object's state.
    pub preconditions: Preconditions,
    /// One range; the whole when absent.
    pub range: Option<RangeSpec>,
    /// The range only counts if the object is still this one.
    pub if_range: Option<IfRange>,
    /// Only what stands beside the bytes.
    pub head_only: bool,
}

/// One range of RFC 9110, section 14.1.2, as it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-last`, or `first-` to the end.
    From(u64, Option<u64>),
    /// `-n`: the last n bytes.
    Last(u64),
}

/// `If-Range`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfRange {
    /// A strong entity tag.
    Tag(ETag),
    /// An exact date; also what a weak tag comes to, as a date that is none.
    Date(Option<SystemTime>),
}

impl RangeSpec {
    /// The first and last byte in an object of `length` bytes, if there are any.
    pub fn resolve(self, length: u64) -> Option<(u64, u64)> {
        let last = length.checked_sub(1)?;
        match self {
            Self::From(first, end) if first <= last => Some((first, end.unwrap_or(last).min(last))),
            Self::Last(count) if count > 0 => Some((length.saturating_sub(count), last)),
            _ => None,
        }
    }
}

impl Wanted {
    /// Whether the object is still the one that the range was asked of.
    pub(super) fn is_of(&self, stat: &Stat) -> bool {
        match &self.if_range {
            None => true,
            Some(IfRange::Tag(tag)) => *tag == stat.etag,
            Some(IfRange::Date(date)) => date.is_some_and(|date| {
                stat.modified.duration_since(date).is_ok_and(|since| since < Duration::from_secs(1))
            }),
        }
    }
}
