//! Starts without a database, and what `check` says of a place for records that wait for one.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    away::SPOOL,
    servers::{Database, Postgres, on_each},
    site::{Lab, at},
};

/// What must be told nowhere.
const PASSWORD: &str = "hunter2-opens-the-database";

#[test]
fn a_start_that_doesnt_come_to_its_database_fails_with_its_place_and_no_password() {
    on_each(|database| {
        database.create_user("app", "another");
        let refused = at(database, "app", PASSWORD) + "wait = \"4s\"\n";
        let words = fails(&Lab::new(&refused), database);
        assert!(words.contains("password") || words.contains("denied"), "{words}");

        database.set_password("app", PASSWORD);
        database.kill();
        let deny = at(database, "app", PASSWORD) + "wait = \"4s\"\non_unavailable = \"deny\"\n";
        fails(&Lab::new(&deny), database);
        // Nothing was ever spooled there, and there may be no schema for it.
        let spool = Lab::new(&(at(database, "app", PASSWORD) + SPOOL));
        for _ in 0..2 {
            fails(&spool, database);
        }
    });
}

/// Whose certificate is another authority's is not the database.
#[test]
fn a_start_comes_to_no_database_that_others_vouch_for() {
    on_each(|database| {
        database.create_user("app", PASSWORD);
        let place = at(database, "app", PASSWORD);
        let lab = Lab::new(&place);
        let theirs = database.ca().display().to_string();
        let ours = lab.site.path("tls/ca.pem").display().to_string();
        let words = fails(&lab.with(&theirs, &ours), database);
        assert!(words.to_lowercase().contains("certificate"), "{words}");
        drop(Lab::new(&place).started());
    });
}

#[test]
fn check_tells_a_spool_that_wouldnt_survive_a_restart() {
    let database = Postgres::start();
    database.create_user("app", PASSWORD);
    let temporary = tempfile::tempdir().expect("a folder");
    let other = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    assert!(!lasts(temporary.path()), "the system's temporary folder is where such are made");
    for folder in [temporary.path(), other.path()].map(|folder| folder.join("spool")) {
        let spool = SPOOL.replace("spool = \"spool\"", &format!("spool = \"{}\"", folder.display()));
        let lab = Lab::new(&(at(&database, "app", PASSWORD) + &spool));
        let output = lab.cli(["check", "--online"]);
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "a warning is no fault: {words}");
        assert_eq!(words.contains("not a persistent path"), !lasts(&folder), "{}: {words}", folder.display());
        assert!(!words.contains("hunter2"), "{words}");
    }
}

/// What a start says that fails, wherever it says that.
fn fails(lab: &Lab, database: &dyn Database) -> String {
    // One that serves would do so for ever.
    let mut serve = Command::new("timeout");
    serve.arg("60").arg(lab.site.command().get_program()).args(["serve", "--config"]).arg(lab.file());
    let output = serve.stdin(Stdio::null()).output().expect("timeout is there");
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("localhost:{}", database.port())), "it doesn't say which: {words}");
    assert!(!words.contains("hunter2"), "{words}");
    words
}

/// Whether what is written in `folder`, or where it will be, is there after a restart of the machine.
fn lasts(folder: &Path) -> bool {
    let there = folder.ancestors().find(|folder| folder.exists()).expect("the root is there");
    let kind = Command::new("stat").args(["--file-system", "--format=%T"]).arg(there).output().expect("stat is there");
    let kind = String::from_utf8_lossy(&kind.stdout).trim_end().to_owned();
    !folder.starts_with(env::temp_dir()) && !["tmpfs", "ramfs", "overlayfs"].contains(&kind.as_str())
}
