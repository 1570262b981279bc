//! Which message is the newest under a name, for classes whose freshness is enforced.
//!
//! A message is pending before it may become visible, and says which one it takes the place of.
//! Once it was seen to be there it is current. A store's conditional write lets one of those that
//! would take one message's place win; so from the message that is current on there is one way, and
//! what is beside it, or lies behind, can't come to stand there any more.

use std::{collections::BTreeSet, time::SystemTime};

use sqlx::Row as _;

use super::{Away, Catalog, engine, rows};
use crate::index::{Newest, Record, State};

/// What a message took the place of where nothing was there.
const NOTHING: &str = "-";
/// The state of an object of which nothing but what is pending is known.
const COMING: &str = "coming";

impl Catalog {
    pub(super) async fn ask_newest(&self, class: &str, name: &str) -> Result<Newest, Away> {
        // One statement, and so one moment: what is settled meanwhile is in either of the two.
        let text = "SELECT message_id, 'pending' FROM pending WHERE object = $1 \
                    UNION ALL SELECT message_id, state FROM objects WHERE id = $2";
        let id = rows::id(class, name);
        let asked = sqlx::query(engine::sql(self.pool.engine(), text)).bind(id.as_str()).bind(id.as_str());
        let mut connection = self.pool.acquire_to_read().await?;
        let sound = connection.sound();
        let mut newest = Newest::default();
        for row in self.pool.told(&sound, asked.fetch_all(&mut *connection)).await? {
            let read = || -> sqlx::Result<(String, String)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
            let (message, state) = read().map_err(|error| Away::new(error.to_string()))?;
            match state.as_str() {
                "pending" => newest.pending.push(message),
                "stored" => newest.current = Some(message),
                _ => {}
            }
            newest.known |= state != COMING && state != "pending";
        }
        Ok(newest)
    }

    pub(super) async fn note_pending(
        &self,
        class: &str,
        name: &str,
        message: &str,
        before: Option<&str>,
    ) -> Result<(), Away> {
        let engine = self.pool.engine();
        let (insert, nothing) = engine::once(engine);
        let id = rows::id(class, name);
        let now = rows::microseconds(SystemTime::now());
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        let noting = async {
            let mut transaction = engine::begin(engine, &mut connection).await?;
            // A row that can be locked, also where nothing is known yet.
            let text = format!(
                "{insert} objects (id, class, vault, name, size, etag, message_id, kms_key, stored_by, state, changed) \
                 VALUES ($1, $2, '', $3, 0, '', '', '', '', '{COMING}', 0){nothing}"
            );
            let place = sqlx::query(engine::sql(engine, &text)).bind(id.as_str()).bind(class).bind(name);
            place.execute(&mut *transaction).await?;
            let text =
                format!("{insert} pending (object, message_id, before_id, since) VALUES ($1, $2, $3, $4){nothing}");
            let pending = sqlx::query(engine::sql(engine, &text))
                .bind(id.as_str())
                .bind(message)
                .bind(before.unwrap_or(NOTHING))
                .bind(now);
            pending.execute(&mut *transaction).await?;
            transaction.commit().await
        };
        self.pool.told(&sound, noting).await
    }

    /// Whether it was pending.
    pub(super) async fn note_settled(&self, record: &Record) -> Result<bool, Away> {
        let engine = self.pool.engine();
        let id = rows::id(&record.class, &record.name);
        let mine = record.message_id.as_str();
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        let settling = async {
            let mut transaction = engine::begin(engine, &mut connection).await?;
            let text = format!("SELECT message_id FROM objects WHERE id = $1{}", engine::for_update(engine));
            let locked = sqlx::query(engine::sql(engine, &text)).bind(id.as_str());
            locked.fetch_optional(&mut *transaction).await?;
            let text = "SELECT message_id, before_id FROM pending WHERE object = $1";
            let asked = sqlx::query(engine::sql(engine, text)).bind(id.as_str());
            let mut pending: Vec<(String, String)> = Vec::new();
            for row in asked.fetch_all(&mut *transaction).await? {
                pending.push((row.try_get(0)?, row.try_get(1)?));
            }
            if !pending.iter().any(|(message, _)| message == mine) {
                // One that came after it was faster.
                return transaction.rollback().await.map(|()| false);
            }
            for message in superseded(&pending, mine) {
                let text = "DELETE FROM pending WHERE object = $1 AND message_id = $2";
                let gone = sqlx::query(engine::sql(engine, text)).bind(id.as_str()).bind(message);
                gone.execute(&mut *transaction).await?;
            }
            if record.state == State::Removed {
                let text = "UPDATE objects SET state = $1, changed = $2 WHERE id = $3";
                let told = sqlx::query(engine::sql(engine, text))
                    .bind(rows::state(record.state))
                    .bind(rows::microseconds(record.at))
                    .bind(id.as_str());
                told.execute(&mut *transaction).await?;
                return transaction.commit().await.map(|()| true);
            }
            let text = "UPDATE objects SET vault = $1, size = $2, etag = $3, message_id = $4, version_id = $5, \
                        kms_key = $6, stored_by = CASE WHEN $7 = '' THEN stored_by ELSE $8 END, state = $9, \
                        changed = $10 WHERE id = $11";
            let told = sqlx::query(engine::sql(engine, text))
                .bind(record.vault.as_str())
                .bind(rows::size(record))
                .bind(record.etag.as_str())
                .bind(record.message_id.as_str())
                .bind(record.version_id.as_deref())
                .bind(record.key.as_str())
                .bind(record.by.as_str())
                .bind(record.by.as_str())
                .bind(rows::state(record.state))
                .bind(rows::microseconds(record.at))
                .bind(id.as_str());
            told.execute(&mut *transaction).await?;
            transaction.commit().await.map(|()| true)
        };
        self.pool.told(&sound, settling).await
    }

