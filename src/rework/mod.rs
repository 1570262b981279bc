//! Goes over a whole class: seals it anew, verifies it, or takes in what isn't sealed yet.
//!
//! Three verbs, one engine. It keeps no record of its own: what is done shows in
//! the objects themselves, so that a run that was cut short is ended by another.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch},
    task::JoinSet,
};

mod body;
mod origin;

#[cfg(test)]
mod tests;

use body::{Body, Pace};
pub use origin::{Folder, Opened, Origin, Plain, Stored};

use crate::{
    budget::Budget,
    config::LogObjectKeys,
    fault::{Fault, Kind},
    objects::{
        Answer, ETagList, Found, ObjectKey, Objects, Preconditions, Promises, Upload, Wanted, WriteCondition, logged,
    },
    store::ETag,
};

/// Names asked for at a time.
const PAGE: usize = 1000;
/// How often something that was away is tried in all.
const TRIES: u32 = 4;
/// The first pause between tries; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// Memory that one object under way may need; bytes.
const SHARE: usize = 32 << 20;

/// Objects above this have parts of more than a job's share; bytes.
const LARGE: u64 = 64 << 30;

/// What an object under way holds.
enum Room<'a> {
    All { _alone: RwLockWriteGuard<'a, ()> },
    Share { _beside: RwLockReadGuard<'a, ()> },
}

/// How a class is gone over.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Objects at once; fewer where the memory holds fewer.
    pub jobs: usize,
    /// Plaintext bytes a second, all objects together; as fast as may be when absent.
    pub rate: Option<u64>,
    /// How an object's name is reported.
    pub names: LogObjectKeys,
}

/// What has come of a run so far. Read while it runs.
#[derive(Debug, Default)]
pub struct Counts {
    done: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    /// Bytes that went through, those of objects under way and of failed tries included.
    moved: AtomicU64,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects that were dealt with.
    pub done: u64,
    /// Objects that needed nothing, or belong to another writer by now.
    pub skipped: u64,
    /// Objects that were left as they were, for a reason that was reported.
    pub failed: u64,
    /// Plaintext bytes of those that are done.
    pub bytes: u64,
}

/// Told of each object that failed: its name as it may be shown, and why.
pub type Report = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// One class, gone over.
pub struct Rework {
    objects: Arc<Objects>,
    settings: Settings,
    budget: Budget,
    pace: Arc<Pace>,
    counts: Arc<Counts>,
    report: Report,
    stop: watch::Receiver<bool>,
    /// Held whole by an object that is too large to run beside others.
    alone: RwLock<()>,
}

/// What came of one object.
enum Step {
    Done(u64),
    Skipped,
}

/// Where the next piece of work comes from.
#[async_trait]
trait Feed<W>: Send {
    async fn next(&mut self) -> Result<Option<W>, Fault>;
}

impl Rework {
    /// Over `objects`, whose memory is `budget`. Once `stop` is true nothing new is
    /// begun, and what is under way is finished.
    pub fn new(
        objects: Arc<Objects>,
        budget: Budget,
        mut settings: Settings,
        report: Report,
        stop: watch::Receiver<bool>,
    ) -> Self {
        settings.jobs = settings.jobs.min(budget.total() / SHARE).max(1);
        let counts = Arc::default();
        let pace = Arc::new(Pace::new(settings.rate));
        Self { objects, settings, budget, pace, counts, report, stop, alone: RwLock::default() }
    }

    /// The counts, which go on while it runs.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Seals every object that isn't sealed under the class's present key anew: with
    /// a data key and a message id of its own, never with a changed header. An object
    /// that another writer touches meanwhile stays theirs. With `dry` nothing is
    /// written, and what would be is counted.
    ///
    /// # Errors
    /// When the class can't be listed.
    pub async fn reencrypt(self: Arc<Self>, dry: bool) -> Result<Tally, Fault> {
        let feed = Names::new(&self.objects);
        self.each(feed, move |rework, key: ObjectKey| async move {
            let outcome = rework.renew(&key, dry).await;
            rework.ended(key.as_str(), outcome);
        })
        .await
    }

    /// Reads every object to its final frame.
    ///
    /// # Errors
    /// When the class can't be listed.
    pub async fn verify(self: Arc<Self>) -> Result<Tally, Fault> {
        let feed = Names::new(&self.objects);
        self.each(feed, |rework, key: ObjectKey| async move {
            let outcome = patient(passing, |_| rework.read_through(&key)).await;
            rework.ended(key.as_str(), outcome);
        })
        .await
    }

