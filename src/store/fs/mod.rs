//! A store that is a folder of this machine.
//!
//! Each message is one bare file that holds exactly the sealed bytes, so that
//! any tool of the format opens it. What stands beside it is in a sidecar, a
//! JSON file that bears the message's id in its name: replacing a message is one
//! `rename`, and a reader always finds the sidecar of the very bytes it opened.
//!
//! ```text
//! root/
//!   .sealward/lock              held while a store is open
//!   .sealward/uploads/          what isn't visible yet
//!   class/invoice.pdf.sealed    a message
//!   class/invoice.pdf.<first half of its id>.meta
//! ```
//!
//! File calls block, so they run on blocking threads, one hop for each
//! operation or part. A call whose future is dropped runs to its end there.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use self::{disk::Disk, names::Place, publish::Draft, upload::FsUpload};
use super::{
    Attributes, Condition, ETag, Failure, Page, PartRules, Payload, Reading, Span, Stat, Store, Stored, Target, Upload,
};
use crate::{message::MessageId, metrics::Metrics};

mod disk;
mod list;
mod names;
mod publish;
mod read;
mod sidecar;
mod sweep;
mod upload;

#[cfg(test)]
mod tests;

/// How many locks the names share. A lock is held for a rename and a few syncs.
const SHARDS: usize = 64;
/// How many lists are made at once. One may go through whole folders, and must
/// not take the blocking threads that puts and reads need.
const LISTS: usize = 4;

/// The folder as a [`Store`].
///
/// It holds the folder's lock until it and everything it handed out for writing
/// is dropped.
pub struct FsStore {
    disk: Arc<Disk>,
    locks: Arc<Locks>,
    lists: Arc<Semaphore>,
    metrics: Metrics,
    rules: PartRules,
}

impl FsStore {
    /// Opens the folder `root`, which is made (mode 0700) where it isn't there,
    /// takes its lock and removes what a crash left behind. It blocks, and reads
    /// the names of every file below `root`.
    ///
    /// # Errors
    /// [`OpenError::Held`] while another Sealward has the folder open,
    /// [`OpenError::CaseBlind`] where the file system doesn't tell `a` from `A`,
    /// [`OpenError::Io`] for anything the system refuses.
    pub fn open(root: &Path, metrics: Metrics) -> Result<Self, OpenError> {
        let disk = Disk::open(root)?;
        sweep::sweep(&disk)?;
        Ok(Self::on(disk, metrics))
    }

    /// The store in the folder `root`, which another Sealward may have open: to look at what is
    /// there, and never to write.
    ///
    /// # Errors
    /// [`OpenError::Io`] for anything the system refuses.
    pub fn beside(root: &Path, metrics: Metrics) -> Result<Self, OpenError> {
        Ok(Self::on(Disk::beside(root)?, metrics))
    }

    fn on(disk: Disk, metrics: Metrics) -> Self {
        let rules = PartRules { min: 1, usual: 1 << 20, max: 64 << 20, count: u32::MAX, whole: 1 << 20, crc64: false };
        let (locks, lists) = (Arc::new(Locks::new()), Arc::new(Semaphore::new(LISTS)));
        Self { disk: Arc::new(disk), locks, lists, metrics, rules }
    }
}

/// Why a folder could not be opened as a store.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the folder open.
    Held {
        /// The folder.
        root: PathBuf,
    },
    /// The file system takes two names that differ in case for one.
    CaseBlind {
        /// The folder.
        root: PathBuf,
    },
    /// The system refused something.
    Io {
        /// What was tried: "make", "lock", …
        tried: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    fn io(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { tried, path: path.to_owned(), source }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { root } => write!(
                f,
                "another Sealward holds the store folder {}; stop it, or give this one a folder of its own",
                root.display()
            ),
            Self::CaseBlind { root } => write!(
                f,
                "the file system of the store folder {} takes names that differ only in case for the same; \
                 choose a folder on one that tells them apart",
                root.display()
            ),
            Self::Io { tried, path, source } => {
                write!(f, "could not {tried} {} of the store: {source}; ", path.display())?;
                f.write_str(match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "give the user that runs Sealward the right to read and write it"
                    }
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on its file system",
                    io::ErrorKind::ReadOnlyFilesystem => "mount its file system writable",
                    io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                        "move away what stands there, or choose another folder"
                    }
                    _ => "check that the folder is on a local file system that is mounted and sound",
                })
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Held { .. } | Self::CaseBlind { .. } => None,
        }
    }
}

#[async_trait]
impl Store for FsStore {
    fn rules(&self) -> &PartRules {
        &self.rules
    }

    async fn put(&self, target: Target, message: Payload) -> Result<Stored, Failure> {
        timed(&self.metrics, "put", async {
            let place = Place::of(&target.name)?;
            let lock = self.locks.of(&target.name);
            let disk = Arc::clone(&self.disk);
            let draft = move || {
                let draft = Draft::new(&disk, place, target)?;
                draft.temp.write(&message.bytes, 0)?;
                Ok(draft)
            };
            publish(lock, draft).await
        })
        .await
    }

    async fn begin(&self, target: Target) -> Result<Box<dyn Upload>, Failure> {
        timed(&self.metrics, "begin", async {
            let place = Place::of(&target.name)?;
            let lock = self.locks.of(&target.name);
            let disk = Arc::clone(&self.disk);
            let draft = hop(move || Draft::new(&disk, place, target)).await?;
            Ok(Box::new(FsUpload::new(draft, lock, self.metrics.clone())) as Box<dyn Upload>)
        })
        .await
    }

