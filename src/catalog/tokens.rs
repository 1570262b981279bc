//! Access tokens in the catalogue: issued once, known to every replica, ended within seconds.
//!
//! What is kept is what a file would keep: never a token, and its hash under a key that rests here
//! as a message, sealed under the key of a class.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sqlx::Row as _;
use tokio::sync::Semaphore;

use super::{Away, Catalog, engine, rows, sealing::Sealing};
use crate::{
    fault::Fault,
    identity::{Grant, TokenKey, TokenRecord, TokenStore},
    secret::{Key256, SecretText},
};

/// How old what is known of a token may be before the database is asked again.
const FRESH: Duration = Duration::from_secs(2);
/// How long what is known stands in for a database that is away.
const GRACE: Duration = Duration::from_secs(300);
/// How exactly a token's last use is kept.
const USED: Duration = Duration::from_secs(60);
/// How many tokens are known at once; and as many ids that are none.
const MOST: u64 = 10_000;
/// How many are asked for at once, and how long others wait for that.
const ASKING: usize = 2;
const ASKED: Duration = Duration::from_secs(5);
const KEY: &str = "token-key";

/// The tokens of one catalogue.
pub struct Tokens {
    catalog: Arc<Catalog>,
    key: TokenKey,
    known: moka::sync::Cache<String, Known>,
    used: Mutex<HashMap<String, Instant>>,
    /// Questions at once: whoever makes up ids takes no connection from uploads.
    asking: Semaphore,
}

#[derive(Clone)]
struct Known {
    record: Option<TokenRecord>,
    since: Instant,
}

/// A token in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What is kept of it.
    pub record: TokenRecord,
    /// When it was last used, to the minute.
    pub used: Option<SystemTime>,
}

impl Tokens {
    /// The tokens of `catalog`, whose key is sealed by `sealing`, and made where there is none.
    ///
    /// # Errors
    /// [`Away`] when the database or the key can't be had.
    pub async fn open(catalog: Arc<Catalog>, sealing: &Sealing) -> Result<Self, Away> {
        let key = match catalog.sealed(KEY).await? {
            Some(sealed) => sealed,
            None => {
                let fresh = Key256::random().map_err(|error| Away::new(error.to_string()))?;
                let sealed = sealing.seal(KEY, fresh.expose()).await?;
                // Another replica may be faster: its own counts then.
                catalog.keep_sealed(KEY, &sealed).await?;
                catalog.sealed(KEY).await?.ok_or_else(|| Away::new("the tokens' key is lost again"))?
            }
        };
        let sealed = key;
        let key = sealing.open(KEY, &sealed).await.map_err(|error| Away::new(format!("the tokens' key {error}")))?;
        if !sealing.is_current(&sealed) {
            // The key that it is under may be taken away one day.
            catalog.seal_anew(KEY, &sealing.seal(KEY, &key).await?).await?;
        }
        let key = Key256::from_slice(&key).ok_or_else(|| Away::new("the tokens' key isn't 32 bytes"))?;
        Ok(Self {
            catalog,
            key: TokenKey::new(&key),
            known: moka::sync::Cache::builder().max_capacity(MOST).time_to_live(GRACE).build(),
            used: Mutex::default(),
            asking: Semaphore::new(ASKING),
        })
    }

    /// Makes a token called `name`, good for `lifetime` or for ever. The token is returned once.
    ///
    /// # Errors
    /// [`Away`] when the name is taken, or the database can't be asked.
    pub async fn issue(&self, name: &str, grant: Grant, lifetime: Option<Duration>) -> Result<SecretText, Away> {
        let (token, record) = self.key.issue(name, grant, lifetime).map_err(Away::new)?;
        let engine = self.catalog.pool.engine();
        let (insert, nothing) = engine::once(engine);
        let text = serde_json::to_string(&record).map_err(|error| Away::new(error.to_string()))?;
        let sql = format!("{insert} tokens (id, name_id, record) VALUES ($1, $2, $3){nothing}");
        let made = sqlx::query(engine::sql(engine, &sql)).bind(record.id).bind(name_id(name)).bind(text);
        let mut connection = self.catalog.pool.acquire().await?;
        let sound = connection.sound();
        match self.catalog.pool.told(&sound, made.execute(&mut *connection)).await?.rows_affected() {
            0 => Err(Away::new(format!("there is a token `{name}` already: revoke it, or choose another name"))),
            _ => Ok(token),
        }
    }

    /// Every token, by name.
    ///
    /// # Errors
    /// [`Away`] when the database can't be asked.
    pub async fn list(&self) -> Result<Vec<Listed>, Away> {
        let asked = sqlx::query("SELECT record, used FROM tokens ORDER BY id");
        let mut connection = self.catalog.pool.acquire_to_read().await?;
        let sound = connection.sound();
        let found = self.catalog.pool.told(&sound, asked.fetch_all(&mut *connection)).await?;
        let read = |row: &sqlx::any::AnyRow| -> Result<Listed, Away> {
            let wrong = |error: sqlx::Error| Away::new(error.to_string());
            let used: Option<i64> = row.try_get(1).map_err(wrong)?;
            let used = used.and_then(|used| u64::try_from(used).ok());
            Ok(Listed {
                record: record(&row.try_get::<String, _>(0).map_err(wrong)?)?,
                used: used.map(|used| SystemTime::UNIX_EPOCH + Duration::from_micros(used)),
            })
        };
        let mut listed: Vec<Listed> = found.iter().map(read).collect::<Result<_, _>>()?;
        listed.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        Ok(listed)
    }

