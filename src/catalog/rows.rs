//! Rows of objects: written, many at once, and read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::{Away, Catalog, engine, pool::Pool};
use crate::{
    config::Engine,
    index::{Known, Recent, Record, State},
};

/// What a row of objects has, in this order.
const COLUMNS: [&str; 12] = [
    "id",
    "class",
    "vault",
    "name",
    "size",
    "etag",
    "message_id",
    "version_id",
    "kms_key",
    "stored_by",
    "state",
    "changed",
];
/// What of it changes.
pub(super) const CHANGING: [&str; 8] =
    ["size", "etag", "message_id", "version_id", "kms_key", "stored_by", "state", "changed"];

/// Which objects are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Sealed under this key.
    pub key: Option<String>,
    /// Stored by this caller.
    pub by: Option<String>,
    /// Of this class.
    pub class: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// Also those that were removed.
    pub removed: bool,
    /// At most so many.
    pub limit: u32,
}

impl Catalog {
    /// Objects, the newest first.
    ///
    /// # Errors
    /// [`Away`] when the database can't be asked.
    pub async fn find(&self, wanted: &Wanted) -> Result<Vec<Record>, Away> {
        let mut text = format!("SELECT {} FROM objects WHERE state IN ('stored'", COLUMNS.join(", "));
        text.push_str(if wanted.removed { ", 'removed')" } else { ")" });
        let mut values = Vec::new();
        let id = wanted.class.as_ref().zip(wanted.name.as_ref()).map(|(class, name)| id(class, name));
        if let Some(id) = &id {
            // Found at once, however many there are.
            values.push(id.as_str());
            text.push_str(" AND id = $1");
        }
        let asked =
            [("kms_key", &wanted.key), ("stored_by", &wanted.by), ("class", &wanted.class), ("name", &wanted.name)];
        for (column, value) in asked {
            if let Some(value) = value {
                values.push(value.as_str());
                let _ = write!(text, " AND {column} = ${}", values.len());
            }
        }
        let _ = write!(text, " ORDER BY changed DESC, id LIMIT {}", wanted.limit);
        let mut query = sqlx::query(engine::sql(self.pool.engine(), &text));
        for value in values {
            query = query.bind(value);
        }
        let mut connection = self.pool.acquire_to_read().await?;
        let sound = connection.sound();
        let rows = self.pool.told(&sound, query.fetch_all(&mut *connection)).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let record = read(row).map_err(|error| Away::new(error.to_string()))?;
            // MySQL takes `a` and `a ` for the same.
            let same = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
            if same(&wanted.key, &record.key)
                && same(&wanted.by, &record.by)
                && same(&wanted.class, &record.class)
                && same(&wanted.name, &record.name)
            {
                found.push(record);
            }
        }
        Ok(found)
    }

    /// What is known of `names` of `class`.
    pub(super) async fn sizes(&self, class: &str, names: &[&str]) -> Result<Vec<Known>, Away> {
        /// So many are asked for at once.
        const TOGETHER: usize = 256;
        let mut known = Vec::with_capacity(names.len());
        for names in names.chunks(TOGETHER) {
            let places: Vec<_> = (1..=names.len()).map(|at| format!("${at}")).collect();
            let text = format!(
                "SELECT name, etag, size FROM objects WHERE state = 'stored' AND id IN ({})",
                places.join(", ")
            );
            let mut query = sqlx::query(engine::sql(self.pool.engine(), &text));
            for name in names {
                query = query.bind(id(class, name));
            }
            let mut connection = self.pool.acquire_to_read().await?;
            let sound = connection.sound();
            for row in self.pool.told(&sound, query.fetch_all(&mut *connection)).await? {
                let read = || -> sqlx::Result<Known> {
                    let size: i64 = row.try_get(2)?;
                    Ok(Known { name: row.try_get(0)?, etag: row.try_get(1)?, size: u64::try_from(size).unwrap_or(0) })
                };
                known.push(read().map_err(|error| Away::new(error.to_string()))?);
            }
        }
        Ok(known)
    }

    /// The newest of `class`, behind a row.
    pub(super) async fn newest_of(
        &self,
        class: &str,
        behind: Option<(i64, &str)>,
        limit: usize,
    ) -> Result<Recent, Away> {
        let (changed, id) = behind.unwrap_or((i64::MAX, ""));
        // One more tells whether there is another page.
        let text = format!(
            "SELECT name, etag, size, changed, id FROM objects WHERE class = $1 AND state = 'stored' \
             AND (changed < $2 OR (changed = $3 AND id > $4)) ORDER BY changed DESC, id LIMIT {}",
            limit + 1
        );
        let asked = sqlx::query(engine::sql(self.pool.engine(), &text));
        let asked = asked.bind(class).bind(changed).bind(changed).bind(id);
        let mut connection = self.pool.acquire_to_read().await?;
        let sound = connection.sound();
        let rows = self.pool.told(&sound, asked.fetch_all(&mut *connection)).await?;
        let mut recent = Recent::default();
        for row in rows.iter().take(limit) {
            let read = || -> sqlx::Result<_> {
                let (size, changed, id): (i64, i64, String) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
                let size = u64::try_from(size).unwrap_or(0);
                Ok((Known { name: row.try_get(0)?, etag: row.try_get(1)?, size }, changed, id))
            };
            let (known, changed, id) = read().map_err(|error| Away::new(error.to_string()))?;
            recent.objects.push((known, time(changed)));
            recent.next = (rows.len() > limit).then(|| format!("{changed}.{id}"));
        }
        Ok(recent)
    }

    /// What is known as stored in `class`, and isn't among `names`, nor changed after `since`.
    ///
    /// # Errors
    /// [`Away`] when the database can't be asked.
    pub async fn others(&self, class: &str, names: &BTreeSet<String>, since: SystemTime) -> Result<Vec<String>, Away> {
        /// So many are asked for at once.
        const PAGE: usize = 10_000;
        let text = format!(
            "SELECT id, name FROM objects WHERE class = $1 AND state = 'stored' AND changed < $2 AND id > $3 \
             ORDER BY id LIMIT {PAGE}"
        );
        let (mut others, mut after) = (Vec::new(), String::new());
        loop {
            let asked = sqlx::query(engine::sql(self.pool.engine(), &text));
            let asked = asked.bind(class).bind(microseconds(since)).bind(after.as_str());
            let mut connection = self.pool.acquire_to_read().await?;
            let sound = connection.sound();
            let rows = self.pool.told(&sound, asked.fetch_all(&mut *connection)).await?;
            for row in &rows {
                let read = || -> sqlx::Result<(String, String)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
                let (id, name) = read().map_err(|error| Away::new(error.to_string()))?;
                after = id;
                if !names.contains(&name) {
                    others.push(name);
                }
            }
            if rows.len() < PAGE {
                return Ok(others);
            }
        }
    }

    /// Takes note that `name` of `class` is gone, unless it changed after `since`.
    ///
    /// # Errors
    /// [`Away`] when the database can't be asked.
    pub async fn is_gone(&self, class: &str, name: &str, since: SystemTime) -> Result<(), Away> {
        let text = "UPDATE objects SET state = 'removed', changed = $1 WHERE id = $2 AND changed < $3";
        let gone = sqlx::query(engine::sql(self.pool.engine(), text))
            .bind(microseconds(SystemTime::now()))
            .bind(id(class, name))
            .bind(microseconds(since));
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        self.pool.told(&sound, gone.execute(&mut *connection)).await.map(drop)
    }
}

