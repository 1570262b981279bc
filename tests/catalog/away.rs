//! A database that is killed under load and comes back, under either policy: nothing that was
//! acknowledged is missing from the catalogue, and nothing is in there twice.

use std::{
    fs,
    sync::{Mutex, MutexGuard},
};

use crate::{
    client::Raw,
    held::Held,
    servers::{Database, Postgres, on_each},
    site::{CALLER, Lab, at, meanwhile},
    support::{Answer, eventually, files_below},
    tally::{self, Tally},
};

const CLIENTS: usize = 3;
/// Uploads of each kind that are waited for.
const SOME: usize = 20;
const BODY: &[u8] = b"a small object";
const PASSWORD: &str = "hunter2-opens-the-database";
const DENY: &str = "on_unavailable = \"deny\"\nwait = \"4s\"\n";
pub(crate) const SPOOL: &str = "on_unavailable = \"spool\"\nspool = \"spool\"\nwait = \"4s\"\n";
const AWAY: &str = "the catalogue's database is away";
const BACK: &str = "the catalogue's database is back";
const RECORDS: &str = "sealward_catalog_records_total";
const WAITING: &str = "sealward_catalog_spool_records";
const BYTES: &str = "sealward_catalog_spool_bytes";

#[test]
fn while_the_database_is_away_uploads_are_denied_and_reads_go_on() {
    on_each(|database| {
        let lab = started(database, DENY);
        lab.put("before", BODY);
        eventually("nothing is degraded", || !is_degraded(&lab) && lab.count("sealward_catalog_up", &[]) == 1);
        let uploads = Uploads::default();
        meanwhile(
            CLIENTS,
            |client, going| uploads.go_on(&lab, client, going),
            || {
                uploads.await_more(is_taken);
                database.kill();
                lab.wait_for_words(AWAY, 1);
                uploads.await_more(is_denied);
                reads_go_on(&lab);
                changes_are_denied(&lab);
                eventually("it is said", || is_degraded(&lab) && lab.count("sealward_catalog_up", &[]) == 0);
                database.restart();
                lab.wait_for_words(BACK, 1);
                uploads.await_more(is_taken);
            },
        );
        eventually("nothing is degraded", || !is_degraded(&lab) && lab.count("sealward_catalog_up", &[]) == 1);
        let other = uploads.of(|answer| !is_taken(answer) && !is_denied(answer));
        assert!(other.is_empty(), "{other:?}");

        // What was under way at the kill may be recorded too: its client is to try again.
        let mut taken = uploads.names(is_taken);
        taken.push("before".to_owned());
        taken.sort_unstable();
        let names = lab.names();
        let tally = tally::taken(database);
        assert_eq!(tally, Tally::once(names.len()));
        assert!(names.len() <= taken.len() + CLIENTS, "{} of {}", names.len(), taken.len());
        let known: Vec<String> = names.into_iter().filter(|name| taken.contains(name)).collect();
        assert_eq!(known, taken);

        let again = uploads.names(is_denied).pop().expect("several");
        lab.put(&again, BODY);
        assert!(lab.names().contains(&again));
        assert_eq!(lab.remove("before").status, 204);
        assert!(lab.objects(&["--name", "before"]).is_empty());
        assert!(!lab.server().log().contains("hunter2"), "the password is told");
    });
}

#[test]
fn with_a_spool_no_client_notices_that_the_database_is_away() {
    on_each(|database| {
        let lab = started(database, SPOOL);
        let empty = files_below(&lab.site.path("spool"));
        for name in ["before", "removed"] {
            lab.put(name, BODY);
        }
        let uploads = Uploads::default();
        meanwhile(
            CLIENTS,
            |client, going| uploads.go_on(&lab, client, going),
            || {
                uploads.await_more(is_taken);
                database.kill();
                lab.wait_for_words(AWAY, 1);
                eventually("records wait in the spool", || lab.count(WAITING, &[]) >= SOME);
                assert!(lab.count(BYTES, &[]) > 0 && files_below(&lab.site.path("spool")).len() > empty.len());
                reads_go_on(&lab);
                assert_eq!(lab.remove("removed").status, 204);
                database.restart();
                lab.wait_for_words(BACK, 1);
                // Faster than more of them come.
                eventually("the spool is empty", || lab.count(WAITING, &[]) == 0);
                uploads.await_more(is_taken);
            },
        );
        let failed = uploads.of(|answer| !is_taken(answer));
        assert!(failed.is_empty(), "{failed:?}");
        await_empty(&lab);
        assert_eq!(files_below(&lab.site.path("spool")), empty);

        let mut taken = uploads.names(is_taken);
        taken.push("before".to_owned());
        taken.sort_unstable();
        assert_eq!(lab.names(), taken);
        let tally = tally::taken(database);
        assert_eq!((tally.inserts, tally.rows), (taken.len() + 1, taken.len() + 1));
        // The removal; and of what was under way at the kill, nobody knew whether it was written.
        assert!((1..=1 + CLIENTS).contains(&tally.updates), "{tally:?}");
        let records = |outcome: &str| lab.count(RECORDS, &[("outcome", outcome)]);
        assert!(records("spooled") > SOME);
        assert_eq!((records("replayed"), records("failed")), (records("spooled"), 0));
        assert_eq!(records("written") + records("spooled"), taken.len() + 2);
        assert!(!lab.server().log().contains("hunter2"), "the password is told");
    });
}

