//! The index of objects: what it answers at the command line and over HTTP, and how it is made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::Output,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sealward::keys::local::Keyring;
use serde_json::{Value, json};

use crate::{
    client::{bearer, token},
    engines::{Engine, on_every},
    site::{CALLER, KEY, Lab},
    standin::{moto, text, under_keyring},
    support::{Sealward, files_below, pattern},
};

/// Another class, behind `/reports/` and under a key of its own.
const REPORTS: &str = r#"
[[class]]
name = "reports"
directory = "reports"
write_key = "key-2"
[[route]]
path = "/reports/"
seal = { class = "reports" }
"#;
/// What a line of `sealward objects --json` has.
const FIELDS: [&str; 11] =
    ["class", "vault", "name", "size", "etag", "message_id", "version_id", "key", "by", "state", "changed"];

#[test]
fn what_is_under_a_key_and_what_a_caller_stored_is_answered() {
    on_every(|engine| {
        let mut lab = two_classes(engine);
        let tester = lab.site.token.clone();
        // Who merely looks the same to a database is another.
        let [anna, other, third] = ["anna", "Anna", "anna "].map(|name| token(&lab.site, name, &[], &[]));
        lab.start();
        put(&lab, &tester, "records", "first", b"1");
        put(&lab, &anna, "records", "shared", b"12");
        put(&lab, &tester, "reports", "shared", b"123");
        put(&lab, &other, "reports", "other", b"1234");
        put(&lab, &third, "records", "third", b"12345");
        put(&lab, &anna, "records", "gone", b"123456");
        lab.site.token = anna;
        assert_eq!(lab.site.curl(["-X", "DELETE", &lab.server().url("gone")]).status, 204);

        let asked: &[(&[&str], &[&str])] = &[
            (&[], &["third", "other", "shared", "shared", "first"]),
            (&["--key", KEY], &["third", "shared", "first"]),
            (&["--key", "key-2"], &["other", "shared"]),
            (&["--key", "key"], &[]),
            (&["--by", CALLER], &["shared", "first"]),
            (&["--by", "anna"], &["shared"]),
            (&["--by", "Anna"], &["other"]),
            (&["--by", "anna "], &["third"]),
            (&["--class", "records"], &["third", "shared", "first"]),
            (&["--name", "shared"], &["shared", "shared"]),
            (&["--name", "shared", "--class", "reports", "--by", CALLER, "--key", "key-2"], &["shared"]),
            (&["--name", "shared", "--class", "reports", "--by", "anna"], &[]),
            (&["--limit", "2"], &["third", "other"]),
            (&["--limit", "2", "--class", "records", "--all"], &["gone", "third"]),
            (&["--by", "anna", "--all"], &["gone", "shared"]),
            (&["--all"], &["gone", "third", "other", "shared", "shared", "first"]),
        ];
        for (args, expected) in asked {
            assert_eq!(names(&lab.objects(args)), *expected, "{args:?}");
        }
        let all = lab.objects(&["--all"]);
        let states: Vec<_> = all.iter().map(|row| row["state"].as_str().expect("a state")).collect();
        assert_eq!(states, ["removed", "stored", "stored", "stored", "stored", "stored"]);

        let table = said(&lab.cli(["objects"]));
        let mut lines = table.lines();
        let head = lines.next().expect("a head").to_lowercase();
        assert!(["class", "name", "size", "key"].iter().all(|column| head.contains(column)), "{head}");
        let rows: Vec<_> = lines.collect();
        assert_eq!(rows.len(), 5, "{table}");
        for (line, row) in rows.iter().zip(&all[1..]) {
            let told = ["class", "name", "key"].iter().all(|field| line.contains(row[field].as_str().expect("text")));
            assert!(told && line.contains(&row["size"].to_string()), "{row}: {table}");
        }
        assert!(lab.cli(["objects", "--by", "nobody"]).status.success());
    });
}

