//! One object put, read, listed, removed: message + keys + store.
//!
//! [`Objects`] is one class at work. What it takes and gives is plaintext with a
//! description; what it hands to the store is sealed; what it believes of the
//! store is what it has verified.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::{
    budget::Budget,
    config::Class,
    fault::Fault,
    index::Index,
    keys::DataKeys,
    message::Layout,
    metrics::Metrics,
    store::{Failure, Store},
};

mod account;
mod bound;
mod canary;
mod description;
mod digests;
mod download;
mod filling;
mod frames;
mod list;
mod name;
mod preconditions;
mod upload;
mod verified;
mod wanted;

pub use bound::{check_bound, context_of};
pub use description::{Description, STORED_HEADERS};
pub use digests::{Algorithm, Promise, Promises};
pub use download::{Answer, Found};
pub use frames::Chunks;
pub use list::{Entry, Listing};
pub use name::{MAX_NAME, ObjectKey, logged};
pub use preconditions::{ETagList, Preconditions, Verdict};
pub use upload::{Place, Plaintext, Receipt, Upload, WriteCondition};
pub use wanted::{IfRange, RangeSpec, Wanted};

/// One class at work.
pub struct Objects {
    class: Class,
    store: Arc<dyn Store>,
    keys: Arc<DataKeys>,
    index: Option<Arc<dyn Index>>,
    bounds: Bounds,
    verified: verified::Cache,
    /// The header's length in the newest message seen: the first read of a range
    /// asks for just that much.
    header_guess: AtomicUsize,
    metrics: Metrics,
}

/// What bounds the work of every class together.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Memory of all part and frame buffers.
    pub budget: Budget,
    /// How long a new upload or a download waits in line for memory.
    pub buffer_wait: Duration,
    /// The largest part an upload of unknown length grows to, in bytes.
    pub max_part: u64,
    /// How long a download waits for a client that takes nothing.
    pub send_idle: Duration,
    /// The least that a client is expected to take, in bytes a second; 0 for nothing.
    pub min_rate: u64,
    /// Uploads at once.
    pub uploads: Slots,
}

/// Uploads at once, and the way to wait for their end.
#[derive(Clone, Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    /// Places in the line for a free one: as many again.
    line: Arc<Semaphore>,
    total: u32,
}

impl Slots {
    /// `total` slots.
    pub fn new(total: usize) -> Self {
        let total = u32::try_from(total).unwrap_or(u32::MAX >> 4);
        let semaphore = || Arc::new(Semaphore::new(total as usize));
        Self { free: semaphore(), line: semaphore(), total }
    }

    /// Returns once no upload is under way, and lets none begin.
    pub async fn drained(&self) {
        // The semaphore is never closed: an error can't come, and would mean the same.
        let _all = self.free.acquire_many(self.total).await;
    }

    /// A place in the line, if it isn't full.
    fn wait(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.line.try_acquire().ok()
    }

    /// Uploads under way.
    pub fn in_use(&self) -> usize {
        self.total as usize - self.free.available_permits()
    }
}

impl Objects {
    /// `class`, resting in `store`, under `keys`.
    pub fn new(class: Class, store: Arc<dyn Store>, keys: Arc<DataKeys>, bounds: Bounds, metrics: Metrics) -> Self {
        let verified = verified::Cache::new(keys.unwrapped_age());
        Self { class, store, keys, index: None, bounds, verified, header_guess: AtomicUsize::new(1024), metrics }
    }

    /// The class's configuration.
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// Forgets keys past their time; called now and then.
    pub fn sweep(&self) {
        self.keys.sweep();
        self.verified.sweep();
        self.store.sweep();
    }

    /// The name in the store.
    fn name_of(&self, key: &ObjectKey) -> String {
        format!("{}{}", self.class.prefix, key.as_str())
    }

    fn guess(&self) -> usize {
        self.header_guess.load(Ordering::Relaxed)
    }

    fn learn(&self, layout: &Layout) {
        let header = usize::try_from(layout.header_length()).unwrap_or(1024);
        self.header_guess.store(header, Ordering::Relaxed);
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("class", &self.class.name).finish_non_exhaustive()
    }
}

/// How a store's failure looks from outside.
fn fault_of(failure: Failure) -> Fault {
    use crate::fault::Kind;
    let retry = Duration::from_secs(5);
    match failure {
        Failure::NotFound => Fault::new(Kind::NotFound, "there is no object of that name"),
        Failure::Precondition => {
            Fault::new(Kind::PreconditionFailed, "the condition of the request does not hold for the object")
        }
        Failure::Conflict => Fault::new(Kind::Conflict, "another writer of this object was faster; try again"),
        Failure::NoSpace => Fault::new(Kind::NoSpace, "the store has no room; nothing was stored"),
        Failure::Name(why) => Fault::bad_request(why),
        Failure::Unavailable(detail) => Fault::unavailable("the store is away; try again", retry).because(detail),
        Failure::Denied(detail) => {
            Fault::unavailable("the store refused us; the operator has to mend that", retry).because(detail)
        }
        Failure::OutcomeUnknown(detail) => Fault::new(
            Kind::OutcomeUnknown,
            "the object was sent, but whether it was stored could not be learnt; read it back to know",
        )
        .because(detail),
        Failure::Damaged(reason, detail) => Fault::damaged(reason, detail),
        Failure::Nonsense(detail) => {
            Fault::new(Kind::BadGateway, "the store answered what it must not; the log says more").because(detail)
        }
        Failure::Other(detail) => Fault::internal(detail),
    }
}

fn key_fault(failure: &crate::keys::KeyFailure) -> Fault {
    Fault::unavailable("no data key can be had now; try again", Duration::from_secs(5)).because(failure)
}

/// A time as people and programs write it, in UTC, to the second.
fn rfc3339(time: std::time::SystemTime) -> String {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    // A store's clock may say anything; nothing is older than 1970 or newer than now.
    let time = time.clamp(std::time::UNIX_EPOCH, std::time::SystemTime::now());
    let time = OffsetDateTime::from(time).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}
