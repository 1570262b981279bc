//! What replicas tell each other: who does the background work, which uploads are under way, and
//! what an alias of a key has resolved to.

use std::time::{Duration, SystemTime};

use sqlx::Row as _;

use super::{Away, Catalog, engine, rows};

impl Catalog {
    /// Whether the work called `name` is this process's for `time` from now on: its own still, or
    /// nobody's. Clocks of replicas have to agree to a fraction of that.
    ///
    /// # Errors
    /// [`Away`] when the database can't be asked.
    pub async fn lease(&self, name: &str, time: Duration) -> Result<bool, Away> {
        let engine = self.pool.engine();
        let now = SystemTime::now();
        let (now, until) = (rows::microseconds(now), rows::microseconds(now + time));
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        let (insert, nothing) = engine::once(engine);
        let text = format!("{insert} leases (name, holder, until) VALUES ($1, $2, $3){nothing}");
        let fresh = sqlx::query(engine::sql(engine, &text)).bind(name).bind(self.me.as_str()).bind(until);
        if self.pool.told(&sound, fresh.execute(&mut *connection)).await?.rows_affected() == 1 {
            return Ok(true);
        }
        let text = "UPDATE leases SET holder = $1, until = $2 WHERE name = $3 AND (holder = $4 OR until < $5)";
        let taken = sqlx::query(engine::sql(engine, text))
            .bind(self.me.as_str())
            .bind(until)
            .bind(name)
            .bind(self.me.as_str())
            .bind(now);
        Ok(self.pool.told(&sound, taken.execute(&mut *connection)).await?.rows_affected() == 1)
    }

    /// Takes note that the key of `class` is `arn` now; every one that it was.
    ///
    /// # Errors
    /// [`Away`] when the database can't be asked.
    pub async fn resolved(&self, class: &str, arn: &str) -> Result<Vec<String>, Away> {
        let engine = self.pool.engine();
        let (insert, nothing) = engine::once(engine);
        let text = format!("{insert} aliases (class, arn, since) VALUES ($1, $2, $3){nothing}");
        let now = rows::microseconds(SystemTime::now());
        let noted = sqlx::query(engine::sql(engine, &text)).bind(class).bind(arn).bind(now);
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        self.pool.told(&sound, noted.execute(&mut *connection)).await?;
        let asked = sqlx::query(engine::sql(engine, "SELECT arn FROM aliases WHERE class = $1 ORDER BY since"));
        let found = self.pool.told(&sound, asked.bind(class).fetch_all(&mut *connection)).await?;
        found.iter().map(|row| row.try_get(0).map_err(|error| Away::new(error.to_string()))).collect()
    }

    pub(super) async fn note_begun(&self, class: &str, name: &str, upload: &str) -> Result<(), Away> {
        let text = "INSERT INTO uploads (id, class, name, upload, since) VALUES ($1, $2, $3, $4, $5)";
        let noted = sqlx::query(engine::sql(self.pool.engine(), text))
            .bind(rows::id(class, upload))
            .bind(class)
            .bind(name)
            .bind(upload)
            .bind(rows::microseconds(SystemTime::now()));
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        self.pool.told(&sound, noted.execute(&mut *connection)).await.map(drop)
    }

    pub(super) async fn note_over(&self, class: &str, upload: &str) -> Result<(), Away> {
        let text = "DELETE FROM uploads WHERE id = $1";
        let gone = sqlx::query(engine::sql(self.pool.engine(), text)).bind(rows::id(class, upload));
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        self.pool.told(&sound, gone.execute(&mut *connection)).await.map(drop)
    }

    pub(super) async fn ask_unfinished(&self, class: &str, before: SystemTime) -> Result<Vec<(String, String)>, Away> {
        let text = "SELECT name, upload FROM uploads WHERE class = $1 AND since < $2 ORDER BY since LIMIT 1000";
        let asked = sqlx::query(engine::sql(self.pool.engine(), text)).bind(class).bind(rows::microseconds(before));
        let mut connection = self.pool.acquire_to_read().await?;
        let sound = connection.sound();
        let found = self.pool.told(&sound, asked.fetch_all(&mut *connection)).await?;
        let read = |row: &sqlx::any::AnyRow| -> sqlx::Result<_> { Ok((row.try_get(0)?, row.try_get(1)?)) };
        found.iter().map(|row| read(row).map_err(|error| Away::new(error.to_string()))).collect()
    }
}
