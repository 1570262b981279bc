//! How many records a second a catalogue takes, by each kind of database: as many writers as a
//! busy server has uploads, each of whom waits until its record is durable.
//!
//! `cargo bench --bench catalog [-- SECONDS]`, which `make bench-catalog` does after it has
//! measured uploads. The servers are those of the tests, but for one thing: here every commit is
//! on the disk before it is told.

#![allow(clippy::print_stdout)]

#[allow(unreachable_pub)]
#[path = "../tests/support/mod.rs"]
mod support;
#[allow(dead_code)] // shared with tests that use all of it
#[path = "../tests/catalog"]
mod tests {
    pub(crate) mod servers;
}

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sealward::{
    catalog::Catalog,
    config::{self, Away, DatabaseServer, DatabaseTls, Engine},
    index::{Index as _, Record, State},
    metrics::Metrics,
    secret::SecretText,
};
use tests::servers::{DATABASE, Database, MariaDb, Postgres};
use tokio::task::JoinSet;

/// Who wait for their records at the same time.
const WRITERS: usize = 256;
/// Records a second that PostgreSQL is to take.
const GOAL: u128 = 5000;

fn main() {
    // cargo adds `--bench`; a number is for how long each is measured.
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10);
    let time = Duration::from_secs(seconds);
    println!("{:<46} {:>9} {:>9}", format!("records, {WRITERS} writers, {seconds} s"), "1/s", "goal");
    let postgres = {
        let mut server = Postgres::start();
        durable(&mut server);
        of_server(&server, Engine::Postgres, time)
    };
    let missed = postgres < GOAL;
    println!("{:<46} {postgres:>9} {GOAL:>9}{}", "PostgreSQL", if missed { "  missed" } else { "" });
    let mariadb = {
        let server = MariaDb::start();
        server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1");
        of_server(&server, Engine::MySql, time)
    };
    println!("{:<46} {mariadb:>9}", "MariaDB");
    // Not in the system's folder for temporary files, which may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let sqlite = measured(config::Database::File(folder.path().join("catalog.db")), time).1;
    println!("{:<46} {sqlite:>9}", "SQLite");
    drop(folder);
    std::process::exit(i32::from(missed));
}

/// Has the server keep what it has acknowledged through a power cut too: tests kill it alone, and
/// go without. An argument of its own is the only way: what it is started with goes before any file.
fn durable(postgres: &mut Postgres) {
    let pid = fs::read_to_string(postgres.server().path("data/postmaster.pid")).expect("it runs");
    let pid = pid.lines().next().expect("a number");
    let command = fs::read(format!("/proc/{pid}/cmdline")).expect("Linux");
    let mut words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let mut word = || words.next().map(|word| OsString::from_vec(word.to_vec()));
    let program = PathBuf::from(word().expect("a program"));
    let arguments: Vec<OsString> = std::iter::from_fn(word).chain(["-c", "fsync=on"].map(OsString::from)).collect();
    postgres.kill();
    postgres.server_mut().runs(&program, arguments);
    postgres.restart();
    assert_eq!(postgres.sql("SHOW fsync"), "on");
}

/// Records a second that `server` takes; all of them are there afterwards.
fn of_server(server: &dyn Database, engine: Engine, time: Duration) -> u128 {
    server.create_user("bench", "bench");
    let database = config::Database::Server(Box::new(DatabaseServer {
        engine: Some(engine),
        host: Some("localhost".into()),
        port: Some(server.port()),
        dbname: Some(DATABASE.into()),
        user: Some("bench".into()),
        password: Some(SecretText::new("bench".into())),
        secret: None,
        tls: DatabaseTls::Verified { roots: Some(server.ca().to_owned()) },
    }));
    let (written, rate) = measured(database, time);
    assert_eq!(server.sql("SELECT count(*) FROM objects"), written.to_string());
    rate
}

/// How many records were written in that `time`, and so a second.
fn measured(database: config::Database, time: Duration) -> (u64, u128) {
    let config = config::Catalog { database, connections: 16, wait: Duration::from_secs(10), away: Away::Deny };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let metrics = Metrics::new().expect("metrics");
        let catalog = Catalog::open(&config, None, None, metrics).await.expect("the database is there");
        let watching = tokio::spawn(Arc::clone(&catalog).watch());
        let begun = Instant::now();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let catalog = Arc::clone(&catalog);
            writers.spawn(async move {
                let mut written = 0;
                while begun.elapsed() < time {
                    catalog.write(record(writer, written)).await.expect("is written");
                    written += 1;
                }
                written
            });
        }
        let mut written = 0;
        while let Some(its) = writers.join_next().await {
            written += its.expect("ends");
        }
        let took = begun.elapsed().as_millis().max(1);
        watching.abort();
        (written, u128::from(written) * 1000 / took)
    })
}

/// What is told of a small object, of a name that nothing was told of before.
fn record(writer: usize, number: u64) -> Record {
    Record {
        class: "records".into(),
        vault: "records".into(),
        name: format!("{writer}/invoice-{number}.pdf"),
        size: 4096,
        etag: format!("{writer:016x}{number:016x}"),
        message_id: format!("{writer:032x}{number:032x}"),
        version_id: None,
        key: "key-1".into(),
        by: "bench".into(),
        state: State::Stored,
        at: SystemTime::now(),
    }
}