    /// Ends the token called `name`, or of that id.
    ///
    /// # Errors
    /// [`Away`] when there is none, or the database can't be asked.
    pub async fn revoke(&self, name: &str) -> Result<(), Away> {
        let engine = self.catalog.pool.engine();
        let gone = sqlx::query(engine::sql(engine, "DELETE FROM tokens WHERE name_id = $1 OR id = $2"));
        let mut connection = self.catalog.pool.acquire().await?;
        let sound = connection.sound();
        let gone = gone.bind(name_id(name)).bind(name).execute(&mut *connection);
        match self.catalog.pool.told(&sound, gone).await?.rows_affected() {
            0 => Err(Away::new(format!("there is no token `{name}`"))),
            _ => Ok(()),
        }
    }

    async fn ask(&self, id: &str) -> Result<Option<TokenRecord>, Away> {
        let engine = self.catalog.pool.engine();
        let asked = sqlx::query(engine::sql(engine, "SELECT record FROM tokens WHERE id = $1")).bind(id);
        let mut connection = self.catalog.pool.acquire_to_read().await?;
        let sound = connection.sound();
        let found = self.catalog.pool.told(&sound, asked.fetch_optional(&mut *connection)).await?;
        let text: Option<String> = match found {
            Some(row) => Some(row.try_get(0).map_err(|error| Away::new(error.to_string()))?),
            None => None,
        };
        text.map(|text| record(&text)).transpose()
    }

    fn uses(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for Tokens {
    /// Has it written down, now and then, beside the request.
    fn used(&self, id: &str) {
        let mut used = self.uses();
        if used.get(id).is_some_and(|last| last.elapsed() < USED) {
            return;
        }
        used.retain(|_, last| last.elapsed() < USED);
        used.insert(id.to_owned(), Instant::now());
        drop(used);
        let (catalog, id) = (Arc::clone(&self.catalog), id.to_owned());
        tokio::spawn(async move {
            let sql = engine::sql(catalog.pool.engine(), "UPDATE tokens SET used = $1 WHERE id = $2");
            let told = async {
                let mut connection = catalog.pool.acquire().await?;
                let sound = connection.sound();
                let noted = sqlx::query(sql).bind(rows::microseconds(SystemTime::now())).bind(id);
                catalog.pool.told(&sound, noted.execute(&mut *connection)).await
            };
            if let Err(error) = told.await {
                tracing::debug!(%error, "a token's last use can't be written down");
            }
        });
    }

    async fn find(&self, id: &str) -> Result<Option<TokenRecord>, Fault> {
        let fresh = |known: &&Known| known.since.elapsed() < FRESH;
        let mut known = self.known.get(id);
        if let Some(known) = known.as_ref().filter(fresh) {
            return Ok(known.record.clone());
        }
        let turn = tokio::time::timeout(ASKED, self.asking.acquire()).await;
        if let Some(found) = self.known.get(id) {
            // Another has asked meanwhile.
            if fresh(&&found) {
                return Ok(found.record);
            }
            known = Some(found);
        }
        if turn.is_ok() && self.catalog.pool.is_up() {
            match self.ask(id).await {
                Ok(record) => {
                    self.known.insert(id.to_owned(), Known { record: record.clone(), since: Instant::now() });
                    return Ok(record);
                }
                Err(error) => tracing::warn!(%error, "a token can't be looked up"),
            }
        }
        match known {
            Some(known) if known.since.elapsed() < GRACE => Ok(known.record),
            _ => Err(Fault::unavailable("callers can't be told just now; try again", super::RETRY)
                .because("the catalogue, which has the tokens, is away")),
        }
    }

    fn key(&self) -> &TokenKey {
        &self.key
    }
}

/// What a token's name is found by: not every collation tells all names apart.
fn name_id(name: &str) -> String {
    rows::id("token", name)
}

fn record(text: &str) -> Result<TokenRecord, Away> {
    serde_json::from_str(text).map_err(|_| Away::new("a token's record isn't what this release writes"))
}

impl Catalog {
    async fn sealed(&self, name: &str) -> Result<Option<Vec<u8>>, Away> {
        let asked = sqlx::query(engine::sql(self.pool.engine(), "SELECT message FROM sealed WHERE name = $1"));
        let mut connection = self.pool.acquire_to_read().await?;
        let sound = connection.sound();
        let found = self.pool.told(&sound, asked.bind(name).fetch_optional(&mut *connection)).await?;
        let Some(row) = found else { return Ok(None) };
        let text: String = row.try_get(0).map_err(|error| Away::new(error.to_string()))?;
        STANDARD.decode(text).map(Some).map_err(|_| Away::new(format!("`{name}` in the catalogue isn't base64")))
    }

    async fn seal_anew(&self, name: &str, sealed: &[u8]) -> Result<(), Away> {
        let text = "UPDATE sealed SET message = $1 WHERE name = $2";
        let kept = sqlx::query(engine::sql(self.pool.engine(), text)).bind(STANDARD.encode(sealed)).bind(name);
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        self.pool.told(&sound, kept.execute(&mut *connection)).await.map(drop)
    }

    async fn keep_sealed(&self, name: &str, sealed: &[u8]) -> Result<(), Away> {
        let (insert, nothing) = engine::once(self.pool.engine());
        let text = format!("{insert} sealed (name, message) VALUES ($1, $2){nothing}");
        let kept = sqlx::query(engine::sql(self.pool.engine(), &text)).bind(name).bind(STANDARD.encode(sealed));
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        self.pool.told(&sound, kept.execute(&mut *connection)).await.map(drop)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}
