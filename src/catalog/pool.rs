//! Connections that follow their credentials.
//!
//! A new version of the secret is tried on one connection before any other is made with it; then
//! those made before are let go, each when it is next asked for. A connection that the database
//! refuses has the secret looked at, by one of all who were refused, and is tried again until the
//! wait is over: while a password is changed there is a time when the old one no longer opens the
//! door and the new one isn't told yet. A statement is never tried again.

use std::{
    fmt,
    future::Future,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _,
    any::{AnyConnectOptions, AnyPoolOptions},
    pool::PoolConnection,
};
use tokio::{runtime::Handle, sync::watch};

use super::{
    access,
    away::{Away, away, is_busy, is_read_only, is_refused},
    engine,
};
use crate::{
    config::{Catalog, Engine},
    metrics::{Metrics, NO_LABELS},
    secret::jittered,
    secrets::{Secret, Version},
};

/// No connection is older.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// A connection that nobody has asked for so long is let go.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// Connections to a file that read it, at most.
const FILE: u32 = 4;
/// What is acknowledged survives a power cut, and readers don't wait for who writes, whose pages
/// go to the file itself every 16 MiB. What a connection knows of the file takes 8 MiB at most.
const FILE_PRAGMAS: [&str; 4] = [
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 4096",
    "PRAGMA cache_size = -8192",
];
/// A connection that rested for so long is asked whether it is there, and how long: the way there
/// and back may be no shorter.
const QUIET: Duration = Duration::from_millis(5);
const PING: Duration = Duration::from_secs(2);
/// How long a schema may take, and be waited for while another is at it.
const MIGRATION: Duration = Duration::from_secs(120);
/// What a login takes at most, usually.
const LOGIN: Duration = Duration::from_millis(300);
/// Between two tries of a connection that was refused: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at a database that is away, and at one whose new credentials don't open it.
const LOOK: Duration = Duration::from_millis(500);

/// The connections to one database.
pub(super) struct Pool {
    made: AnyPool,
    /// Those that write: of a file one, which then knows its pages, and for which others wait in
    /// turn; of a server the same.
    writing: AnyPool,
    config: Catalog,
    engine: Engine,
    secret: Option<Secret>,
    /// The version that new connections are made with, by its id.
    using: tokio::sync::Mutex<String>,
    /// Connections made before this are let go.
    epoch: Arc<Mutex<Option<Instant>>>,
    /// Whether the database answers, as far as is known.
    up: watch::Sender<bool>,
    /// Whether its schema is known to be up to date.
    migrated: AtomicBool,
    /// Where it is, for the log.
    place: String,
    metrics: Metrics,
}

/// A connection for some statements. It goes back to the others only while it is known to be sound.
pub(super) struct Held {
    connection: PoolConnection<Any>,
    sound: Sound,
}

/// Whether every statement so far has come to an end.
#[derive(Clone)]
pub(super) struct Sound(Arc<AtomicBool>);

impl Held {
    pub(super) fn sound(&self) -> Sound {
        self.sound.clone()
    }
}

impl Deref for Held {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.sound.0.load(Ordering::Acquire) {
            self.connection.close_on_drop();
        } else if let Ok(runtime) = Handle::try_current() {
            // It is asked once more whether it is there, for which sqlx itself would wait without an end.
            runtime.spawn(tokio::time::timeout(PING, self.connection.return_to_pool()));
        }
    }
}

impl Pool {
    /// What will be the connections; none is made yet.
    pub(super) fn new(config: &Catalog, secret: Option<Secret>, metrics: Metrics) -> Result<Self, Away> {
        sqlx::any::install_default_drivers();
        let version = secret.as_ref().map(Secret::current);
        let (engine, options) = access::options(config, version.as_deref()).map_err(Away::new)?;
        let place = access::place(&options);
        let epoch = Arc::<Mutex<Option<Instant>>>::default();
        let (made, writing) = if engine == Engine::Sqlite {
            let made = pool(config, engine, config.connections.min(FILE), options.clone(), &epoch);
            (made, pool(config, engine, 1, options, &epoch))
        } else {
            let made = pool(config, engine, config.connections, options, &epoch);
            (made.clone(), made)
        };
        Ok(Self {
            made,
            writing,
            config: config.clone(),
            engine,
            secret,
            using: tokio::sync::Mutex::new(version.map(|version| version.id.clone()).unwrap_or_default()),
            epoch,
            up: watch::Sender::new(true),
            migrated: AtomicBool::new(false),
            place,
            metrics,
        })
    }