/// First while the database is away, then again as what was spooled is being written.
#[test]
fn what_was_spooled_is_written_once_however_often_sealward_is_killed() {
    on_each(|database| {
        let mut lab = started(database, SPOOL);
        let mut names = put_some(&lab, "written");
        database.kill();
        names.extend(put_some(&lab, "spooled"));
        assert_eq!(lab.count(WAITING, &[]), SOME);
        assert_sealed(&lab, "spooled-");

        // It starts without its database, where it had one before.
        lab.restart();
        names.extend(put_some(&lab, "later"));
        assert_eq!(lab.count(WAITING, &[]), 2 * SOME);
        assert_eq!(lab.get("spooled-0").body, BODY);
        lab.kill();
        database.restart();

        let held = Held::objects(database);
        lab.start();
        eventually("a statement of the replay waits", || held.keeps_waiting("app"));
        lab.kill();
        held.release();
        // Whatever the server still makes of the dead one's statement is done then.
        eventually("its connections are gone", || database.connections_of("app") == 0);
        lab.start();
        await_empty(&lab);
        names.sort_unstable();
        assert_eq!(lab.names(), names);
        assert_eq!(tally::taken(database), Tally::once(names.len()));
    });
}

/// A spool that was emptied counts from the beginning again, and is another for the database.
#[test]
fn what_is_spooled_again_after_a_restart_is_written_too() {
    let mut database = Postgres::start();
    let mut lab = started(&database, SPOOL);
    let mut names = Vec::new();
    for outage in ["first", "second", "third"] {
        database.kill();
        names.extend(put_some(&lab, outage));
        database.restart();
        await_empty(&lab);
        lab.restart();
    }
    names.sort_unstable();
    assert_eq!(lab.names(), names);
    assert_eq!(tally::taken(&database), Tally::once(names.len()));
}

/// What can't be read is put aside, and keeps nothing that came after it.
#[test]
fn a_spoilt_file_of_the_spool_is_put_aside() {
    let mut database = Postgres::start();
    let lab = started(&database, SPOOL);
    let spool = lab.site.path("spool");
    let before = files_below(&spool);
    database.kill();
    lab.put("spoilt", BODY);
    let spoilt = files_below(&spool).into_iter().find(|file| !before.contains(file)).expect("is spooled");
    let mut bytes = fs::read(&spoilt).expect("reads");
    *bytes.last_mut().expect("has some") ^= 1;
    fs::write(&spoilt, bytes).expect("writes");
    lab.put("whole", BODY);
    database.restart();
    await_empty(&lab);
    assert_eq!(lab.names(), ["whole"]);
    assert_eq!(lab.count("sealward_catalog_records_total", &[("outcome", "spoilt")]), 1);
    assert_eq!(lab.get("spoilt").body, BODY, "the object itself is well");
}

#[test]
fn a_full_spool_denies_until_it_has_room_again() {
    // As long as names may be, or nearly so.
    let folder = ["x"; 4].map(|x| x.repeat(220)).join("/");
    let mut database = Postgres::start();
    let lab = started(&database, &format!("{SPOOL}spool_size = \"1MiB\"\n"));
    let spool = lab.site.path("spool");
    let empty = files_below(&spool);
    database.kill();
    let file = lab.site.path("small");
    fs::write(&file, BODY).expect("writes");
    let (place, file) = (lab.server().url(""), file.to_string_lossy());
    let (line, urls) = ("%{http_code} %header{retry-after} %{url_effective}\\n", format!("{place}{folder}/[1-1500]"));
    let many = ["-Z", "--parallel-max", "8", "-o", "/dev/null", "-w", line, "-T", &file, &urls];
    let answers = lab.site.curl(many);
    assert_eq!(answers.exit, 0, "{answers:?}");
    let (mut names, mut denied) = (Vec::new(), 0);
    for answer in answers.text().lines() {
        let (said, url) = answer.rsplit_once(' ').expect("three of them");
        match said.split_once(' ').expect("two of them") {
            ("201", "") => names.push(url.strip_prefix(&place).expect("its address").to_owned()),
            ("503", after) if after.parse().is_ok_and(|seconds: u32| seconds > 0) => denied += 1,
            _ => panic!("{answer}"),
        }
    }
    assert!(!names.is_empty() && denied > 0, "{} taken, {denied} denied", names.len());
    assert!(is_denied(&lab.try_put("one-more", BODY)));
    assert_eq!(lab.count(WAITING, &[]), names.len());
    let files = files_below(&spool).into_iter().filter(|file| !empty.contains(file));
    let bytes: u64 = files.map(|file| file.metadata().expect("is there").len()).sum();
    assert!((1 << 19..=1 << 20).contains(&bytes), "{bytes} bytes are in the spool");
    assert_sealed(&lab, "xxxxxxxx");

    database.restart();
    await_empty(&lab);
    lab.put("one-more", BODY);
    names.push("one-more".to_owned());
    names.sort_unstable();
    assert_eq!(lab.names(), names);
    assert_eq!(tally::taken(&database), Tally::once(names.len()));
}

