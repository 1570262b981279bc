//! The database stays away until the spool is full; it gets more room, and is written down once the database is back.

use std::fs;

use super::{Page, readiness, refused_for_now};
use crate::{
    servers::{Database as _, Postgres},
    site::{Lab, at},
    standin::{moto, under_keyring},
    support::eventually,
};

const SPOOL: &str = "on_unavailable = \"spool\"\nspool = \"spool\"\nspool_size = \"1MiB\"\nwait = \"2s\"\n";
const WAITING: &str = "sealward_catalog_spool_records";
const BYTES: &str = "sealward_catalog_spool_bytes";

#[test]
fn a_full_spool_refuses_until_it_is_given_room_and_nothing_it_took_is_lost() {
    let page = Page::open("spool-full");
    let mut database = Postgres::start();
    database.create_user("app", "first");
    let bucket = moto().bucket("drill-full");
    let catalog = format!("{}{SPOOL}", at(&database, "app", "first"));
    let lab = Lab::of(moto().site(), &under_keyring(&bucket, "canary = \"off\""), &catalog);
    let lab = lab.with("level = \"debug\"", "level = \"info\"").started();
    lab.put("before", b"before");

    database.kill();
    let taken = fill(&lab);
    let words = page.shows("the catalogue is away; try again");
    assert_eq!(refused_for_now(&lab.try_put("refused", b"never")), words);
    assert_eq!(refused_for_now(&lab.remove("before")), words);
    let full = page.shows("the spool is full");
    lab.server().wait_for_line(|line| line.contains(words) && line.contains(full));
    let away = page.shows("the database of the catalog doesn't answer");
    let seen = readiness(&lab.site, lab.server());
    assert!(seen.status == 200 && seen.text().contains(away), "{seen:?}");
    let bytes = lab.count(BYTES, &[]);
    assert!(bytes + 4096 > 1 << 20, "{bytes} bytes are in it");
    assert_eq!(lab.get("before").text(), "before");

    // More room takes a restart, and no database.
    let mut lab = lab.with("spool_size = \"1MiB\"", "spool_size = \"4MiB\"");
    page.does(&lab.site, "sealward check --config sealward.toml");
    lab.restart();
    lab.wait_for_words(page.shows("records of an earlier run wait in the spool"), 1);
    lab.wait_for_words(page.shows("the catalogue's database is away at start: records are spooled"), 1);
    lab.put("with-room", b"after");
    assert_eq!(lab.count(WAITING, &[]), taken.len() + 1);

    database.restart();
    lab.wait_for_words(page.shows("what was spooled is in the catalogue"), 1);
    eventually("the spool is empty", || lab.count(WAITING, &[]) == 0 && lab.count(BYTES, &[]) == 0);
    eventually("all is well", || !readiness(&lab.site, lab.server()).text().contains(away));
    let names = lab.names();
    let others = ["before".to_owned(), "with-room".to_owned()];
    let lost: Vec<_> = taken.iter().chain(&others).filter(|name| names.binary_search(name).is_err()).collect();
    assert!(lost.is_empty(), "the catalogue lacks {lost:?}");
    // Of those that were under way as it became full some are stored, and nothing says so.
    let rebuilt = page.does(&lab.site, "sealward catalog rebuild --config sealward.toml --class records");
    assert!(rebuilt.contains("0 removed, 0 unreadable"), "{rebuilt}");
    let mut stored = moto().objects(&bucket);
    stored.sort_unstable();
    assert_eq!(lab.names(), stored);
    for name in [&taken[0], &taken[taken.len() - 1]] {
        assert_eq!(lab.get(name).text(), "small", "{name}");
    }
    assert_eq!(lab.remove("before").status, 204);
    page.finished();
}

/// Stores small objects under names as long as they may be, until the spool has no room: the names of those that
/// were taken.
fn fill(lab: &Lab) -> Vec<String> {
    let folder = ["x"; 4].map(|x| x.repeat(220)).join("/");
    let file = lab.site.path("small");
    fs::write(&file, "small").expect("writes");
    let (place, file) = (lab.server().url(""), file.to_string_lossy());
    let urls = format!("{place}{folder}/[1-900]");
    let many = ["-Z", "--parallel-max", "8", "-o", "/dev/null", "-w", "%{http_code} %{url_effective}\\n", "-T", &file];
    let answers = lab.site.curl([&many[..], &[urls.as_str()]].concat());
    assert_eq!(answers.exit, 0, "{answers:?}");
    let text = answers.text();
    let (taken, refused): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("201 "));
    assert!(!taken.is_empty() && refused.iter().all(|line| line.starts_with("503 ")), "{refused:?}");
    assert!(!refused.is_empty(), "it is never full");
    let name =
        |line: &str| line.strip_prefix("201 ").and_then(|url| url.strip_prefix(&place)).expect("ours").to_owned();
    taken.into_iter().map(name).collect()
}
