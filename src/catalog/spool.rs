//! Records that wait for a database that is away: sealed, on disk, and synced before anybody is
//! told that they are written down.
//!
//! Each append is one file, numbered on. They are replayed in that order, each in a transaction
//! that also says how far this spool has come: a file that was replayed and not yet removed when
//! the machine lost power is known by that, and not replayed again.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use sqlx::Row as _;

use super::{Away, engine, pool::Pool, rows, sealing::Sealing};
use crate::{
    index::Record,
    metrics::{Metrics, NO_LABELS},
    secret::random_array,
};

const PURPOSE: &str = "spool";
/// What a spool is called is in here.
const NAME: &str = "spool.id";
const LOCK: &str = "lock";
const ENDING: &str = ".sealed";
const PARTIAL: &str = ".partial";
/// What is put aside.
const SPOILT: &str = ".spoilt";
/// What one record comes to, sealed; bytes.
const USUAL: u64 = 4096;
/// With so few files left those who would add to them wait until there are none.
const FEW: usize = 32;

/// The spool of one process.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    /// By which the database knows it.
    name: String,
    most: u64,
    sealing: Sealing,
    files: Mutex<Files>,
    /// Records that wait; those being written count already.
    records: AtomicUsize,
    /// Held by who writes a file, so that their order is that of the records.
    appending: tokio::sync::Mutex<()>,
    metrics: Metrics,
    _lock: File,
}

#[derive(Debug, Default)]
struct Files {
    /// Those there are.
    there: BTreeMap<u64, Found>,
    bytes: u64,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    bytes: u64,
    records: usize,
}

/// `NUMBER-RECORDS.sealed`
fn name_of(number: u64, records: usize) -> String {
    format!("{number:020}-{records}{ENDING}")
}

fn read_name(name: &str) -> Option<(u64, usize)> {
    let (number, records) = name.strip_suffix(ENDING)?.split_once('-')?;
    Some((number.parse().ok()?, records.parse().ok()?))
}

impl Spool {
    /// Whether there was one in `folder` before.
    pub(super) fn is_there(folder: &Path) -> bool {
        folder.join(NAME).exists()
    }

    /// The spool in `folder`, which is made where it isn't there.
    pub(super) fn open(folder: &Path, most: u64, sealing: Sealing, metrics: Metrics) -> Result<Arc<Self>, Away> {
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| Away::new(format!("spool: {path}: {error}"))
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
        let path = folder.join(LOCK);
        let lock = private().create(true).truncate(false).open(&path).map_err(at(&path))?;
        lock.try_lock().map_err(|_| Away::new(format!("spool: {}: another process has it", folder.display())))?;
        let mut files = Files { next: 1, ..Files::default() };
        for entry in fs::read_dir(folder).map_err(at(folder))? {
            let entry = entry.map_err(at(folder))?;
            let found = entry.file_name();
            let Some(found) = found.to_str() else { continue };
            if found.ends_with(PARTIAL) {
                // Nobody was told of it.
                fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
            } else if let Some((number, records)) = read_name(found) {
                let bytes = entry.metadata().map_err(at(&entry.path()))?.len();
                files.there.insert(number, Found { bytes, records });
                files.bytes += bytes;
                files.next = files.next.max(number + 1);
            }
        }
        let path = folder.join(NAME);
        let name = match fs::read_to_string(&path) {
            Ok(name) if !files.there.is_empty() => name,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            // Numbers begin anew where nothing waits, and so they must be another spool's.
            _ => {
                let name = hex::encode(random_array::<16>().map_err(|error| Away::new(error.to_string()))?);
                write(folder, NAME, name.as_bytes()).map_err(at(&path))?;
                name
            }
        };
        let records = files.there.values().map(|found| found.records).sum();
        if records > 0 {
            tracing::warn!(records, "records of an earlier run wait in the spool");
        }
        let records = AtomicUsize::new(records);
        let spool = Self {
            folder: folder.to_owned(),
            name,
            most,
            sealing,
            files: Mutex::new(files),
            records,
            appending: tokio::sync::Mutex::default(),
            metrics,
            _lock: lock,
        };
        let limit = spool.metrics.catalog_spool_limit.with_label_values(NO_LABELS);
        limit.set(i64::try_from(most).unwrap_or(i64::MAX));
        spool.tell();
        Ok(Arc::new(spool))
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.records.load(Ordering::Acquire) == 0
    }

    /// Whether there is room for another record, as far as one knows its size.
    pub(super) fn has_room(&self) -> bool {
        self.files().bytes + USUAL <= self.most
    }