#[test]
fn a_replaced_object_stays_one_row_and_an_older_copy_in_its_place_is_found_out() {
    on_every(|engine| {
        let mut lab = Lab::new(&engine.catalog()).started();
        let receipts = [lab.put("a", b"first").json(), lab.put("b", b"another").json()];
        let before = lab.objects(&["--name", "a"]);
        let older: Vec<_> = files_of(&lab, "a").into_iter().map(|file| (fs::read(&file), file)).collect();
        let receipt = lab.put("a", &pattern(300_000)).json();
        let after = lab.objects(&["--name", "a"]);
        assert_eq!((before.len(), after.len()), (1, 1), "{before:?} {after:?}");
        for (row, receipt, size) in [(&before[0], &receipts[0], 5), (&after[0], &receipt, 300_000)] {
            let fields: BTreeSet<_> = row.as_object().expect("an object").keys().map(String::as_str).collect();
            assert_eq!(fields, BTreeSet::from(FIELDS));
            assert_eq!(row["etag"], receipt["etag"]);
            let told = ["class", "vault", "name", "size", "version_id", "key", "by", "state"].map(|name| &row[name]);
            assert_eq!(json!(told), json!(["records", "records", "a", size, null, KEY, CALLER, "stored"]));
            // A folder's entity tag is the first half of it.
            let (id, etag) = (text(&row["message_id"]), text(&row["etag"]));
            assert!(id.len() == 64 && id.starts_with(&etag), "{row}");
            let changed = text(&row["changed"]);
            let format = &time::format_description::well_known::Rfc3339;
            let at = time::OffsetDateTime::parse(&changed, format).expect("RFC 3339");
            assert_eq!(changed.len(), "2025-01-01T00:00:00.000Z".len(), "{row}");
            assert!((time::OffsetDateTime::now_utc() - at).abs() < time::Duration::MINUTE, "{row}");
        }
        assert_ne!(before[0]["message_id"], after[0]["message_id"]);
        assert_eq!(names(&lab.objects(&[])), ["a", "b"], "the newest first");

        // A folder's store takes one process.
        lab.kill();
        assert_eq!(checked(&lab, "a"), (Some(0), "newest".to_owned()));
        remove_files_of(&lab, "a");
        let (code, words) = checked(&lab, "a");
        assert!(code == Some(1) && words.contains("not the recorded version"), "nothing is there: {words}");
        for (bytes, file) in older {
            fs::write(file, bytes.expect("reads")).expect("writes");
        }
        let (code, words) = checked(&lab, "a");
        assert!(code == Some(1) && words.contains("not the recorded version"), "{words}");
        assert_eq!(checked(&lab, "b"), (Some(0), "newest".to_owned()));
        lab.start();
        assert_eq!(lab.get("a").body, b"first", "it is what was put there, and a good message");
    });
}

#[test]
fn names_that_a_database_might_mix_up_stay_apart() {
    on_every(|engine| {
        let lab = Lab::new(&engine.catalog()).started();
        let odd = [
            "Grün/Öl, ß",
            // The same to the eye, in other code points.
            "Gru\u{308}n/O\u{308}l, ß",
            "strasse",
            "straße",
            "it's \"quoted\" \\ and back",
            "100%_%41",
            "100%_A",
            "$1 ? :name",
            "NULL",
            "🦀/日本",
            "a",
            "A",
            "á",
            "a ",
            "a  ",
            " a",
            "a/ ",
        ];
        // What differs behind so many bytes differs.
        let long = ["1a", "1b"].map(|end| format!("{}{end}", "ü".repeat(449)));
        let names: Vec<_> = odd.map(str::to_owned).into_iter().chain(long).collect();
        // Each has a size of its own.
        for (name, size) in names.iter().zip(1..) {
            lab.put(&encoded(name), &pattern(size));
        }
        let rows = lab.objects(&["--class", "records"]);
        assert_eq!(rows.len(), names.len());
        let listed = sizes(&lab.list(""));
        for (name, size) in names.iter().zip(1..) {
            let found = lab.objects(&["--name", name]);
            assert_eq!(self::names(&found), [name]);
            assert_eq!((&found[0]["size"], listed[name]), (&json!(size), size), "{name}");
            assert!(rows.contains(&found[0]), "{name}");
        }
        // What goes takes nobody along.
        assert_eq!(lab.site.curl(["-X", "DELETE", &lab.server().url(&encoded("a "))]).status, 204);
        assert_eq!(lab.names().len(), names.len() - 1);
        for (name, state) in [("a ", "removed"), ("a", "stored"), ("a  ", "stored"), ("A", "stored")] {
            assert_eq!(lab.objects(&["--name", name, "--all"])[0]["state"], state, "`{name}`");
        }
    });
}

