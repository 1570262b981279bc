//! Every database that a catalogue may be in: `SQLite`'s file, and the servers.

use std::{path::Path, process::Command, thread};

use crate::{
    servers::{Database, on_each},
    site::at,
    standin::installed,
};

/// Who a Sealward comes to a server as.
const USER: &str = "app";
const PASSWORD: &str = "first";

/// Has one statement done, and prints rows as clients of servers do.
const ASK_FILE: &str = r#"
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30)
for row in connection.execute(sys.argv[2]):
    print(*("NULL" if value is None else value for value in row), sep="\t")
connection.commit()
connection.close()
"#;

/// An empty database, for as many Sealwards as come to it.
pub(crate) enum Engine<'a> {
    /// The file isn't there yet.
    File(&'a Path),
    Server(&'a dyn Database),
}

impl Engine<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "sqlite",
            Self::Server(database) => database.engine(),
        }
    }

    /// The lines of `[catalog]` that lead here.
    pub(crate) fn catalog(&self) -> String {
        match self {
            Self::File(path) => format!("url = \"sqlite:{}\"\n", path.display()),
            Self::Server(database) => at(*database, USER, PASSWORD),
        }
    }

    /// What `statement` comes to, behind Sealward's back: rows are lines, and values are parted by tabs.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let path = match self {
            Self::Server(database) => return database.sql(statement),
            Self::File(path) => path,
        };
        let mut python = Command::new(installed("aws/bin/python"));
        let asked = python.args(["-X", "utf8", "-c", ASK_FILE]).arg(path).arg(statement).output().expect("starts");
        let words = String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success(), "`{statement}`: {words}");
        String::from_utf8_lossy(&asked.stdout).trim_end().to_owned()
    }

    /// Every row of every table.
    pub(crate) fn everything(&self) -> String {
        let tables = self.sql(match self.name() {
            "sqlite" => "SELECT name FROM sqlite_master WHERE type = 'table'",
            "postgres" => "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
            _ => "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
        });
        tables.lines().map(|table| self.sql(&format!("SELECT * FROM {table}"))).collect::<Vec<_>>().join("\n")
    }
}

/// Has `test` made with each of them, at the same time. Which of them a panic speaks of is the
/// name of its thread.
pub(crate) fn on_every(test: impl Fn(&Engine<'_>) + Sync) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("catalog.db");
    thread::scope(|scope| {
        let sqlite = thread::Builder::new().name("sqlite".to_owned());
        sqlite.spawn_scoped(scope, || test(&Engine::File(&file))).expect("a thread");
        on_each(|database| {
            database.create_user(USER, PASSWORD);
            test(&Engine::Server(database));
        });
    });
}
