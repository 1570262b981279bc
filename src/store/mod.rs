//! Carries sealed bytes to their resting place, or undoes the attempt.
//!
//! The trait is written for S3's ways, because they are the stricter ones:
//! numbered parts, a condition that is judged at the end, ranges pinned to an
//! entity tag, and answers that get lost. A store sees ciphertext only.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{fault::Tamper, message::MessageId, proof::Proof};

pub mod fs;
pub mod s3;

/// Where sealed bytes rest. One value serves one bucket or directory.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// How this store wants its parts.
    fn rules(&self) -> &PartRules;

    /// Whether a [`put`](Self::put) of so many bytes says if it took the place of another, where its
    /// [`Target::tells`] asks for that.
    fn tells(&self, length: u64) -> bool {
        let _ = length;
        true
    }

    /// Stores a whole message at once. Nothing is visible before all of it is.
    async fn put(&self, target: Target, message: Payload) -> Result<Stored, Failure>;

    /// Begins a message that comes in parts. Nothing is visible before
    /// [`Upload::complete`] has returned.
    async fn begin(&self, target: Target) -> Result<Box<dyn Upload>, Failure>;

    /// What stands under `name`, without its bytes.
    async fn stat(&self, name: &str) -> Result<Option<Stat>, Failure>;

    /// Opens what stands under `name`, at `span`. With `pin`, only if it still
    /// bears that entity tag: [`Failure::Precondition`] otherwise.
    async fn read(&self, name: &str, span: Span, pin: Option<&ETag>) -> Result<Reading, Failure>;

    /// Removes what stands under `name`. [`Failure::NotFound`] when nothing does.
    async fn delete(&self, name: &str, condition: &Condition) -> Result<(), Failure>;

    /// Whether the store is there, as far as can be told cheaply by asking for what
    /// lies below `prefix`.
    async fn probe(&self, prefix: &str) -> Result<(), Failure>;

    /// Up to `limit` names that begin with `prefix` and sort after `after`, in
    /// the order of their bytes.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, Failure>;

    /// Why the store takes nothing more, where it found that it must not.
    fn closed(&self) -> Option<String> {
        None
    }

    /// Lets go of what waited for too long to be used; called now and then.
    fn sweep(&self) {}

    /// Undoes uploads below `prefix` that nobody finished for so long; how many.
    /// Only for a prefix below which nobody else writes.
    async fn abort_orphans(&self, prefix: &str, older_than: Duration) -> Result<u64, Failure> {
        let _ = (prefix, older_than);
        Ok(0)
    }

    /// Undoes the upload called `upload` of `name`; whether nothing of it is left.
    async fn abort_upload(&self, name: &str, upload: &str) -> bool {
        let _ = (name, upload);
        true
    }

    /// Looks at the store's own settings, and with `write` begins and undoes an
    /// upload below `prefix`. What it finds wrong keeps it from finding nothing else.
    async fn prove(&self, prefix: &str, write: bool) -> Vec<Proof> {
        let _ = (prefix, write);
        Vec::new()
    }
}

/// A message on its way, in parts. Whoever holds it finishes or aborts it.
///
/// Dropping it without either must leave nothing visible, and nothing behind
/// that the store's own sweep doesn't find.
#[async_trait]
pub trait Upload: Send {
    /// What the store calls this upload, where it would outlive us.
    fn id(&self) -> Option<&str> {
        None
    }

    /// Takes the next part, which has at most [`PartRules::max`] bytes and, unless
    /// it is the last, at least [`PartRules::min`]. Returns when another part may
    /// be made, which may be before this one has landed. The part's memory comes
    /// back by itself: a caller may wait for it.
    async fn part(&mut self, part: Payload) -> Result<(), Failure>;

    /// Makes the whole message visible, if the target's condition holds.
    async fn complete(self: Box<Self>) -> Result<Stored, Failure>;

    /// Undoes the attempt; waits for parts in flight, and does not return before
    /// nothing is left or it has said in the log what is.
    async fn abort(self: Box<Self>);
}

/// The sealed bytes of one reading, in order.
#[async_trait]
pub trait Source: Send {
    /// Appends exactly `want` bytes to `into`, or fewer at the end of the span.
    /// Returns how many.
    async fn fill(&mut self, into: &mut Vec<u8>, want: usize) -> Result<usize, Failure>;
}

/// Sealed bytes on their way.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The bytes.
    pub bytes: Bytes,
    /// Their CRC-64/NVME, where it was taken as they were sealed.
    pub crc64: Option<u64>,
}

impl<B: Into<Bytes>> From<B> for Payload {
    fn from(bytes: B) -> Self {
        Self { bytes: bytes.into(), crc64: None }
    }
}

