//! Classes with `freshness = "enforce"`: served is what the catalogue has as the newest, whoever
//! writes at the same time, ends in between, or goes to the store behind our back; and while
//! nobody can tell what that is, nothing.
//!
//! `race` has many writers of few names, `killed` ends a server among them, and `put_back` does
//! by hand what only Sealward should do.

mod killed;
mod put_back;
mod race;

use crate::{
    servers::on_each,
    site::{Lab, at},
    support::{Answer, eventually, files_below},
};

/// The line of the class.
const ENFORCED: &str = "freshness = \"enforce\"";
/// A catalogue that needs no server.
const IN_A_FILE: &str = "url = \"sqlite:catalog.db\"";

#[test]
fn conditions_of_clients_hold_as_ever() {
    let lab = enforced(IN_A_FILE).started();
    // What is stored is the condition itself.
    let put = |condition: &str| curl(&lab, "object", &["-X", "PUT", "-d", condition, "-H", condition]);
    assert_eq!(put("If-Match: *").status, 412);
    assert_eq!(put("If-Match: \"nothing\"").status, 412);
    let made = put("If-None-Match: *");
    assert_eq!(made.status, 201, "{made:?}");
    let first = format!("If-Match: {}", made.header("etag"));
    assert_eq!(put("If-None-Match: *").status, 412);
    assert_eq!(put("If-Match: \"another\"").status, 412);
    let replaced = put(&first);
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_eq!(put(&first).status, 412, "the tag is a new one");
    assert_eq!(lab.get("object").text(), first);
    assert_eq!(put("If-Match: *").status, 200);

    let now = lab.get("object");
    assert_eq!(now.text(), "If-Match: *");
    let [unless, only] = ["If-None-Match", "If-Match"].map(|name| format!("{name}: {}", now.header("etag")));
    assert_eq!(curl(&lab, "object", &["-H", &unless]).status, 304);
    assert_eq!(curl(&lab, "object", &["-H", &first]).status, 412);
    let remove = |condition: &str| curl(&lab, "object", &["-X", "DELETE", "-H", condition]).status;
    assert_eq!(remove(&first), 412);
    assert_eq!(lab.get("object").text(), "If-Match: *");
    assert_eq!(remove(&only), 204);
    assert_eq!(put("If-Match: *").status, 412);
    assert_eq!(put("If-None-Match: *").status, 201);
}

#[test]
fn what_was_removed_is_gone_until_it_is_put_again() {
    let mut lab = enforced(IN_A_FILE).started();
    for round in 0..3 {
        let body = format!("upload {round}");
        assert_eq!(lab.put("object", body.as_bytes()).status, 201);
        assert_eq!(lab.get("object").text(), body);
        assert_eq!(lab.remove("object").status, 204);
        for _ in 0..2 {
            assert_eq!(lab.get("object").status, 404);
            assert_eq!(lab.remove("object").status, 404);
            // So it is to a server that has seen nothing of it.
            lab.restart();
        }
    }
}

/// The catalogue knows them already: nobody has to make it again.
#[test]
fn what_was_stored_before_it_was_enforced_is_served_at_once() {
    let mut lab = quiet(Lab::new(IN_A_FILE)).started();
    lab.put("object", b"first");
    lab.put("object", b"second");
    lab.kill();
    let lab = lab.class(ENFORCED).started();
    assert_eq!(lab.get("object").text(), "second");
    assert_eq!(lab.put("object", b"third").status, 200);
    assert_eq!(lab.get("object").text(), "third");
}

#[test]
fn nothing_is_served_or_taken_while_the_database_is_away() {
    on_each(|database| {
        database.create_user("app", "first");
        let lab = enforced(&format!("wait = \"4s\"\n{}", at(database, "app", "first"))).started();
        lab.put("kept", b"before");
        lab.put("removed", b"before");
        let stored = files_below(&lab.site.objects());

        database.kill();
        let ways: [&[&str]; 5] = [&[], &["-I"], &["-r", "0-1"], &["-X", "PUT", "-d", "never"], &["-X", "DELETE"]];
        for way in ways {
            for name in ["kept", "new"] {
                let answer = curl(&lab, name, way);
                assert_eq!(answer.status, 503, "{way:?} {name}: {answer:?}");
                later(answer.header("retry-after"));
            }
        }
        // The server's own look whether it may write is there for a moment.
        eventually("the folder is what it was", || files_below(&lab.site.objects()) == stored);

        database.restart();
        eventually("the database is asked again", || lab.get("kept").status == 200);
        assert_eq!(lab.get("kept").text(), "before");
        assert_eq!(lab.get("new").status, 404);
        assert_eq!(lab.put("kept", b"after").status, 200);
        assert_eq!(lab.get("kept").text(), "after");
        assert_eq!(lab.put("new", b"after").status, 201);
        assert_eq!(lab.get("new").text(), "after");
        assert_eq!(lab.remove("removed").status, 204);
        assert_eq!(lab.get("removed").status, 404);
    });
}

/// The usual class, enforced, with `catalog` as the lines of `[catalog]`.
fn enforced(catalog: &str) -> Lab {
    quiet(Lab::new(catalog).class(ENFORCED))
}

/// A line for each request, and no more: some tests make thousands.
fn quiet(lab: Lab) -> Lab {
    lab.with("level = \"debug\"", "level = \"info\"")
}

/// curl at `name`, with `args`.
fn curl(lab: &Lab, name: &str, args: &[&str]) -> Answer {
    let url = lab.server().url(name);
    lab.site.curl([args, &[url.as_str()]].concat())
}

/// `retry_after` says when to come again.
#[track_caller]
fn later(retry_after: &str) {
    assert!(retry_after.parse::<u32>().is_ok_and(|seconds| seconds > 0), "Retry-After: `{retry_after}`");
}

/// Whether `sealward objects` finds the newest of `name` in the store, and its words. A folder
/// takes one process: no server may run on it.
fn checked(lab: &Lab, name: &str) -> (bool, String) {
    let output = lab.cli(["objects", "--class", "records", "--name", name, "--check"]);
    let words = String::from_utf8([output.stdout, output.stderr].concat()).expect("is text");
    (output.status.success(), words)
}

#[track_caller]
fn assert_newest(lab: &Lab, name: &str) {
    let (newest, words) = checked(lab, name);
    assert!(newest && words.lines().any(|line| line == "newest"), "{name}: {words}");
}
