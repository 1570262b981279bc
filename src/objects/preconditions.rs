//! The conditions of a read, in RFC 9110's order (section 13.2.2).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::store::{ETag, Stat};

/// What a reader asks of the object's state.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// `If-Match`
    pub if_match: Option<ETagList>,
    /// `If-None-Match`
    pub if_none_match: Option<ETagList>,
    /// `If-Modified-Since`
    pub modified_since: Option<SystemTime>,
    /// `If-Unmodified-Since`
    pub unmodified_since: Option<SystemTime>,
}

/// Entity tags of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ETagList {
    /// `*`
    Any,
    /// Opaque tags; the flag says weak.
    These(Vec<(ETag, bool)>),
}

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Proceed,
    /// 304
    NotModified,
    /// 412
    Failed,
}

impl Preconditions {
    /// Judges an object that is there.
    pub fn judge(&self, stat: &Stat) -> Verdict {
        match (&self.if_match, self.unmodified_since) {
            (Some(list), _) if !list.matches(&stat.etag, true) => return Verdict::Failed,
            (None, Some(date)) if whole_seconds(stat.modified) > date => return Verdict::Failed,
            _ => {}
        }
        match (&self.if_none_match, self.modified_since) {
            (Some(list), _) if list.matches(&stat.etag, false) => Verdict::NotModified,
            (None, Some(date)) if whole_seconds(stat.modified) <= date => Verdict::NotModified,
            _ => Verdict::Proceed,
        }
    }
}

impl ETagList {
    /// Whether `etag` is among them; a weak tag never is, compared strongly.
    pub fn matches(&self, etag: &ETag, strong: bool) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|(tag, weak)| tag == etag && !(strong && *weak)),
        }
    }
}

/// HTTP dates have no fractions: an object is as old as its header says.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Attributes;

    #[test]
    fn conditions_are_judged_in_order() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 700);
        let date = |seconds: u64| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let stat = Stat { etag: ETag("a".into()), length: 1, modified: at(100), attributes: Attributes::default() };
        let tags = |tag: &str, weak| Some(ETagList::These(vec![(ETag("z".into()), false), (ETag(tag.into()), weak)]));
        let none = Preconditions::default;
        for (conditions, verdict) in [
            (none(), Verdict::Proceed),
            (Preconditions { if_match: tags("a", false), ..none() }, Verdict::Proceed),
            (Preconditions { if_match: tags("a", true), ..none() }, Verdict::Failed),
            (Preconditions { if_match: tags("b", false), ..none() }, Verdict::Failed),
            (Preconditions { if_match: Some(ETagList::Any), ..none() }, Verdict::Proceed),
            (Preconditions { if_none_match: tags("a", true), ..none() }, Verdict::NotModified),
            (Preconditions { if_none_match: tags("b", true), ..none() }, Verdict::Proceed),
            (Preconditions { if_none_match: Some(ETagList::Any), ..none() }, Verdict::NotModified),
            (Preconditions { modified_since: date(100), ..none() }, Verdict::NotModified),
            (Preconditions { modified_since: date(99), ..none() }, Verdict::Proceed),
            (Preconditions { unmodified_since: date(100), ..none() }, Verdict::Proceed),
            (Preconditions { unmodified_since: date(99), ..none() }, Verdict::Failed),
            // A date is not asked where a tag was.
            (Preconditions { if_match: tags("a", false), unmodified_since: date(1), ..none() }, Verdict::Proceed),
            (Preconditions { if_none_match: tags("b", false), modified_since: date(100), ..none() }, Verdict::Proceed),
        ] {
            assert_eq!(conditions.judge(&stat), verdict, "{conditions:?}");
        }
    }
}