/// Where a message goes, and under which conditions.
#[derive(Clone, Debug)]
pub struct Target {
    /// The full name in the store, the class's prefix included; at most 1,024 bytes.
    pub name: String,
    /// What stands beside the bytes.
    pub attributes: Attributes,
    /// What must hold when the message becomes visible.
    pub condition: Condition,
    /// The message's own id, by which a lost answer is resolved.
    pub id: MessageId,
    /// The whole sealed length, where it is known.
    pub length: Option<u64>,
    /// Whether the answer has to say if it took the place of another.
    pub tells: bool,
}

/// What must hold for a write or a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// Nothing stands under the name (`If-None-Match: *`).
    Absent,
    /// What stands under the name bears this entity tag (`If-Match`).
    Matches(ETag),
}

/// A strong entity tag, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// What stands beside a message's bytes. Every store keeps it exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Small entries by lower-case name: S3's user metadata, without `x-amz-meta-`.
    pub entries: BTreeMap<String, String>,
    /// HTTP headers that the store itself knows (`content-type` and its like),
    /// by lower-case name; empty unless a class's metadata is plain.
    pub headers: BTreeMap<String, String>,
}

/// How a store wants its parts.
#[derive(Clone, Copy, Debug)]
pub struct PartRules {
    /// The least a part may have, the last one excepted; bytes.
    pub min: u64,
    /// What a part has where nothing speaks for more; bytes.
    pub usual: u64,
    /// The most a part may have; bytes.
    pub max: u64,
    /// How many parts a message may have.
    pub count: u32,
    /// Messages up to this many bytes go in one [`Store::put`].
    pub whole: u64,
    /// Whether it sends each payload's CRC-64/NVME along. Taken as frames are sealed it
    /// costs half of what a second pass over a whole part does.
    pub crc64: bool,
}

/// A write that happened.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The entity tag it bears.
    pub etag: ETag,
    /// Whether it took the place of another; `None` where the store can't tell.
    pub replaced: Option<bool>,
    /// What the store calls this version of the object, where it keeps versions.
    pub version: Option<String>,
}

/// What stands under a name.
#[derive(Clone, Debug)]
pub struct Stat {
    /// Its entity tag.
    pub etag: ETag,
    /// Sealed bytes in all.
    pub length: u64,
    /// When it became visible.
    pub modified: SystemTime,
    /// What stands beside the bytes.
    pub attributes: Attributes,
}

/// Which bytes of a message are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All of them.
    Whole,
    /// `length` bytes from `start`; fewer where the message ends first.
    Part {
        /// Offset of the first byte.
        start: u64,
        /// How many.
        length: u64,
    },
}

/// An answer to [`Store::read`].
pub struct Reading {
    /// The whole object, whatever span was asked for.
    pub stat: Stat,
    /// The bytes of the span.
    pub source: Box<dyn Source>,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Names in the order of their bytes.
    pub items: Vec<Item>,
    /// Whether more follow the last.
    pub more: bool,
}

/// One line of a list.
#[derive(Clone, Debug)]
pub struct Item {
    /// The full name, the class's prefix included.
    pub name: String,
    /// Its entity tag.
    pub etag: ETag,
    /// Sealed bytes.
    pub length: u64,
    /// When it became visible.
    pub modified: SystemTime,
}

/// Why a store didn't do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing stands under the name.
    NotFound,
    /// The condition, or the pin, doesn't hold.
    Precondition,
    /// Another writer was faster.
    Conflict,
    /// No room.
    NoSpace,
    /// The name can't be kept by this store; the text says why.
    Name(&'static str),
    /// The store is away, or too busy; the text is for the log.
    Unavailable(String),
    /// The store refused us; the text is for the log.
    Denied(String),
    /// Sent, but what came of it could not be learnt; the text is for the log.
    OutcomeUnknown(String),
    /// What stands there can't be what was stored; the text is for the log.
    Damaged(Tamper, String),
    /// The store answered what makes no sense; the text is for the log.
    Nonsense(String),
    /// Anything else; the text is for the log.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("nothing stands under that name"),
            Self::Precondition => f.write_str("the condition does not hold"),
            Self::Conflict => f.write_str("another writer was faster"),
            Self::NoSpace => f.write_str("the store has no room"),
            Self::Name(why) => write!(f, "the store can't keep that name: {why}"),
            Self::Unavailable(detail) => write!(f, "the store is away: {detail}"),
            Self::Denied(detail) => write!(f, "the store refused: {detail}"),
            Self::OutcomeUnknown(detail) => write!(f, "the outcome is unknown: {detail}"),
            Self::Damaged(reason, detail) => write!(f, "damage ({}): {detail}", reason.as_str()),
            Self::Nonsense(detail) => write!(f, "the store answered what it must not: {detail}"),
            Self::Other(detail) => f.write_str(detail),
        }
    }
}

impl std::error::Error for Failure {}