/// A Sealward with a catalogue in `database` and `more` in that section, and every statement counted.
fn started(database: &dyn Database, more: &str) -> Lab {
    database.create_user("app", PASSWORD);
    let lab = Lab::new(&format!("{}{more}", at(database, "app", PASSWORD)));
    // Statements would be logged too otherwise.
    let lab = lab.with("level = \"debug\"", "level = \"info\"").started();
    tally::begin(database);
    lab
}

/// What was there before the database went is listed and read.
fn reads_go_on(lab: &Lab) {
    let read = lab.get("before");
    assert_eq!((read.status, read.exit, &*read.body), (200, 0, BODY), "{read:?}");
    let listed = &lab.list("&prefix=before")["objects"];
    assert!(listed[0]["key"] == "before" && listed[0]["size"] == BODY.len(), "{listed}");
}

/// Removals, and uploads before their body is asked for.
fn changes_are_denied(lab: &Lab) {
    let removal = lab.remove("before");
    assert!(is_denied(&removal), "{removal:?}");
    let mut upload = Raw::new(&lab.site, lab.server());
    upload.head("PUT /files/early", "Content-Length: 1000000\r\nExpect: 100-continue\r\n");
    assert_eq!(upload.next_head().0, 503);
    assert_eq!(lab.get("early").status, 404);
}

/// Whether the catalogue is said to be; ready it is in any case.
fn is_degraded(lab: &Lab) -> bool {
    let answer = lab.site.curl_bare([format!("http://{}/readyz", lab.server().admin)]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["degraded"].to_string().contains("catalog")
}

/// Uploads objects one after the other: their names.
fn put_some(lab: &Lab, name: &str) -> Vec<String> {
    let names: Vec<String> = (0..SOME).map(|number| format!("{name}-{number}")).collect();
    for name in &names {
        lab.put(name, BODY);
    }
    names
}

fn await_empty(lab: &Lab) {
    eventually("the spool is empty", || lab.count(WAITING, &[]) == 0 && lab.count(BYTES, &[]) == 0);
}

/// There is something in the spool, and neither `name` nor who stored it can be read there.
fn assert_sealed(lab: &Lab, name: &str) {
    let all: Vec<u8> = files_below(&lab.site.path("spool"))
        .iter()
        .flat_map(|file| [file.to_string_lossy().into_owned().into_bytes(), fs::read(file).expect("reads")].concat())
        .collect();
    assert!(all.len() > 5_000, "{} bytes", all.len());
    for open in [name, CALLER] {
        assert!(!all.windows(open.len()).any(|bytes| bytes == open.as_bytes()), "{open} is in the spool");
    }
}

fn is_taken(answer: &Answer) -> bool {
    (answer.status, answer.exit) == (201, 0)
}

/// By a problem document that says when to come again.
fn is_denied(answer: &Answer) -> bool {
    (answer.status, answer.exit, answer.header("content-type")) == (503, 0, "application/problem+json")
        && answer.header("retry-after").parse().is_ok_and(|seconds: u32| seconds > 0)
}

/// Uploads that clients make without a pause, and what came of each.
#[derive(Default)]
struct Uploads(Mutex<Vec<(String, Answer)>>);

impl Uploads {
    fn go_on(&self, lab: &Lab, client: usize, going: &dyn Fn() -> bool) {
        for number in (0..).take_while(|_| going()) {
            let name = format!("{client}-{number}");
            let answer = lab.try_put(&name, BODY);
            self.all().push((name, answer));
        }
    }

    /// Waits until more of them are `such`.
    fn await_more(&self, such: fn(&Answer) -> bool) {
        let count = || self.all().iter().filter(|(_, answer)| such(answer)).count();
        let then = count();
        eventually("uploads go on", || count() >= then + SOME);
    }

    fn of(&self, such: impl Fn(&Answer) -> bool) -> Vec<String> {
        let all = self.all();
        all.iter().filter(|(_, answer)| such(answer)).map(|(name, answer)| format!("{name}: {answer:?}")).collect()
    }

    fn names(&self, such: impl Fn(&Answer) -> bool) -> Vec<String> {
        self.all().iter().filter(|(_, answer)| such(answer)).map(|(name, _)| name.clone()).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<(String, Answer)>> {
        self.0.lock().expect("not poisoned")
    }
}