    /// Seals what `origin` holds into the class, under the same names. Nothing that
    /// stands there is overwritten, and nothing of the origin is changed.
    ///
    /// # Errors
    /// When the origin can't be listed.
    pub async fn adopt(self: Arc<Self>, origin: Box<dyn Origin>) -> Result<Tally, Fault> {
        self.each(origin, |rework, plain: Box<dyn Plain>| async move {
            let outcome = patient(passing, |_| rework.take_in(plain.as_ref())).await;
            rework.ended(plain.name(), outcome);
        })
        .await
    }

    /// Does `work` on whatever `feed` gives, as many at once as there are jobs.
    async fn each<W, F, D>(self: Arc<Self>, mut feed: impl Feed<W>, work: F) -> Result<Tally, Fault>
    where
        F: Fn(Arc<Self>, W) -> D,
        D: Future<Output = ()> + Send + 'static,
    {
        let mut under_way = JoinSet::new();
        let listed = loop {
            if *self.stop.borrow() {
                break Ok(());
            }
            match feed.next().await {
                Ok(Some(next)) => under_way.spawn(work(Arc::clone(&self), next)),
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            };
            while under_way.len() >= self.settings.jobs {
                self.joined(under_way.join_next().await);
            }
        };
        while let Some(ended) = under_way.join_next().await {
            self.joined(Some(ended));
        }
        listed.map(|()| self.counts.tally())
    }

    fn joined(&self, ended: Option<Result<(), tokio::task::JoinError>>) {
        if let Some(Err(error)) = ended {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            (self.report)("(an object)", &format!("its task ended early: {error}"));
        }
    }

    async fn renew(self: &Arc<Self>, key: &ObjectKey, dry: bool) -> Result<Step, Fault> {
        // A race that another writer won: what stands there now is looked at in its turn.
        let lost = |fault: &Fault| fault.kind() == Kind::PreconditionFailed;
        let outcome = patient(
            |fault| passing(fault) || lost(fault),
            |tried| async move {
                let found = self.look(key, Wanted { head_only: true, ..Wanted::default() }).await?;
                if found.current {
                    // A try whose answer was lost had done it all the same.
                    return Ok(if tried > 0 && !dry { Step::Done(found.length) } else { Step::Skipped });
                }
                if dry {
                    return Ok(Step::Done(found.length));
                }
                let found = self.look(key, Wanted { preconditions: still(&found.etag), ..Wanted::default() }).await?;
                let Found { etag, description, length, chunks, .. } = found;
                let _room = self.room(length).await;
                let upload = Upload {
                    key: key.clone(),
                    description,
                    condition: WriteCondition::OneOf(vec![etag]),
                    promises: Promises::default(),
                    length: Some(length),
                    body: Box::new(Body::verified(chunks, &self.pace, &self.counts)),
                    place: None,
                    // Who stored it has stored it still.
                    by: String::new(),
                };
                self.objects.put(upload).await.map(|receipt| Step::Done(receipt.size))
            },
        );
        outcome.await.map_err(|fault| {
            if !lost(&fault) {
                return fault;
            }
            Fault::new(Kind::Conflict, "it was changed each time it was sealed anew; run this again")
        })
    }

    async fn read_through(self: &Arc<Self>, key: &ObjectKey) -> Result<Step, Fault> {
        let found = self.look(key, Wanted::default()).await?;
        let length = found.length;
        Body::verified(found.chunks, &self.pace, &self.counts).drain().await?;
        Ok(Step::Done(length))
    }

    async fn take_in(self: &Arc<Self>, plain: &dyn Plain) -> Result<Step, Fault> {
        let name = plain.name();
        // S3's consoles make such for folders: no object of anybody's.
        if name.is_empty() || name.ends_with('/') {
            return Ok(Step::Skipped);
        }
        let class = self.objects.class();
        let key = ObjectKey::new(name, &class.prefix)?;
        let Opened { description, length, source } = plain.open(class).await?;
        let _room = self.room(length).await;
        let upload = Upload {
            key,
            description,
            condition: WriteCondition::Absent,
            promises: Promises::default(),
            length: Some(length),
            body: Box::new(Body::plain(source, length, &self.budget, &self.pace, &self.counts)),
            place: None,
            by: "adopt".into(),
        };
        self.objects.put(upload).await.map(|receipt| Step::Done(receipt.size))
    }