#[test]
fn an_index_that_was_lost_is_made_again_from_the_store() {
    on_every(|engine| {
        let mut lab = two_classes(engine);
        lab.start();
        for (name, size) in [("a", 0), ("b/c", 10), ("gone", 3), ("ö", 300_000)] {
            lab.put(&encoded(name), &pattern(size));
        }
        put(&lab, &lab.site.token, "reports", "theirs", b"1");
        assert_eq!(lab.site.curl(["-X", "DELETE", &lab.server().url("gone")]).status, 204);
        let before = facts(&lab.objects(&["--class", "records"]));
        assert_eq!(before.len(), 3);
        // A folder's store takes one process.
        lab.kill();

        let (done, words) = rebuilt(&lab);
        assert!(done && words.contains(" 0 removed, 0 unreadable"), "{words}");
        let known = lab.objects(&["--class", "records"]);
        assert_eq!(facts(&known), before, "what is known stays as it is");
        assert!(known.iter().all(|row| row["by"] == CALLER), "{known:?}");

        engine.sql("DELETE FROM objects");
        assert!(lab.objects(&["--all"]).is_empty());
        let (done, words) = rebuilt(&lab);
        assert!(done && words.contains("3 recorded, 0 removed, 0 unreadable"), "{words}");
        let made = lab.objects(&["--class", "records", "--all"]);
        assert_eq!(facts(&made), before);
        assert!(made.iter().all(|row| row["by"] == "rebuild"), "{made:?}");
        assert!(lab.objects(&["--class", "reports"]).is_empty(), "one class at a time");

        remove_files_of(&lab, "a");
        let message = files_of(&lab, "c").into_iter().find(|file| file.extension() == Some("sealed".as_ref()));
        fs::write(message.expect("is there"), b"no message of ours").expect("writes");
        let words = rebuilt(&lab).1;
        assert!(words.contains(" 1 removed, 1 unreadable"), "{words}");
        let all = lab.objects(&["--class", "records", "--all"]);
        let states: BTreeMap<_, _> = all.iter().map(|row| (text(&row["name"]), text(&row["state"]))).collect();
        let state = |name: &str| states[name].as_str();
        // What is bad is there still.
        assert_eq!([state("a"), state("b/c"), state("ö")], ["removed", "stored", "stored"]);
        lab.start();
        assert_eq!(lab.get(&encoded("ö")).body, pattern(300_000));
    });
}

#[test]
fn a_list_asks_the_bucket_for_no_object_that_the_catalogue_knows() {
    const COUNT: &str = "sealward_store_request_duration_seconds_count";
    on_every(|engine| {
        let bucket = moto().bucket(&format!("listed-{}", engine.name()));
        // A canary would ask for an object of its own, now and then.
        let plain = under_keyring(&bucket, "canary = \"off\"");
        let mut lab = Lab::of(moto().site(), &plain, &engine.catalog()).started();
        for at in 0..30 {
            lab.put(&format!("{at:02}"), &pattern(at));
        }
        // What it remembers of them itself goes.
        lab.restart();
        let looked = || lab.count(COUNT, &[("operation", "stat")]);
        let before = looked();
        let mut expected: BTreeMap<_, _> = (0..30).map(|at| (format!("{at:02}"), at)).collect();
        assert_eq!(sizes(&lab.list("")), expected);
        assert_eq!(looked(), before);

        // For the newest first nothing is asked of the bucket at all.
        let listed = || lab.count(COUNT, &[("operation", "list")]);
        let (lists, mut newest, mut after) = (listed(), Vec::new(), String::new());
        loop {
            let page = lab.list(&format!("&order=newest&limit=7&after={after}"));
            let objects = page["objects"].as_array().expect("a list");
            newest.extend(objects.iter().map(|object| object["key"].as_str().expect("a name").to_owned()));
            assert!(objects.iter().all(|object| object["size"].is_u64()), "{page}");
            let Some(next) = page["next"].as_str() else { break };
            next.clone_into(&mut after);
        }
        assert_eq!(newest, (0..30).rev().map(|at| format!("{at:02}")).collect::<Vec<_>>());
        assert_eq!((listed(), looked()), (lists, before));

        // One that has no catalogue must ask for each.
        let other = lab.site.serve_among(&plain, &[("LC_ALL", "C".to_owned())]);
        let look = |server: &Sealward| server.metric(&format!("{COUNT}{{operation=\"stat\",outcome=\"ok\"}}"));
        let first = look(&other);
        assert_eq!(sizes(&lab.site.get(&other, "?list").json()), expected);
        assert!((look(&other) - first - 30.0).abs() < 0.5, "{}", other.metrics());

        // What another has put there is told too, also in the place of what is known.
        lab.site.put(&other, "foreign", &pattern(5_000));
        lab.site.put(&other, "07", &pattern(7_000));
        expected.extend([("foreign".to_owned(), 5_000), ("07".to_owned(), 7_000)]);
        assert_eq!(sizes(&lab.list("")), expected);
        assert_eq!(looked(), before + 2);
        // It is the bucket that says what there is.
        assert_eq!(lab.site.curl(["-X", "DELETE", &other.url("08")]).status, 204);
        expected.remove("08");
        assert_eq!(sizes(&lab.list("")), expected);
    });
}