    /// Brings the schema up to today.
    pub(super) async fn migrate(&self) -> Result<(), Away> {
        tracing::info!(
            place = self.place,
            "looking at the catalogue's schema; another may be at it, and is waited for"
        );
        match tokio::time::timeout(MIGRATION, self.migrate_now()).await {
            Ok(migrated) => migrated,
            Err(_) => Err(Away::gone("its schema can't be brought up to date: another holds the lock for that")),
        }
    }

    async fn migrate_now(&self) -> Result<(), Away> {
        let mut connection = self.acquire().await?;
        // A lock goes with its connection, should this come to no end.
        let sound = connection.sound();
        sound.0.store(false, Ordering::Release);
        let migrator = engine::migrator(self.engine);
        engine::lock(self.engine, &mut connection, true).await.map_err(|error| away(&error))?;
        if let Err(first) = migrator.run_direct(None, &mut *connection, false).await {
            // SQLite has no lock for this: another may have been faster.
            let again =
                self.engine == Engine::Sqlite && migrator.run_direct(None, &mut *connection, false).await.is_ok();
            if !again {
                return Err(Away::new(format!(
                    "its schema can't be brought up to date: {}",
                    crate::fault::chain(&first)
                )));
            }
        }
        engine::lock(self.engine, &mut connection, false).await.map_err(|error| away(&error))?;
        sound.0.store(true, Ordering::Release);
        self.migrated.store(true, Ordering::Release);
        Ok(())
    }