    /// Room for an object of `length` bytes. One whose parts outgrow a job's share of the
    /// memory runs alone: beside others it would wait for what they hold, and they for it.
    async fn room(&self, length: u64) -> Room<'_> {
        if length > LARGE {
            Room::All { _alone: self.alone.write().await }
        } else {
            Room::Share { _beside: self.alone.read().await }
        }
    }

    async fn look(self: &Arc<Self>, key: &ObjectKey, wanted: Wanted) -> Result<Found, Fault> {
        match self.objects.read(key, &wanted).await? {
            Answer::Whole(found) => Ok(found),
            _ => Err(Fault::internal("a whole read was answered with a part")),
        }
    }

    fn ended(&self, name: &str, outcome: Result<Step, Fault>) {
        let counts = &self.counts;
        let counted = match outcome {
            Ok(Step::Done(bytes)) => {
                counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                &counts.done
            }
            Ok(Step::Skipped) => &counts.skipped,
            Err(fault) if gone(&fault) => &counts.skipped,
            Err(fault) => {
                let how = self.settings.names;
                let shown = logged(name, how).unwrap_or_else(|| "(an object)".into());
                let reason = fault.tamper().map_or(String::new(), |reason| format!("{}: ", reason.as_str()));
                // A store's own words may hold the name.
                let words = if how == LogObjectKeys::Plain { fault.to_string() } else { fault.words().to_owned() };
                (self.report)(&shown, &format!("{reason}{words}"));
                &counts.failed
            }
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counts {
    /// What has come of it so far.
    pub fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            done: read(&self.done),
            skipped: read(&self.skipped),
            failed: read(&self.failed),
            bytes: read(&self.bytes),
        }
    }

    /// Plaintext bytes that went through so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Rework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rework")
            .field("objects", &self.objects)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The names of a class, page by page.
struct Names {
    objects: Arc<Objects>,
    page: VecDeque<ObjectKey>,
    after: Option<ObjectKey>,
    more: bool,
}

impl Names {
    fn new(objects: &Arc<Objects>) -> Self {
        Self { objects: Arc::clone(objects), page: VecDeque::new(), after: None, more: true }
    }
}

#[async_trait]
impl Feed<ObjectKey> for Names {
    async fn next(&mut self) -> Result<Option<ObjectKey>, Fault> {
        if self.page.is_empty() && self.more {
            let (objects, after) = (&self.objects, self.after.as_ref());
            let (keys, more) = patient(passing, |_| objects.names(after, PAGE)).await?;
            self.more = more && !keys.is_empty();
            self.after = keys.last().cloned();
            self.page = keys.into();
        }
        Ok(self.page.pop_front())
    }
}

#[async_trait]
impl Feed<Box<dyn Plain>> for Box<dyn Origin> {
    async fn next(&mut self) -> Result<Option<Box<dyn Plain>>, Fault> {
        (**self).next().await
    }
}

/// Tries `work` again while what it needs is away; it is told how often it was tried before.
async fn patient<T, W: Future<Output = Result<T, Fault>>>(
    again: impl Fn(&Fault) -> bool,
    work: impl Fn(u32) -> W,
) -> Result<T, Fault> {
    let mut tried = 0;
    loop {
        match work(tried).await {
            Err(fault) if tried + 1 < TRIES && again(&fault) => {
                tokio::time::sleep(PAUSE * (1 << tried)).await;
                tried += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Another writer's race is lost for this try alone: the next one sees what stands there.
fn passing(fault: &Fault) -> bool {
    matches!(fault.kind(), Kind::Unavailable | Kind::OutcomeUnknown | Kind::Conflict)
}

/// Whether there is nothing to do any more: what was removed, or what an adopted
/// object would take the place of. A race that another writer won is none of these: it
/// was looked at again until it could be told what stands there.
fn gone(fault: &Fault) -> bool {
    matches!(fault.kind(), Kind::NotFound | Kind::PreconditionFailed)
}

/// Only while it is the object that was looked at.
fn still(etag: &ETag) -> Preconditions {
    let if_match = Some(ETagList::These(vec![(etag.clone(), false)]));
    Preconditions { if_match, ..Preconditions::default() }
}