    pub(super) async fn note_expired(&self, class: &str, name: &str, before: SystemTime) -> Result<(), Away> {
        let text = "DELETE FROM pending WHERE object = $1 AND since < $2";
        let gone = sqlx::query(engine::sql(self.pool.engine(), text))
            .bind(rows::id(class, name))
            .bind(rows::microseconds(before));
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        self.pool.told(&sound, gone.execute(&mut *connection)).await.map(drop)
    }

    pub(super) async fn note_forgotten(&self, class: &str, name: &str, message: &str) -> Result<(), Away> {
        let text = "DELETE FROM pending WHERE object = $1 AND message_id = $2";
        let gone = sqlx::query(engine::sql(self.pool.engine(), text)).bind(rows::id(class, name)).bind(message);
        let mut connection = self.pool.acquire().await?;
        let sound = connection.sound();
        self.pool.told(&sound, gone.execute(&mut *connection)).await.map(drop)
    }

    /// Names of `class` of which something was pending before `before`.
    ///
    /// # Errors
    /// [`Away`] when the database can't be asked.
    pub async fn unsettled(&self, class: &str, before: SystemTime) -> Result<Vec<String>, Away> {
        let text = "SELECT objects.name FROM pending JOIN objects ON objects.id = pending.object \
                    WHERE objects.class = $1 AND pending.since < $2 \
                    GROUP BY objects.name ORDER BY MIN(pending.since) LIMIT 1000";
        let asked = sqlx::query(engine::sql(self.pool.engine(), text)).bind(class).bind(rows::microseconds(before));
        let mut connection = self.pool.acquire_to_read().await?;
        let sound = connection.sound();
        let found = self.pool.told(&sound, asked.fetch_all(&mut *connection)).await?;
        found.iter().map(|row| row.try_get(0).map_err(|error| Away::new(error.to_string()))).collect()
    }
}

/// Of what is pending: `mine`, which is current now, and all that doesn't follow upon it.
fn superseded<'a>(pending: &'a [(String, String)], mine: &'a str) -> Vec<&'a str> {
    let before = |of: &str| pending.iter().find(|(message, _)| message == of).map(|(_, before)| before.as_str());
    let mut ancestors = BTreeSet::new();
    let mut at = mine;
    while let Some(before) = before(at)
        && ancestors.insert(before)
    {
        at = before;
    }
    let mut following = BTreeSet::from([mine]);
    loop {
        if following.iter().any(|message| Newest::is_removal(message)) {
            // What came where nothing was may follow upon a removal.
            following.insert(NOTHING);
        }
        let more = |(message, before): &&(String, String)| {
            let message = message.as_str();
            following.contains(before.as_str()) && !following.contains(message) && !ancestors.contains(message)
        };
        let Some((message, _)) = pending.iter().find(more) else { break };
        following.insert(message);
    }
    let removed = |of: &str| {
        let mut from = BTreeSet::from([of]);
        loop {
            let next = pending
                .iter()
                .find(|(message, before)| from.contains(before.as_str()) && !from.contains(message.as_str()));
            match next {
                Some((message, _)) if Newest::is_removal(message) => return true,
                Some((message, _)) => from.insert(message),
                None => return false,
            };
        }
    };
    let over = |(message, before): &&(String, String)| {
        let message = message.as_str();
        if message == mine || ancestors.contains(message) {
            return true;
        }
        // What waits for nothing to be there may still find that, until it was there and is gone.
        !following.contains(message) && (before != NOTHING || removed(message))
    };
    pending.iter().filter(over).map(|(message, _)| message.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_upon_the_newest_stays_and_all_else_is_over() {
        let pending = [("b", "a"), ("c", "b"), ("d", "c"), ("x", "a"), ("y", "x"), ("e", "d")];
        let pending = pending.map(|(message, before)| (message.to_owned(), before.to_owned()));
        assert_eq!(superseded(&pending, "c"), ["b", "c", "x", "y"]);
        assert_eq!(superseded(&pending, "e").len(), 6);
        assert_eq!(superseded(&[], "a"), Vec::<&str>::new());
    }

    #[test]
    fn what_comes_after_a_removal_follows_upon_it_and_what_was_removed_doesnt() {
        let removal = Newest::removal(7);
        let pending = [("a", NOTHING), (removal.as_str(), "a"), ("b", NOTHING), ("c", "b"), ("x", "y")];
        let pending = pending.map(|(message, before)| (message.to_owned(), before.to_owned()));
        assert_eq!(superseded(&pending, &removal), ["a", removal.as_str(), "x"]);
        assert_eq!(superseded(&pending, "a"), ["a", "x"], "that which was removed is told late");
        assert_eq!(superseded(&pending, "b"), ["a", removal.as_str(), "b", "x"]);
    }

    #[test]
    fn what_waits_for_nothing_to_be_there_may_come_after_any_other() {
        let pending = [("a", NOTHING), ("b", NOTHING), ("c", "a")];
        let pending = pending.map(|(message, before)| (message.to_owned(), before.to_owned()));
        assert_eq!(superseded(&pending, "a"), ["a"], "should it be removed");
        assert_eq!(superseded(&pending, "c"), ["a", "c"]);
    }
}
