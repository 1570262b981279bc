//! What the databases say in ways of their own.

use std::borrow::Cow;

use sqlx::{
    AnyConnection, AssertSqlSafe, Connection as _, Row as _, SqlSafeStr as _, Transaction,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::config::Engine;

/// Every statement is written once, with `$1`, `$2` … in their order: MySQL knows `?` alone.
pub(super) fn sql(engine: Engine, text: &str) -> AssertSqlSafe<String> {
    if engine != Engine::MySql {
        return AssertSqlSafe(text.to_owned());
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '$' && rest.peek().is_some_and(char::is_ascii_digit) {
            while rest.next_if(char::is_ascii_digit).is_some() {}
            plain.push('?');
        } else {
            plain.push(c);
        }
    }
    AssertSqlSafe(plain)
}

/// What a row of objects becomes that is there already: what is newer holds. `changed` is set
/// last, since MySQL goes by what it has set before.
pub(super) fn newest_holds(engine: Engine, columns: &[&str]) -> String {
    // A removal says nothing of what was there, and who seals anew nothing of who stored it.
    let set = |column: &&str| match (engine, *column) {
        (Engine::MySql, "state" | "changed") => {
            format!("{column} = IF(VALUES(changed) > changed, VALUES({column}), {column})")
        }
        (Engine::MySql, "stored_by") => "stored_by = IF(VALUES(changed) > changed AND VALUES(state) <> 'removed' \
                                         AND VALUES(stored_by) <> '', VALUES(stored_by), stored_by)"
            .into(),
        (Engine::MySql, _) => format!(
            "{column} = IF(VALUES(changed) > changed AND VALUES(state) <> 'removed', VALUES({column}), {column})"
        ),
        (_, "state" | "changed") => format!("{column} = excluded.{column}"),
        (_, "stored_by") => "stored_by = CASE WHEN excluded.state = 'removed' OR excluded.stored_by = '' \
                             THEN objects.stored_by ELSE excluded.stored_by END"
            .into(),
        _ => format!("{column} = CASE excluded.state WHEN 'removed' THEN objects.{column} ELSE excluded.{column} END"),
    };
    let set: Vec<_> = columns.iter().map(set).collect();
    let set = set.join(", ");
    match engine {
        Engine::MySql => format!(" ON DUPLICATE KEY UPDATE {set}"),
        Engine::Postgres | Engine::Sqlite => {
            format!(" ON CONFLICT (id) DO UPDATE SET {set} WHERE excluded.changed > objects.changed")
        }
    }
}

/// `SELECT` of rows with these columns out of `$1`, a JSON array of arrays, where that costs the
/// database less than as many values: one statement for any number of them.
pub(super) fn rows_of_json(engine: Engine, columns: &[&str]) -> Option<String> {
    if engine != Engine::Postgres {
        return None;
    }
    let column = |(at, name): (usize, &&str)| match *name {
        "size" | "changed" => format!("CAST(found ->> {at} AS BIGINT)"),
        _ => format!("found ->> {at}"),
    };
    let columns: Vec<_> = columns.iter().enumerate().map(column).collect();
    Some(format!("SELECT {} FROM json_array_elements(CAST($1 AS JSON)) AS found", columns.join(", ")))
}

/// How many of `rows` go by one statement, so that the database knows each that there may be.
pub(super) fn at_once(engine: Engine, rows: usize) -> usize {
    match engine {
        Engine::Postgres => rows,
        Engine::MySql => 1 << rows.max(1).ilog2(),
        // Of all lengths up to that: as many as a connection remembers.
        Engine::Sqlite => rows.min(64),
    }
}

/// What a row becomes that is there already under `key`: as it is now.
pub(super) fn replaces(engine: Engine, key: &str, columns: &[&str]) -> String {
    let set = |column: &&str| match engine {
        Engine::MySql => format!("{column} = VALUES({column})"),
        Engine::Postgres | Engine::Sqlite => format!("{column} = excluded.{column}"),
    };
    let set: Vec<_> = columns.iter().map(set).collect();
    let set = set.join(", ");
    match engine {
        Engine::MySql => format!(" ON DUPLICATE KEY UPDATE {set}"),
        Engine::Postgres | Engine::Sqlite => format!(" ON CONFLICT ({key}) DO UPDATE SET {set}"),
    }
}

/// `INSERT`, and nothing where there is such a row: what begins and what ends it.
pub(super) fn once(engine: Engine) -> (&'static str, &'static str) {
    match engine {
        Engine::MySql => ("INSERT IGNORE INTO", ""),
        Engine::Postgres | Engine::Sqlite => ("INSERT INTO", " ON CONFLICT DO NOTHING"),
    }
}

/// Behind a `SELECT`: the row is ours until the end of the transaction.
pub(super) fn for_update(engine: Engine) -> &'static str {
    match engine {
        // Whose transactions have the whole file.
        Engine::Sqlite => "",
        Engine::Postgres | Engine::MySql => " FOR UPDATE",
    }
}

/// A transaction that will write.
pub(super) async fn begin(engine: Engine, connection: &mut AnyConnection) -> sqlx::Result<Transaction<'_, sqlx::Any>> {
    match engine {
        // Not one that finds another before it when it comes to write.
        Engine::Sqlite => connection.begin_with("BEGIN IMMEDIATE").await,
        Engine::Postgres | Engine::MySql => connection.begin().await,
    }
}

/// Has one process at a time bring up the schema, where the migrator itself doesn't see to it.
pub(super) async fn lock(engine: Engine, connection: &mut AnyConnection, held: bool) -> sqlx::Result<()> {
    if engine != Engine::MySql {
        return Ok(());
    }
    let text = if held { "SELECT GET_LOCK('sealward', 100)" } else { "SELECT RELEASE_LOCK('sealward')" };
    let row = sqlx::query(text).fetch_one(connection).await?;
    match row.try_get::<Option<i64>, _>(0)? {
        Some(1) => Ok(()),
        _ => Err(sqlx::Error::Protocol("the lock on the schema can't be had".into())),
    }
}

/// The schema's way from nothing to today: forward alone, each step once. What a newer release
/// has added is left as it is, so that two releases run side by side.
pub(super) fn migrator(engine: Engine) -> Migrator {
    let steps = match engine {
        Engine::Postgres | Engine::Sqlite => [include_str!("migrations/standard.sql")],
        // Whose tables say how texts are told apart, and whose indexes take only so much of one.
        Engine::MySql => [include_str!("migrations/mysql.sql")],
    };
    let step = |(at, sql): (usize, &'static str)| {
        let version = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
        Migration::new(version, Cow::Borrowed("catalogue"), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(steps.into_iter().enumerate().map(step).collect());
    migrator.set_ignore_missing(true);
    // MariaDB refuses to wait as long as sqlx asks it to, and then locks nothing: see `lock`.
    migrator.set_locking(engine != Engine::MySql);
    migrator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_each_engines_own() {
        let text = "SELECT $1, $12 WHERE a = '$'";
        assert_eq!(sql(Engine::Postgres, text).into_sql_str().as_str(), text);
        assert_eq!(sql(Engine::MySql, text).into_sql_str().as_str(), "SELECT ?, ? WHERE a = '$'");
    }
}