/// All of `records`, or nothing of them.
pub(super) async fn write(pool: &Pool, records: &[&Record]) -> Result<(), Away> {
    let rows = newest(records);
    let mut connection = pool.acquire().await?;
    let sound = connection.sound();
    if engine::at_once(pool.engine(), rows.len()) == rows.len() {
        // One statement is a transaction of its own.
        return pool.told(&sound, write_all(pool.engine(), &mut connection, &rows)).await;
    }
    let writing = async {
        let mut transaction = engine::begin(pool.engine(), &mut connection).await?;
        write_all(pool.engine(), &mut transaction, &rows).await?;
        transaction.commit().await
    };
    pool.told(&sound, writing).await
}

/// `record`, in place of what was written of the object before `before`.
pub(super) async fn rewrite(pool: &Pool, record: &Record, before: SystemTime) -> Result<(), Away> {
    let (engine, id) = (pool.engine(), id(&record.class, &record.name));
    let mut connection = pool.acquire().await?;
    let sound = connection.sound();
    let writing = async {
        let mut transaction = engine::begin(engine, &mut connection).await?;
        let good = "SELECT id FROM objects WHERE id = $1 \
                    AND (changed >= $2 OR (message_id = $3 AND state = 'stored'))";
        let good = sqlx::query(engine::sql(engine, good))
            .bind(id.as_str())
            .bind(microseconds(before))
            .bind(record.message_id.as_str());
        if good.fetch_optional(&mut *transaction).await?.is_some() {
            // Who stored it is known there, and nowhere else.
            return transaction.rollback().await;
        }
        let gone = sqlx::query(engine::sql(engine, "DELETE FROM objects WHERE id = $1 AND changed < $2"))
            .bind(id.as_str())
            .bind(microseconds(before));
        gone.execute(&mut *transaction).await?;
        write_all(engine, &mut transaction, &[(id.clone(), record)]).await?;
        transaction.commit().await
    };
    pool.told(&sound, writing).await
}

