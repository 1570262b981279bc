//! The objects: one map, whose lock is held for a look or a change and nothing else.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{answers::Refused, pieces::Pieces};

/// How the headers begin that tell of encryption.
pub(crate) const SSE: &str = "x-amz-server-side-encryption";

/// Headers that stay with an object, beside metadata and encryption.
const KEPT: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];

/// What stays with an object beside its bytes.
pub(crate) type Kept = Vec<(HeaderName, HeaderValue)>;

/// One object.
pub(crate) struct Object {
    pub(crate) body: Pieces,
    pub(crate) etag: HeaderValue,
    pub(crate) modified: SystemTime,
    pub(crate) kept: Kept,
}

impl Object {
    pub(crate) fn new(body: Pieces, etag: HeaderValue, kept: Kept) -> Self {
        Self { body, etag, modified: SystemTime::now(), kept }
    }
}

/// What must stand under a name for a request to be done.
#[derive(Clone, Copy)]
pub(crate) enum Condition<'a> {
    None,
    Absent,
    Matches(&'a [u8]),
}

impl<'a> Condition<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        match headers.get(header::IF_MATCH) {
            Some(tag) => Self::Matches(tag.as_bytes()),
            None if headers.contains_key(header::IF_NONE_MATCH) => Self::Absent,
            None => Self::None,
        }
    }

    /// # Errors
    /// [`Refused`] when `standing` isn't it.
    pub(crate) fn judge(self, standing: Option<&Object>) -> Result<(), Refused> {
        match (self, standing) {
            (Self::Matches(_), None) => Err(Refused::KEY),
            (Self::Absent, Some(_)) => Err(Refused::PRECONDITION),
            (Self::Matches(tag), Some(object)) if tag != b"*" && !is_tag(tag, &object.etag) => {
                Err(Refused::PRECONDITION)
            }
            _ => Ok(()),
        }
    }
}

/// All objects, by `bucket/key`.
#[derive(Default)]
pub(crate) struct Objects {
    held: Mutex<Held>,
    tags: AtomicU64,
}

#[derive(Default)]
struct Held {
    objects: HashMap<String, Arc<Object>>,
    bytes: usize,
}

impl Objects {
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Object>> {
        self.lock().objects.get(name).cloned()
    }

    pub(crate) fn put(&self, name: String, object: Object, condition: Condition<'_>) -> Result<(), Refused> {
        let object = Arc::new(object);
        let mut held = self.lock();
        let length = object.body.length();
        let replaced = match held.objects.entry(name) {
            Entry::Occupied(mut entry) => {
                condition.judge(Some(entry.get()))?;
                Some(entry.insert(object))
            }
            Entry::Vacant(entry) => {
                condition.judge(None)?;
                entry.insert(object);
                None
            }
        };
        held.bytes = held.bytes + length - replaced.as_ref().map_or(0, |replaced| replaced.body.length());
        // What was replaced goes after the lock.
        drop(held);
        drop(replaced);
        Ok(())
    }

    /// Forgets an object, if there is one.
    pub(crate) fn remove(&self, name: &str, condition: Condition<'_>) -> Result<(), Refused> {
        let mut held = self.lock();
        condition.judge(held.objects.get(name).map(AsRef::as_ref))?;
        let removed = held.objects.remove(name);
        held.bytes -= removed.as_ref().map_or(0, |removed| removed.body.length());
        drop(held);
        drop(removed);
        Ok(())
    }

    /// Forgets what begins with `prefix`, and tells how many that were.
    pub(crate) fn clear(&self, prefix: &str) -> usize {
        let mut held = self.lock();
        let removed: Vec<_> = held.objects.extract_if(|name, _| name.starts_with(prefix)).collect();
        held.bytes -= removed.iter().map(|(_, object)| object.body.length()).sum::<usize>();
        drop(held);
        removed.len()
    }

    /// What begins with `prefix`, in the order of names.
    pub(crate) fn below(&self, prefix: &str) -> Vec<(String, Arc<Object>)> {
        let held = self.lock();
        let found = held.objects.iter().filter(|(name, _)| name.starts_with(prefix));
        let mut found: Vec<_> = found.map(|(name, object)| (name.clone(), Arc::clone(object))).collect();
        drop(held);
        found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        found
    }

    /// How many there are, and how many bytes they have.
    pub(crate) fn held(&self) -> (usize, usize) {
        let held = self.lock();
        (held.objects.len(), held.bytes)
    }

    /// A tag for bytes that came in so many parts: their MD5, where the client said it, or else a
    /// number. That ends as the tag of an upload in parts does, because clients take 32 digits
    /// alone for an MD5, and compare (rclone does).
    pub(crate) fn tag(&self, md5: Option<&HeaderValue>, parts: usize) -> HeaderValue {
        let md5 = md5.and_then(|md5| <[u8; 16]>::try_from(STANDARD.decode(md5).ok()?).ok());
        let mut text = String::with_capacity(40);
        let _ = match md5 {
            Some(md5) => write!(text, "\"{:032x}\"", u128::from_be_bytes(md5)),
            None => write!(text, "\"{:032x}-{parts}\"", self.tags.fetch_add(1, Ordering::Relaxed)),
        };
        HeaderValue::try_from(text).expect("is ASCII")
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nothing panics while it is held")
    }
}

/// The headers of a request that stay with its object, copied: the request's own would keep the
/// buffer that they came in.
pub(crate) fn kept(headers: &HeaderMap) -> Kept {
    let own = |value: &[u8]| HeaderValue::from_bytes(value).expect("is one already");
    let stay = headers.iter().filter(|(name, _)| stays(name.as_str()));
    let mut kept = Kept::new();
    for (name, value) in stay {
        // How the body came isn't how it is kept.
        let rest = (*name == header::CONTENT_ENCODING).then(|| unchunked(value));
        match rest {
            None => kept.push((name.clone(), own(value.as_bytes()))),
            Some(Some(rest)) => kept.push((name.clone(), own(rest.as_bytes()))),
            Some(None) => {}
        }
    }
    kept
}

/// Whether `said`, with quotes or without, is the tag `etag`.
pub(crate) fn is_tag(said: &[u8], etag: &HeaderValue) -> bool {
    fn bare(tag: &[u8]) -> &[u8] {
        tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")).unwrap_or(tag)
    }
    bare(said) == bare(etag.as_bytes())
}

fn stays(name: &str) -> bool {
    KEPT.contains(&name) || name.starts_with("x-amz-meta-") || name.starts_with(SSE)
}

fn unchunked(coding: &HeaderValue) -> Option<String> {
    let codings = coding.to_str().ok()?.split(',').map(str::trim);
    let rest = codings.filter(|coding| !coding.is_empty() && *coding != "aws-chunked").collect::<Vec<_>>().join(",");
    (!rest.is_empty()).then_some(rest)
}
