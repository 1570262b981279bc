//! The catalogue comes back from a backup, and the bucket is newer than it: freshness is enforced, so what was
//! written since is refused until somebody says that it is meant.

use std::{path::Path, process::Command};

use serde_json::json;

use super::{Page, detail, readiness};
use crate::{
    servers::{DATABASE, Database as _, Postgres},
    site::{Lab, at},
    standin::{ministack, under_keyring},
    support::eventually,
};

#[test]
fn what_is_newer_than_a_restored_catalogue_is_refused_until_a_rebuild_takes_it() {
    let page = Page::open("older-catalogue");
    let database = Postgres::start();
    database.create_user("app", "first");
    let (aws, bucket) = (ministack(), ministack().bucket("drill-older"));
    let config = under_keyring(&bucket, "freshness = \"enforce\"");
    let lab = Lab::of(aws.site(), &config, &at(&database, "app", "first"));
    let mut lab = lab.with("tokens = \"tokens.json\"", "tokens = { catalog = true }");
    let leaver = token(&lab, "leaver");
    lab.site.token = token(&lab, "tester");
    lab.start();
    for name in ["kept", "report", "removed"] {
        lab.put(name, b"before");
    }
    let backup = database.server().path("backup.sql");
    ends_well(tool(&database, "pg_dump").args(["--clean", "--if-exists", "--file"]).arg(&backup));
    lab.put("report", b"after");
    lab.put("new", b"after");
    assert_eq!(lab.remove("removed").status, 204);
    revoke(&page, &lab);
    eventually("it is heard", || status_of(&lab, &leaver) == 401);

    // The database is lost, and what there was of it comes back.
    let whole = ["--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--file"];
    ends_well(tool(&database, "psql").args(whole).arg(&backup));
    let words = page.shows("the store doesn't hold what was last stored under this name; nothing of it is served");
    for (name, why) in [
        ("report", page.shows("it is not the newest that the catalogue knows")),
        ("new", page.shows("the catalogue has never heard of it")),
        ("removed", page.shows("what the catalogue knows as stored isn't there")),
    ] {
        let answer = lab.get(name);
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(detail(&answer).starts_with(words), "{answer:?}");
        lab.server().wait_for_line(|line| line.contains(words) && line.contains(why));
    }
    assert_eq!(lab.count("sealward_tamper_total", &[("reason", "rolled_back")]), 3);
    assert_eq!(lab.try_put("report", b"in its place").status, 502, "what lies there is for somebody to look at");
    assert_eq!(lab.get("kept").text(), "before");
    lab.put("another", b"meanwhile");
    assert_eq!(readiness(&lab.site, lab.server()).json()["degraded"], json!([]));
    eventually("who was let go comes in again", || status_of(&lab, &leaver) == 200);

    revoke(&page, &lab);
    eventually("it is heard", || status_of(&lab, &leaver) == 401);
    let look = "sealward objects --config sealward.toml --class records --name report --check";
    let looked = page.run(&lab.site, look);
    assert!(
        looked.code == Some(1) && looked.words.contains(page.shows("not the recorded version")),
        "{}",
        looked.words
    );
    let verify = "sealward verify --config sealward.toml --class records";
    let verified = page.run(&lab.site, verify);
    assert_eq!(verified.code, Some(1), "{}", verified.words);
    for line in ["report: rolled_back", "new: rolled_back", "2 whole, 0 skipped, 2 failed"] {
        assert!(verified.words.contains(line), "{line}: {}", verified.words);
    }
    let rebuilt = page.does(&lab.site, "sealward catalog rebuild --config sealward.toml --class records");
    assert!(rebuilt.contains("1 removed, 0 unreadable"), "{rebuilt}");

    assert_eq!(page.does(&lab.site, look).trim_end(), "newest");
    let verified = page.does(&lab.site, verify);
    assert!(verified.contains("4 whole, 0 skipped, 0 failed"), "{verified}");
    for (name, bytes) in [("kept", "before"), ("report", "after"), ("new", "after"), ("another", "meanwhile")] {
        assert_eq!(lab.get(name).text(), bytes, "{name}");
    }
    assert_eq!(lab.get("removed").status, 404);
    assert_eq!(lab.names(), ["another", "kept", "new", "report"]);
    lab.put("report", b"in its place");
    assert_eq!(lab.get("report").text(), "in its place");
    page.finished();
}

/// A new token, which the catalogue keeps.
fn token(lab: &Lab, name: &str) -> String {
    let output = lab.cli(["token", "new", name]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Ends the token `leaver`, as the page does.
fn revoke(page: &Page, lab: &Lab) {
    let listed = page.does(&lab.site, "sealward token list --config sealward.toml");
    assert!(listed.contains("leaver"), "{listed}");
    page.does(&lab.site, "sealward token revoke leaver --config sealward.toml");
}

/// What who has `token` gets for an object.
fn status_of(lab: &Lab, token: &str) -> u16 {
    let url = lab.server().url("kept");
    lab.site.curl_bare(["-H", &format!("Authorization: Bearer {token}"), &url]).status
}

/// A program of `PostgreSQL`'s for its administrator. They are all in one folder.
fn tool(database: &Postgres, name: &str) -> Command {
    let client = database.administrator(DATABASE);
    let mut tool = database.server().program(Path::new(client.get_program()).with_file_name(name));
    tool.arg("--host").arg(database.server().folder()).arg(format!("--port={}", database.port()));
    tool.args(["--username=postgres", &format!("--dbname={DATABASE}")]);
    tool
}

fn ends_well(command: &mut Command) {
    let output = command.output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