/// A row is written once, and in one order everywhere: the newest of several, and no deadlock.
pub(super) fn newest<'a>(records: &[&'a Record]) -> Vec<(String, &'a Record)> {
    let mut rows: BTreeMap<String, &Record> = BTreeMap::new();
    for record in records {
        let row = rows.entry(id(&record.class, &record.name)).or_insert(record);
        if record.at >= row.at {
            *row = record;
        }
    }
    rows.into_iter().collect()
}

/// As one statement where that is out of JSON; else as a few, each of a length that the database
/// knows.
pub(super) async fn write_all(
    engine: Engine,
    connection: &mut AnyConnection,
    rows: &[(String, &Record)],
) -> sqlx::Result<()> {
    let Some(select) = engine::rows_of_json(engine, &COLUMNS) else {
        let mut rest = rows;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(engine::at_once(engine, rest.len()));
            insert(engine, connection, some).await?;
            rest = others;
        }
        return Ok(());
    };
    let values: Vec<_> = rows.iter().map(|(id, record)| row(id, record)).collect();
    let values = serde_json::to_string(&values).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let holds = engine::newest_holds(engine, &CHANGING);
    let text = format!("INSERT INTO objects ({}) {select}{holds}", COLUMNS.join(", "));
    let query = sqlx::query(engine::sql(engine, &text)).bind(values);
    query.execute(connection).await.map(drop)
}

/// What [`COLUMNS`] have of `record`.
fn row<'a>(id: &'a str, record: &'a Record) -> impl Serialize + 'a {
    let Record { class, vault, name, etag, message_id, version_id, key, by, .. } = record;
    let (size, changed) = (size(record), microseconds(record.at));
    (id, class, vault, name, size, etag, message_id, version_id, key, by, state(record.state), changed)
}

async fn insert(engine: Engine, connection: &mut AnyConnection, rows: &[(String, &Record)]) -> sqlx::Result<()> {
    let places = format!("({})", COLUMNS.map(|_| "?").join(", "));
    let values = vec![places; rows.len()].join(", ");
    let holds = engine::newest_holds(engine, &CHANGING);
    let text = format!("INSERT INTO objects ({}) VALUES {values}{holds}", COLUMNS.join(", "));
    let mut query = sqlx::query(engine::sql(engine, &text));
    for (id, record) in rows {
        query = query
            .bind(id.as_str())
            .bind(record.class.as_str())
            .bind(record.vault.as_str())
            .bind(record.name.as_str())
            .bind(size(record))
            .bind(record.etag.as_str())
            .bind(record.message_id.as_str())
            .bind(record.version_id.as_deref())
            .bind(record.key.as_str())
            .bind(record.by.as_str())
            .bind(state(record.state))
            .bind(microseconds(record.at));
    }
    query.execute(connection).await.map(drop)
}

fn read(row: &AnyRow) -> sqlx::Result<Record> {
    let (size, changed): (i64, i64) = (row.try_get("size")?, row.try_get("changed")?);
    let state: String = row.try_get("state")?;
    Ok(Record {
        class: row.try_get("class")?,
        vault: row.try_get("vault")?,
        name: row.try_get("name")?,
        size: u64::try_from(size).unwrap_or(0),
        etag: row.try_get("etag")?,
        message_id: row.try_get("message_id")?,
        version_id: row.try_get("version_id")?,
        key: row.try_get("kms_key")?,
        by: row.try_get("stored_by")?,
        state: if state == self::state(State::Stored) { State::Stored } else { State::Removed },
        at: time(changed),
    })
}

pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Stored => "stored",
        State::Removed => "removed",
    }
}

pub(super) fn size(record: &Record) -> i64 {
    i64::try_from(record.size).unwrap_or(i64::MAX)
}

/// What a row of the object is found by: names are longer than MySQL's indexes take.
pub(super) fn id(class: &str, name: &str) -> String {
    let bytes = [class.as_bytes(), b"\0", name.as_bytes()].concat();
    hex::encode(digest(&SHA256, &bytes).as_ref())
}

/// The row that a page ended with.
pub(super) fn behind(after: &str) -> Option<(i64, &str)> {
    let (changed, id) = after.split_once('.')?;
    Some((changed.parse().ok()?, id))
}

fn time(microseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(microseconds).unwrap_or(0))
}

/// Since 1970.
pub(super) fn microseconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    i64::try_from(since).unwrap_or(i64::MAX)
}
