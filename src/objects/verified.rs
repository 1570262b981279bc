//! Believing an object: everything that must hold before a byte of it is served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Description, ObjectKey, Objects, check_bound, description};
use crate::{
    fault::{Fault, Tamper},
    keys::OpenFailure,
    message::{Caps, Damage, Extent, Header, Opener},
    store::Stat,
};

/// Headers and proved lengths kept for warm ranges.
const ENTRIES: u64 = 4096;
/// How long one is kept at most; and no longer than an unwrapped key.
const AGE: Duration = Duration::from_secs(300);

/// An object whose header, binding and metadata were verified.
pub(super) struct Verified {
    pub(super) opener: Opener,
    pub(super) key_name: String,
    pub(super) description: Description,
    /// Computed from the sealed length; proved once this stands in the [`Cache`].
    pub(super) extent: Extent,
    pub(super) stat: Stat,
    /// When its data key was unwrapped: what reads of it prove later makes it no younger.
    since: Instant,
    /// Whether it is sealed under the key that the class seals under now.
    pub(super) current: bool,
    /// Whether it stands in the [`Cache`], or has stood there.
    kept: AtomicBool,
}

impl Verified {
    /// Whether `stat` is still that of this very object: a store's tag may be kept
    /// while what it is a tag of was changed.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        self.stat.etag == stat.etag && self.stat.length == stat.length && self.stat.attributes == stat.attributes
    }
}

/// Verified objects whose final frame was verified too, by their name in the
/// store; good as long as the store still answers with the same entity tag.
pub(super) struct Cache {
    entries: moka::sync::Cache<String, Arc<Verified>>,
    age: Duration,
}

impl Cache {
    pub(super) fn new(unwrapped_age: Duration) -> Self {
        let age = AGE.min(unwrapped_age);
        Self { entries: moka::sync::Cache::builder().max_capacity(ENTRIES).time_to_live(age).build(), age }
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Verified>> {
        self.entries.get(name).filter(|verified| verified.since.elapsed() < self.age)
    }

    pub(super) fn keep(&self, name: &str, verified: &Arc<Verified>) {
        if !verified.kept.swap(true, Ordering::Relaxed) {
            self.entries.insert(name.to_owned(), Arc::clone(verified));
        }
    }

    pub(super) fn forget(&self, name: &str) {
        self.entries.invalidate(name);
    }

    pub(super) fn sweep(&self) {
        self.entries.run_pending_tasks();
    }
}

/// Bytes to read so that the whole header is among them.
pub(super) fn header_bytes(stat: &Stat) -> u64 {
    let cap = Caps::default().header as u64;
    description::hinted_layout(&stat.attributes).map_or(cap, |layout| layout.header_length()).min(cap).min(stat.length)
}

impl Objects {
    /// What is known of the object `key`, called `name` in the store, if what stands there is still
    /// that, to the byte of its header; else [`believe`](Self::believe)s it.
    pub(super) async fn believe_again(
        &self,
        key: &ObjectKey,
        name: &str,
        stat: Stat,
        head: &[u8],
    ) -> Result<Arc<Verified>, Fault> {
        let known = self.verified.find(name);
        if let Some(known) = known.filter(|known| known.is(&stat) && known.opener.header().as_bytes() == head) {
            self.keys.used(&known.key_name);
            return Ok(known);
        }
        Ok(Arc::new(self.believe(key, stat, head).await?))
    }

    /// Believes the object `key` by the first bytes of its message, or says why not.
    /// Whatever can be judged without the data key is judged before it is asked for.
    pub(super) async fn believe(&self, key: &ObjectKey, stat: Stat, head: &[u8]) -> Result<Verified, Fault> {
        let header = parse(head, &stat).map_err(damaged)?;
        check_bound(&self.class, key, &header).map_err(damaged)?;
        let opened = self.keys.open(header.data_keys(), header.context()).await.map_err(|failure| match failure {
            OpenFailure::Damage(damage) => damaged(damage),
            OpenFailure::Away(failure) => super::key_fault(&failure),
        })?;
        let opener = Opener::new(header, &opened.key).map_err(damaged)?;
        let extent = opener.layout().extent(stat.length).map_err(damaged)?;
        let description = Description::open(self.class.metadata, &stat.attributes, &opener).map_err(damaged)?;
        self.learn(&opener.layout());
        let current = self.keys.is_current(opener.header().data_keys());
        let (since, kept) = (opened.since, AtomicBool::new(false));
        Ok(Verified { opener, key_name: opened.name, description, extent, stat, since, current, kept })
    }
}

/// The header, which must be whole, agree with the hints, and be all of `head`
/// where the hints are true.
fn parse(head: &[u8], stat: &Stat) -> Result<Header, Damage> {
    let header = Header::parse(head, &Caps::default())?.ok_or_else(|| {
        if (head.len() as u64) < stat.length {
            Damage::new(Tamper::Metadata, "the header is longer than the hints say")
        } else {
            Damage::new(Tamper::Length, "the message ends inside its header")
        }
    })?;
    description::check_hints(&stat.attributes, &header)?;
    Ok(header)
}

pub(super) fn damaged(damage: Damage) -> Fault {
    Fault::damaged(damage.reason, damage.what)
}