/// Two classes, and a keyring with the key of each. Nothing is started yet.
fn two_classes(engine: &Engine<'_>) -> Lab {
    let lab = Lab::new(&engine.catalog()).class(&format!("write_key = \"{KEY}\"")).rest(REPORTS);
    let (keyring, second) = (lab.site.path("keyring.json"), lab.site.path("second.json"));
    Keyring::create(&second, "test", "key-2").expect("a keyring");
    let key = |path| serde_json::from_slice(&fs::read(path).expect("reads")).expect("is JSON");
    let keys: [Value; 2] = [&keyring, &second].map(key);
    fs::write(keyring, json!(keys).to_string()).expect("writes");
    lab
}

/// Uploads `bytes` for whomever `token` is of, to either class.
fn put(lab: &Lab, token: &str, class: &str, name: &str, bytes: &[u8]) {
    let file = lab.site.path("upload");
    fs::write(&file, bytes).expect("writes");
    let bearer = bearer(token);
    let place = if class == "records" { "files" } else { class };
    let url = format!("https://{}/{place}/{}", lab.server().https, encoded(name));
    let args: [&OsStr; 5] = ["-H".as_ref(), bearer.as_ref(), "-T".as_ref(), file.as_ref(), url.as_ref()];
    let answer = lab.site.curl_bare(args);
    assert_eq!((answer.status, answer.exit), (201, 0), "{answer:?}");
}

/// `name` as an address has it.
fn encoded(name: &str) -> String {
    name.split('/').map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()).collect::<Vec<_>>().join("/")
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().expect("a name")).collect()
}

/// What is listed over HTTP, by name.
fn sizes(list: &Value) -> BTreeMap<String, usize> {
    let size = |object: &Value| usize::try_from(object["size"].as_u64().expect("a size")).expect("few");
    let objects = list["objects"].as_array().expect("a list").iter();
    objects.map(|object| (text(&object["key"]), size(object))).collect()
}

/// Rows by name, without what the store can't tell: who stored them, and when that was.
fn facts(rows: &[Value]) -> BTreeMap<String, Value> {
    let fact = |row: &Value| {
        let mut row = row.clone();
        let fields = row.as_object_mut().expect("an object");
        fields.retain(|field, _| !["by", "changed"].contains(&field.as_str()));
        (text(&row["name"]), row)
    };
    rows.iter().map(fact).collect()
}

/// The files of the object whose name ends in `name`, as they lie.
fn files_of(lab: &Lab, name: &str) -> Vec<PathBuf> {
    let mut files = files_below(&lab.site.objects());
    files.retain(|file| file.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}."))));
    files
}

fn remove_files_of(lab: &Lab, name: &str) {
    for file in files_of(lab, name) {
        fs::remove_file(file).expect("removes");
    }
}

/// Whether it is the newest version of `name` that lies in the store: the exit code, and the words.
fn checked(lab: &Lab, name: &str) -> (Option<i32>, String) {
    let output = lab.cli(["objects", "--class", "records", "--name", name, "--check"]);
    (output.status.code(), said(&output))
}

/// Has the index of `records` made again: whether that went well, and what it says it did.
fn rebuilt(lab: &Lab) -> (bool, String) {
    let output = lab.cli(["catalog", "rebuild", "--class", "records"]);
    (output.status.success(), said(&output))
}

/// All that a command has said.
fn said(output: &Output) -> String {
    let words = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&words).trim_end().to_owned()
}
