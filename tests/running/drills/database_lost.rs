//! The catalogue's database is lost with all that was in it, and another takes its place.

use super::{Page, readiness};
use crate::{
    servers::{Database as _, Postgres},
    site::{CALLER, Lab, at},
    standin::{moto, under_keyring},
    support::eventually,
};

const SPOOL: &str = "on_unavailable = \"spool\"\nspool = \"spool\"\nwait = \"2s\"\n";
const WAITING: &str = "sealward_catalog_spool_records";

#[test]
fn a_lost_database_keeps_nobody_from_storing_and_an_empty_one_comes_to_know_all_objects() {
    let page = Page::open("database-lost");
    let mut lost = database();
    let bucket = moto().bucket("drill-lost");
    let catalog = format!("{}{SPOOL}", at(&lost, "app", "first"));
    let lab = Lab::of(moto().site(), &under_keyring(&bucket, "canary = \"off\""), &catalog);
    let mut lab = lab.with("tokens = \"tokens.json\"", "tokens = { catalog = true }");
    let made = lab.cli(["token", "new", CALLER]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    lab.site.token = String::from_utf8_lossy(&made.stdout).trim_end().to_owned();
    lab.start();
    for name in ["letter", "report"] {
        lab.put(name, b"before");
    }

    lost.kill();
    lab.put("meanwhile", b"in the spool");
    let away = page.shows("the catalogue's database is away");
    lab.wait_for_words(away, 1);
    let words = page.shows("the database of the catalog doesn't answer");
    eventually("it is said", || readiness(&lab.site, lab.server()).text().contains(words));
    assert_eq!(readiness(&lab.site, lab.server()).status, 200);
    assert_eq!((lab.count("sealward_catalog_up", &[]), lab.count(WAITING, &[])), (0, 1));
    for (name, bytes) in [("letter", "before"), ("report", "before"), ("meanwhile", "in the spool")] {
        assert_eq!(lab.get(name).text(), bytes);
    }
    let objects = "sealward objects --config sealward.toml --class records --limit 10";
    assert_eq!(page.run(&lab.site, objects).code, Some(1), "a command needs the database");

    let found = database();
    let mut lab = lab.with(&at(&lost, "app", "first"), &at(&found, "app", "first"));
    let checked = page.does(&lab.site, "sealward check --config sealward.toml --online");
    assert!(checked.contains(page.shows("its schema is up to date")), "{checked}");
    lab.restart();
    lab.wait_for_words(page.shows("what was spooled is in the catalogue"), 1);
    eventually("the spool is empty", || lab.count(WAITING, &[]) == 0);
    assert_eq!(lab.get("report").status, 401, "its token is lost");
    lab.site.token = page.does(&lab.site, "sealward token new tester --config sealward.toml").trim_end().to_owned();
    assert_eq!(lab.names(), ["meanwhile"]);
    let rebuilt = page.does(&lab.site, "sealward catalog rebuild --config sealward.toml --class records");
    assert!(rebuilt.contains("3 recorded, 0 removed, 0 unreadable"), "{rebuilt}");

    let listed = page.does(&lab.site, objects);
    for (name, by, bytes) in
        [("letter", "rebuild", "before"), ("report", "rebuild", "before"), ("meanwhile", CALLER, "in the spool")]
    {
        assert!(listed.lines().any(|line| line.ends_with(name) && line.contains(by)), "{name} by {by}: {listed}");
        assert_eq!(lab.get(name).text(), bytes);
    }
    lab.put("new", b"after");
    assert_eq!(lab.names(), ["letter", "meanwhile", "new", "report"]);
    let seen = readiness(&lab.site, lab.server());
    assert!(seen.status == 200 && !seen.text().contains(words), "{seen:?}");
    assert_eq!(lab.count("sealward_catalog_up", &[]), 1);
    page.finished();
}

/// An empty one, for the user that the configuration names.
fn database() -> Postgres {
    let database = Postgres::start();
    database.create_user("app", "first");
    database
}
