//! The database: what is where, under which key, by whom; and what replicas share.
//!
//! [`Catalog`] is an [`Index`] of objects. It follows the credentials of its database, writes many
//! records at a time, and keeps them in a spool while the database is away, or denies.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    config::{self, Engine},
    fault::Fault,
    index::{Index, Known, Newest, Recent, Record},
    metrics::Metrics,
    secret::random_array,
    secrets::Secret,
};

mod access;
mod away;
mod engine;
mod fresh;
mod pool;
mod rows;
mod sealing;
mod shared;
mod spool;
mod tokens;
mod writer;

pub use away::Away;
pub use rows::Wanted;
pub use sealing::Sealing;
pub use tokens::{Listed, Tokens};

use pool::Pool;
use spool::Spool;
use writer::Writer;

/// When a client is to try again.
const RETRY: Duration = Duration::from_secs(5);

/// The catalogue of one deployment, as one process has it.
pub struct Catalog {
    pool: Arc<Pool>,
    writer: Writer,
    spool: Option<Arc<Spool>>,
    /// Whether what is spooled can't be replayed although the database is there.
    stuck: watch::Sender<bool>,
    metrics: Metrics,
    /// By which other replicas know this process.
    me: String,
}

impl Catalog {
    /// Opens the database that `config` describes, with the credentials of `secret` where it names
    /// one, and brings its schema up to date. With `sealing`, records are spooled where the
    /// configuration says so.
    ///
    /// # Errors
    /// [`Away`] with what is wrong. A database that is away is none where records of an earlier
    /// run are spooled: they wait for it on.
    pub async fn open(
        config: &config::Catalog,
        secret: Option<Secret>,
        sealing: Option<Sealing>,
        metrics: Metrics,
    ) -> Result<Arc<Self>, Away> {
        let me = random_array::<16>().map_err(|error| Away::new(error.to_string()))?;
        let pool = Arc::new(Pool::new(config, secret, metrics.clone())?);
        let spooled = match (&config.away, sealing) {
            (config::Away::Spool { folder, most }, Some(sealing)) => Some((folder, *most, sealing)),
            _ => None,
        };
        let earlier = spooled.as_ref().is_some_and(|(folder, ..)| Spool::is_there(folder));
        match pool.migrate().await {
            // It was there once, and nothing is lost by waiting for it.
            Err(error) if earlier && error.is_gone() => {
                pool.down();
                tracing::warn!(%error, "the catalogue's database is away at start: records are spooled");
            }
            migrated => migrated.map_err(|error| error.of(pool.place()))?,
        }
        let spool = match spooled {
            Some((folder, most, sealing)) => Some(Spool::open(folder, most, sealing, metrics.clone())?),
            None => None,
        };
        let engine = match pool.engine() {
            Engine::Postgres => "postgres",
            Engine::MySql => "mysql",
            Engine::Sqlite => "sqlite",
        };
        tracing::info!(engine, place = pool.place(), "catalogue at hand");
        let (writer, stuck) =
            (Writer::new(Arc::clone(&pool), spool.clone(), metrics.clone()), watch::Sender::new(false));
        Ok(Arc::new(Self { pool, writer, spool, stuck, metrics, me: hex::encode(me) }))
    }

    /// Keeps it going: connections, and what is spooled. Never ends by itself.
    pub async fn watch(self: Arc<Self>) {
        tokio::join!(self.pool.watch(), self.replay());
    }

    /// Sets the gauges of its connections, which end by themselves; it asks nobody.
    pub fn gauge(&self) {
        self.pool.tell();
    }