    /// Keeps `records` until they are replayed; returns when they are on disk.
    pub(super) async fn append(self: &Arc<Self>, records: &[&Record]) -> Result<(), Away> {
        let _order = self.appending.lock().await;
        let text = serde_json::to_vec(records).map_err(|error| Away::new(error.to_string()))?;
        let sealed = self.sealing.seal(PURPOSE, &text).await?;
        let (bytes, records) = (sealed.len() as u64, records.len());
        let number = {
            let mut files = self.files();
            if files.bytes + bytes > self.most {
                return Err(Away::new("the spool is full"));
            }
            // Taken for good: what is written under it may be there though nobody waits for it.
            files.next += 1;
            files.next - 1
        };
        let spool = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || write(&spool.folder, &name_of(number, records), &sealed));
        written
            .await
            .map_err(|error| Away::new(error.to_string()))?
            .map_err(|error| Away::new(format!("spool: {}: {error}", self.folder.display())))?;
        let mut files = self.files();
        files.there.insert(number, Found { bytes, records });
        files.bytes += bytes;
        self.records.fetch_add(records, Ordering::AcqRel);
        drop(files);
        self.tell();
        Ok(())
    }

    /// Writes what waits into the database, the oldest first, until nothing does.
    pub(super) async fn replay(&self, pool: &Pool) -> Result<(), Away> {
        let mut order = None;
        loop {
            let (first, left) = {
                let files = self.files();
                (files.there.iter().next().map(|(number, found)| (*number, *found)), files.there.len())
            };
            let Some((number, Found { bytes, records })) = first else { return Ok(()) };
            if left <= FEW && order.is_none() {
                // Nobody adds to it meanwhile: it comes to its end, however much else is stored.
                order = Some(self.appending.lock().await);
            }
            let path = self.folder.join(name_of(number, records));
            let at = |words: &dyn std::fmt::Display| Away::new(format!("spool: {}: {words}", path.display()));
            let sealed = tokio::fs::read(&path).await.map_err(|error| at(&error))?;
            let found = match self.sealing.open(PURPOSE, &sealed).await {
                Ok(text) => serde_json::from_slice::<Vec<Record>>(&text).map_err(|error| error.to_string()),
                Err(away) if away.is_gone() => return Err(at(&away)),
                Err(damaged) => Err(damaged.to_string()),
            };
            match found {
                Ok(found) => {
                    if self.write(pool, number, &found).await? {
                        self.metrics.catalog_records.with_label_values(&["replayed"]).inc_by(found.len() as u64);
                    }
                    tokio::fs::remove_file(&path).await.map_err(|error| at(&error))?;
                }
                Err(words) => {
                    // It must not keep all that came after it.
                    let aside = self.folder.join(format!("{}{SPOILT}", name_of(number, records)));
                    tokio::fs::rename(&path, &aside).await.map_err(|error| at(&error))?;
                    self.metrics.catalog_records.with_label_values(&["spoilt"]).inc_by(records as u64);
                    let file = aside.display();
                    tracing::error!(%file, words, records, "a file of the spool can't be read: `sealward catalog rebuild` finds what it told");
                }
            }
            let mut files = self.files();
            files.there.remove(&number);
            files.bytes = files.bytes.saturating_sub(bytes);
            // Under the same lock as what is added: empty is only what has no file.
            self.records.fetch_sub(records, Ordering::AcqRel);
            drop(files);
            self.tell();
        }
    }

    /// Whether these weren't there yet.
    async fn write(&self, pool: &Pool, number: u64, records: &[Record]) -> Result<bool, Away> {
        let engine = pool.engine();
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let mut connection = pool.acquire().await?;
        let sound = connection.sound();
        let records: Vec<_> = records.iter().collect();
        let rows = rows::newest(&records);
        let writing = async {
            let mut transaction = engine::begin(engine, &mut connection).await?;
            let text = format!("SELECT upto FROM spools WHERE spool = $1{}", engine::for_update(engine));
            let asked = sqlx::query(engine::sql(engine, &text)).bind(self.name.as_str());
            let upto: Option<i64> = match asked.fetch_optional(&mut *transaction).await? {
                Some(row) => Some(row.try_get(0)?),
                None => None,
            };
            if upto.is_some_and(|upto| upto >= number) {
                return transaction.rollback().await.map(|()| false);
            }
            rows::write_all(engine, &mut transaction, &rows).await?;
            let text = format!(
                "INSERT INTO spools (spool, upto) VALUES ($1, $2){}",
                engine::replaces(engine, "spool", &["upto"])
            );
            let said = sqlx::query(engine::sql(engine, &text)).bind(self.name.as_str()).bind(number);
            said.execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(true)
        };
        pool.told(&sound, writing).await
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let files = self.files();
        self.metrics.catalog_spool_bytes.set(i64::try_from(files.bytes).unwrap_or(i64::MAX));
        let records = self.records.load(Ordering::Acquire);
        self.metrics.catalog_spool_records.set(i64::try_from(records).unwrap_or(i64::MAX));
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Whole and synced, or not there.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let partial = folder.join(format!("{name}{PARTIAL}"));
    let mut file = private().create(true).truncate(true).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, folder.join(name))?;
    File::open(folder)?.sync_all()
}