    /// Where the database is.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Whether the database answers, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Moves with that.
    pub(super) fn ups(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// What is known to be so.
    pub(super) fn down(&self) {
        self.up.send_if_modified(|up| std::mem::replace(up, false));
    }

    /// A connection that is fit for a statement that writes, or several.
    pub(super) async fn acquire(&self) -> Result<Held, Away> {
        self.acquire_of(&self.writing).await
    }

    /// One that is fit for reading.
    pub(super) async fn acquire_to_read(&self) -> Result<Held, Away> {
        self.acquire_of(&self.made).await
    }

    async fn acquire_of(&self, pool: &AnyPool) -> Result<Held, Away> {
        let until = Instant::now() + self.config.wait;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match pool.acquire().await {
                Ok(connection) => {
                    self.tell();
                    return Ok(Held { connection, sound: Sound(Arc::new(AtomicBool::new(true))) });
                }
                Err(error) => error,
            };
            if !is_refused(&error) || Instant::now() + pause > until {
                // Those there are have been in use all the while.
                let busy = pool.size() >= pool.options().get_max_connections();
                if !(busy && matches!(error, sqlx::Error::PoolTimedOut)) {
                    self.down();
                }
                // Nothing was asked of it: it may be asked later.
                return Err(Away::gone(away(&error).to_string()));
            }
            self.metrics.catalog_logins_refused.inc();
            self.renew().await;
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What `statement` comes to on a connection, which is `sound` if it comes to anything, within
    /// the time for that.
    pub(super) async fn told<T>(
        &self,
        sound: &Sound,
        statement: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, Away> {
        // Also where nobody waits for it any more.
        sound.0.store(false, Ordering::Release);
        match tokio::time::timeout(self.config.wait, statement).await {
            Ok(Ok(told)) => {
                sound.0.store(true, Ordering::Release);
                Ok(told)
            }
            Ok(Err(error)) => {
                let away = away(&error);
                // A file's may have been rolled back behind sqlx's back: on a full disk, for one.
                let sound_still = self.engine != Engine::Sqlite && matches!(error, sqlx::Error::Database(_));
                sound.0.store(sound_still, Ordering::Release);
                if away.is_gone() && !is_busy(&error) {
                    self.down();
                }
                if is_read_only(&error) {
                    // It has become another's replica: its name leads to that other by now.
                    *lock(&self.epoch) = Some(Instant::now());
                }
                Err(away)
            }
            Err(_) => {
                // Others to the same place may be as dead, and quiet.
                *lock(&self.epoch) = Some(Instant::now());
                self.down();
                Err(Away::gone("no answer in time"))
            }
        }
    }

    /// Has the secret looked at, since its current version is refused.
    async fn renew(&self) {
        let Some(secret) = &self.secret else { return };
        let seen = self.using.lock().await.clone();
        // What keeps it from being asked is said by the secret itself.
        if let Ok(version) = secret.after(&seen).await
            && version.id != seen
        {
            let _ = self.take(&version).await;
        }
    }

    /// Makes connections with `version` from now on, if it opens the database.
    async fn take(&self, version: &Version) -> Result<(), Away> {
        let mut using = self.using.lock().await;
        if *using == version.id {
            return Ok(());
        }
        let (engine, options) = access::options(&self.config, Some(version)).map_err(Away::new)?;
        if engine != self.engine {
            return Err(Away::new("the secret names another kind of database: restart for that"));
        }
        let probe = async { AnyConnection::connect_with(&options).await?.close().await };
        let probed = tokio::time::timeout(self.config.wait, probe).await;
        probed.map_err(|_| Away::new("no connection in time"))?.map_err(|error| away(&error))?;
        self.made.set_connect_options(options);
        *lock(&self.epoch) = Some(Instant::now());
        version.id.clone_into(&mut using);
        tracing::info!(version = version.id, "the catalogue's database is used with new credentials");
        Ok(())
    }

    /// Follows the secret, and looks for a database that is away. Never ends by itself.
    pub(super) async fn watch(&self) {
        tokio::join!(self.follow(), self.look());
    }

    async fn follow(&self) {
        let Some(secret) = &self.secret else { return };
        let mut changes = secret.changes();
        let mut said = String::new();
        loop {
            let version = Arc::clone(&changes.borrow_and_update());
            match self.take(&version).await {
                Ok(()) => {
                    said.clear();
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let words = error.to_string();
                    if words != said {
                        tracing::warn!(
                            version = version.id,
                            words,
                            "the database refuses the secret's new version; the one before is used still"
                        );
                    }
                    said = words;
                    let _ = tokio::time::timeout(jittered(LOOK), changes.changed()).await;
                }
            }
        }
    }

    async fn look(&self) {
        let mut up = self.up.subscribe();
        loop {
            if up.wait_for(|up| !up).await.is_err() {
                return;
            }
            tracing::warn!("the catalogue's database is away");
            self.metrics.catalog_up.with_label_values(NO_LABELS).set(0);
            while let Err(error) = self.answers().await {
                tracing::debug!(%error, "the catalogue's database is away still");
                tokio::time::sleep(jittered(LOOK)).await;
            }
            self.up.send_replace(true);
            self.metrics.catalog_up.with_label_values(NO_LABELS).set(1);
            tracing::info!("the catalogue's database is back");
        }
    }

    /// Whether it is there, with the schema that we know.
    async fn answers(&self) -> Result<(), Away> {
        if !self.migrated.load(Ordering::Acquire) {
            return self.migrate().await;
        }
        let mut connection = self.acquire().await?;
        let sound = connection.sound();
        // Changes nothing, and is refused where nothing may be changed.
        let probe = sqlx::query("UPDATE leases SET until = until WHERE name = ''").execute(&mut *connection);
        self.told(&sound, probe).await.map(drop)
    }

    /// Sets the figures to what is so now; it asks nobody.
    pub(super) fn tell(&self) {
        let own = (self.engine == Engine::Sqlite).then_some(&self.writing);
        let (mut all, mut idle) = (0_u32, 0_u32);
        for pool in own.into_iter().chain([&self.made]) {
            all = all.saturating_add(pool.size());
            // sqlx counts it beside the truth: for a moment it may be less than none.
            idle = idle.saturating_add(u32::try_from(pool.num_idle()).unwrap_or(0));
        }
        self.metrics.catalog_connections.with_label_values(&["idle"]).set(idle.into());
        self.metrics.catalog_connections.with_label_values(&["used"]).set(all.saturating_sub(idle).into());
        self.metrics.catalog_up.with_label_values(NO_LABELS).set(self.is_up().into());
    }
}

fn pool(
    config: &Catalog,
    engine: Engine,
    most: u32,
    options: AnyConnectOptions,
    epoch: &Arc<Mutex<Option<Instant>>>,
) -> AnyPool {
    let (epoch, wait) = (Arc::clone(epoch), config.wait);
    AnyPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(config.wait)
        .max_lifetime(LIFETIME)
        .idle_timeout(IDLE)
        // One that the server has ended meanwhile is found out below.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if engine == Engine::Sqlite {
                    for pragma in FILE_PRAGMAS {
                        sqlx::query(pragma).execute(&mut *connection).await?;
                    }
                    // Another process may have the file; whoever asked is told before giving up.
                    let busy = format!("PRAGMA busy_timeout = {}", (wait / 2).as_millis());
                    sqlx::query(sqlx::AssertSqlSafe(busy)).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .before_acquire(move |connection, known| {
            // Also one that was begun just before, and came to be just after.
            let old = lock(&epoch).is_some_and(|epoch| known.age + LOGIN > epoch.elapsed());
            Box::pin(async move {
                if old || engine == Engine::Sqlite || known.idle_for < QUIET {
                    return Ok(!old);
                }
                // Before a statement goes over it.
                Ok(matches!(tokio::time::timeout(PING, connection.ping()).await, Ok(Ok(()))))
            })
        })
        .connect_lazy_with(options)
}

fn lock(epoch: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    epoch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("engine", &self.engine).finish_non_exhaustive()
    }
}