    /// Calls `note` with why it is impaired, whenever that changes. Never ends by itself.
    pub async fn health(&self, note: impl Fn(Option<&'static str>)) {
        let (mut up, mut stuck) = (self.pool.ups(), self.stuck.subscribe());
        loop {
            note(match (*up.borrow_and_update(), *stuck.borrow_and_update()) {
                (false, _) => Some("the database of the catalog doesn't answer"),
                (true, true) => Some("the spool of the catalog can't be replayed; the log says why"),
                (true, false) => None,
            });
            tokio::select! {
                _ = up.changed() => {}
                _ = stuck.changed() => {}
            }
        }
    }

    async fn replay(&self) {
        /// Between two looks at a spool whose database is there.
        const LOOK: Duration = Duration::from_millis(200);
        /// And at one that can't be replayed.
        const AGAIN: Duration = Duration::from_secs(5);
        let Some(spool) = &self.spool else { return };
        let mut up = self.pool.ups();
        let mut said = String::new();
        loop {
            if up.wait_for(|up| *up).await.is_err() {
                return;
            }
            if !spool.is_empty() {
                match spool.replay(&self.pool).await {
                    Ok(()) => {
                        said.clear();
                        self.stuck.send_replace(false);
                        tracing::info!("what was spooled is in the catalogue");
                    }
                    Err(error) => {
                        let words = error.to_string();
                        if words != said {
                            tracing::error!(%error, "what is spooled can't be replayed");
                        }
                        said = words;
                        self.stuck.send_replace(self.pool.is_up());
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What a request is told that can't go on without the database.
    fn away(error: &Away) -> Fault {
        Fault::unavailable("the catalogue is away; try again", RETRY).because(error)
    }

    /// What a request is told that is done, but for the catalogue.
    fn unwritten(error: &Away) -> Fault {
        let words = "it is done, but the catalogue is away and couldn't write it down; do it again";
        Fault::unavailable(words, RETRY).because(error)
    }
}

#[async_trait]
impl Index for Catalog {
    fn ready(&self, now: bool) -> Result<(), Fault> {
        match &self.spool {
            // What waits goes first.
            Some(spool) if !now && !spool.is_empty() && !spool.has_room() => {
                Err(Self::away(&Away::new("the spool is full")))
            }
            _ if self.pool.is_up() => Ok(()),
            Some(spool) if !now && spool.has_room() => Ok(()),
            Some(_) if !now => Err(Self::away(&Away::new("the spool is full"))),
            _ => Err(Self::away(&Away::new("its database doesn't answer"))),
        }
    }

    async fn write(&self, record: Record) -> Result<(), Fault> {
        self.writer.write(record).await.map_err(|error| Self::unwritten(&error))
    }

    async fn rewrite(&self, record: Record, before: SystemTime) -> Result<(), Fault> {
        rows::rewrite(&self.pool, &record, before).await.map_err(|error| Self::away(&error))
    }

    async fn known(&self, class: &str, names: &[&str]) -> Result<Vec<Known>, Fault> {
        self.ready(true)?;
        self.sizes(class, names).await.map_err(|error| Self::away(&error))
    }

    async fn recent(&self, class: &str, after: Option<&str>, limit: usize) -> Result<Recent, Fault> {
        self.ready(true)?;
        let behind = match after.map(rows::behind) {
            None => None,
            Some(Some(behind)) => Some(behind),
            Some(None) => return Err(Fault::bad_request("`after` is none that a page of this list ended with")),
        };
        self.newest_of(class, behind, limit).await.map_err(|error| Self::away(&error))
    }

    async fn newest(&self, class: &str, name: &str) -> Result<Newest, Fault> {
        self.ready(true)?;
        self.ask_newest(class, name).await.map_err(|error| Self::away(&error))
    }

    async fn pending(&self, class: &str, name: &str, message: &str, before: Option<&str>) -> Result<(), Fault> {
        self.note_pending(class, name, message, before).await.map_err(|error| Self::away(&error))
    }

    async fn settle(&self, record: Record) -> Result<bool, Fault> {
        let settled = self.note_settled(&record).await;
        let outcome = if settled.is_ok() { "written" } else { "failed" };
        self.metrics.catalog_records.with_label_values(&[outcome]).inc();
        settled.map_err(|error| Self::unwritten(&error))
    }

    async fn expire(&self, class: &str, name: &str, before: SystemTime) -> Result<(), Fault> {
        self.note_expired(class, name, before).await.map_err(|error| Self::away(&error))
    }

    async fn forget(&self, class: &str, name: &str, message: &str) {
        if let Err(error) = self.note_forgotten(class, name, message).await {
            tracing::warn!(%error, "what came to nothing stays pending until it is looked at");
        }
    }

    async fn begun(&self, class: &str, name: &str, upload: &str) -> Result<(), Fault> {
        if self.spool.is_some() && !self.pool.is_up() {
            // The bucket's lifecycle rule ends it if we don't.
            return Ok(());
        }
        match self.note_begun(class, name, upload).await {
            Err(_) if self.spool.is_some() => Ok(()),
            noted => noted.map_err(|error| Self::away(&error)),
        }
    }

    async fn over(&self, class: &str, upload: &str) {
        if let Err(error) = self.note_over(class, upload).await {
            tracing::warn!(%error, "an upload that is over stays on the list until it is looked at");
        }
    }

    async fn unfinished(&self, class: &str, before: SystemTime) -> Result<Vec<(String, String)>, Fault> {
        self.ask_unfinished(class, before).await.map_err(|error| Self::away(&error))
    }
}

/// Where the folder of a spool is no place for what must survive a restart, and why.
pub fn is_transient(folder: &std::path::Path) -> Option<&'static str> {
    /// As the kernel tells them apart (`linux/magic.h`).
    const KINDS: [(u64, &str); 3] = [
        (0x0102_1994, "it is in memory (tmpfs)"),
        (0x8584_58f6, "it is in memory (ramfs)"),
        (0x794c_7630, "it is a container's own layer (overlay)"),
    ];
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    if folder.starts_with(std::env::temp_dir()) {
        return Some("it is below the system's temporary folder");
    }
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let kind = rustix::fs::statfs(there).ok()?.f_type;
    let kind = u64::try_from(kind).unwrap_or(0);
    KINDS.iter().find(|(known, _)| *known == kind).map(|(_, words)| *words)
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("pool", &self.pool).finish_non_exhaustive()
    }
}
