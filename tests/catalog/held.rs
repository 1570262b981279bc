//! A table that is held, so that who writes to it is caught in the midst of a statement.

use std::process::{Child, Stdio};

use crate::{
    servers::{By, Database},
    support::eventually,
};

/// Rows of `objects` can be read, and not written, until this is released.
pub(crate) struct Held<'a> {
    database: &'a dyn Database,
    client: Child,
}

impl<'a> Held<'a> {
    pub(crate) fn objects(database: &'a dyn Database) -> Self {
        let hold = if is_postgres(database) {
            "BEGIN; LOCK TABLE objects IN SHARE ROW EXCLUSIVE MODE; SELECT pg_sleep(600)"
        } else {
            "LOCK TABLES objects READ; SELECT sleep(600)"
        };
        let mut client = database.client(By::Administrator);
        let client = client.arg(hold).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        // It sleeps once it has it.
        eventually("the table is held", || sleeping(database).is_some());
        Self { database, client }
    }

    /// Whether a statement of `user` waits for it.
    pub(crate) fn keeps_waiting(&self, user: &str) -> bool {
        let of_user = if is_postgres(self.database) {
            format!("pg_stat_activity WHERE usename = '{user}' AND wait_event = 'relation'")
        } else {
            format!("information_schema.processlist WHERE user = '{user}' AND state LIKE 'Waiting for table%'")
        };
        self.database.sql(&format!("SELECT count(*) FROM {of_user}")) != "0"
    }

    pub(crate) fn release(mut self) {
        let connection = sleeping(self.database).expect("it sleeps longer than this takes");
        let end = if is_postgres(self.database) {
            format!("SELECT pg_terminate_backend({connection})")
        } else {
            format!("KILL {connection}")
        };
        self.database.sql(&end);
        self.client.wait().expect("ends");
    }
}

/// The number of the connection that holds it.
fn sleeping(database: &dyn Database) -> Option<String> {
    let asleep = if is_postgres(database) {
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    } else {
        "SELECT id FROM information_schema.processlist WHERE state = 'User sleep'"
    };
    Some(database.sql(asleep)).filter(|connection| !connection.is_empty())
}

fn is_postgres(database: &dyn Database) -> bool {
    database.engine() == "postgres"
}