    async fn probe(&self, _prefix: &str) -> Result<(), Failure> {
        let disk = Arc::clone(&self.disk);
        // A folder that is gone, or was mounted over, can't take the file back.
        match timed(&self.metrics, "probe", hop(move || disk::Temp::create(&disk).map(drop))).await {
            // What is full still serves what it holds.
            Err(Failure::NoSpace) => Ok(()),
            outcome => outcome,
        }
    }

    async fn stat(&self, name: &str) -> Result<Option<Stat>, Failure> {
        let found = timed(&self.metrics, "stat", async {
            let place = Place::of(name)?;
            let disk = Arc::clone(&self.disk);
            hop(move || read::open(&disk, &place).map(|(_, stat)| stat)).await
        })
        .await;
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn read(&self, name: &str, span: Span, pin: Option<&ETag>) -> Result<Reading, Failure> {
        timed(&self.metrics, "read", async {
            let place = Place::of(name)?;
            let (disk, pin, metrics) = (Arc::clone(&self.disk), pin.cloned(), self.metrics.clone());
            hop(move || read::read(&disk, &place, span, pin.as_ref(), metrics)).await
        })
        .await
    }

    async fn delete(&self, name: &str, condition: &Condition) -> Result<(), Failure> {
        timed(&self.metrics, "delete", async {
            let place = Place::of(name)?;
            let (disk, condition) = (Arc::clone(&self.disk), condition.clone());
            let guard = self.locks.of(name).lock_owned().await;
            hop(move || {
                let _guard = guard;
                publish::delete(&disk, &place, &condition)
            })
            .await
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, Failure> {
        timed(&self.metrics, "list", async {
            let (disk, prefix, after) = (Arc::clone(&self.disk), prefix.to_owned(), after.map(str::to_owned));
            // The semaphore is never closed. The permit goes along: the work goes
            // on where the caller has gone.
            let permit = Arc::clone(&self.lists).acquire_owned().await.ok();
            hop(move || {
                let _permit = permit;
                list::page(&disk, &prefix, after.as_deref(), limit)
            })
            .await
        })
        .await
    }
}

/// Locks for names. Two names may share one; a name always has the same.
struct Locks([Arc<Mutex<()>>; SHARDS]);

impl Locks {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }

    fn of(&self, name: &str) -> Arc<Mutex<()>> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let [first, ..] = hasher.finish().to_le_bytes();
        Arc::clone(&self.0[usize::from(first) % SHARDS])
    }
}

/// Makes the draft ready and visible. While nobody else writes to the same name
/// that is one hop; where somebody does, the wait for them holds no thread, and
/// nothing slow is done inside the lock that can be done before it.
async fn publish<F>(lock: Arc<Mutex<()>>, draft: F) -> Result<Stored, Failure>
where
    F: FnOnce() -> Result<Draft, Failure> + Send + 'static,
{
    let first = Arc::clone(&lock);
    let ready = hop(move || {
        let ready = draft()?.ready()?;
        match first.try_lock_owned() {
            Ok(guard) => visible(ready, guard).map(Ok),
            Err(_) => Ok(Err(ready)),
        }
    });
    match ready.await? {
        Ok(stored) => Ok(stored),
        Err(ready) => {
            let guard = lock.lock_owned().await;
            hop(move || visible(ready, guard)).await
        }
    }
}

/// The guard goes along, so that a dropped future doesn't open the lock too early.
fn visible(ready: publish::Ready, _guard: OwnedMutexGuard<()>) -> Result<Stored, Failure> {
    ready.publish()
}

/// Runs `work` on a blocking thread.
async fn hop<T, F>(work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_cancelled() => Err(Failure::Unavailable("the runtime is shutting down".into())),
        Err(error) => Err(Failure::Other(format!("a file operation ended early: {error}"))),
    }
}

/// Times `work` as `operation`.
async fn timed<T>(
    metrics: &Metrics,
    operation: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let start = Instant::now();
    let done = work.await;
    observe(metrics, operation, start, done.as_ref().err());
    done
}

/// Notes that `operation`, begun at `start`, has ended.
fn observe(metrics: &Metrics, operation: &str, start: Instant, failure: Option<&Failure>) {
    let outcome = match failure {
        None => "ok",
        Some(Failure::NotFound) => "not_found",
        Some(Failure::Precondition) => "precondition",
        Some(Failure::Conflict) => "conflict",
        Some(Failure::NoSpace) => "no_space",
        Some(Failure::Name(_)) => "name",
        Some(Failure::Unavailable(_)) => "unavailable",
        Some(Failure::Denied(_)) => "denied",
        Some(Failure::OutcomeUnknown(_)) => "unknown",
        Some(Failure::Damaged(..)) => "damaged",
        Some(Failure::Nonsense(_) | Failure::Other(_)) => "error",
    };
    metrics.store_seconds.with_label_values(&[operation, outcome]).observe(start.elapsed().as_secs_f64());
}

/// The bytes of an id; the one place of this room that knows how it holds them.
fn raw(id: &MessageId) -> [u8; 32] {
    *id.as_bytes()
}
