//! What Sealwards tell each other through a catalogue: uploads that are under way, what an alias
//! has stood for, and whose the work in the background is.

use std::{path::PathBuf, process::Command};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::{
    client::Raw,
    engines::Engine,
    site::Lab,
    standin::{moto, text, under_keyring, under_kms},
    support::{eventually, pattern},
};

/// Nothing but what the tests do themselves: no canary comes and goes beside it.
const RECORDS: &str = "prefix = \"records/\"\ncanary = \"off\"";
const EXCLUSIVE: &str = "exclusive = true";
const ABORTED: &str = "sealward_orphans_aborted_total";

/// Another program's upload below the same prefix is none of ours, however old it is.
#[test]
fn only_uploads_that_were_written_down_are_swept() {
    let bucket = moto().bucket("swept");
    let (mut lab, file) = known_to_its_database(&bucket);
    let engine = Engine::File(&file);
    let ours = begun(&bucket, "records/ours");
    begun(&bucket, "records/theirs");
    written_down(&engine, "records", "ours", &ours);
    assert_eq!(moto().uploads(&bucket), json!(["records/ours", "records/theirs"]));

    lab = lab.class(EXCLUSIVE);
    lab.start();
    eventually("one is swept", || lab.count(ABORTED, &[("class", "records")]) == 1);
    assert_eq!(moto().uploads(&bucket), json!(["records/theirs"]));
    assert_eq!(engine.sql("SELECT count(*) FROM uploads"), "0");
}

#[test]
fn an_upload_in_parts_is_written_down_while_it_goes_on() {
    // Three parts, of which one is full long before the client is held.
    const WHOLE: usize = 20 << 20;
    const SENT: usize = 12 << 20;
    let bucket = moto().bucket("under-way");
    let site = moto().site();
    let file = site.path("catalog.db");
    let engine = Engine::File(&file);
    let lab = Lab::of(site, &under_keyring(&bucket, RECORDS), &engine.catalog()).started();
    let bytes = pattern(WHOLE);
    for (name, finishes) in [("finished", true), ("left", false)] {
        let mut client = Raw::new(&lab.site, lab.server());
        client.head(&format!("PUT /files/{name}"), &format!("Content-Length: {WHOLE}\r\n"));
        client.send(&bytes[..SENT]);
        let rows = || engine.sql("SELECT id, class, name, upload FROM uploads");
        eventually("it is written down", || !rows().is_empty());
        let row = rows();
        let [id, class, noted, upload] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("one row: {row}") };
        assert_eq!((id, class, noted), (row_id("records", upload).as_str(), "records", name));
        assert_eq!(moto().uploads(&bucket), json!([format!("records/{name}")]));

        if finishes {
            client.send(&bytes[SENT..]);
            assert_eq!(client.answer().status, 201);
            // Who is answered finds it over.
            assert_eq!(rows(), "");
        } else {
            drop(client);
            eventually("it is over", || rows().is_empty());
        }
        assert_eq!(moto().uploads(&bucket), json!([]), "{name}");
    }
    assert!(lab.get("finished").body == bytes, "other bytes");
    assert_eq!(lab.get("left").status, 404);
}

/// What an alias stood for may open still, and needs no list.
#[test]
fn an_alias_that_is_moved_orphans_nothing() {
    const ALIAS: &str = "alias/moved-with-a-catalogue";
    let (aws, bucket) = (moto(), moto().bucket("moved"));
    let (first, second) = (aws.key(), aws.key());
    aws.alias(ALIAS, &first);
    let site = aws.site();
    let file = site.path("catalog.db");
    let catalog = Engine::File(&file).catalog();
    let mut lab = Lab::of(site, &under_kms(&bucket, ALIAS, "canary = \"off\""), &catalog).started();
    lab.put("old", b"under the first");
    aws.alias(ALIAS, &second);
    // It knows its data keys no more.
    lab.restart();
    assert_eq!(lab.get("old").text(), "under the first");
    lab.put("new", b"under the second");
    assert_eq!(lab.get("new").text(), "under the second");
    for (key, name) in [(&first, "old"), (&second, "new")] {
        let names: Vec<_> = lab.objects(&["--key", key]).iter().map(|object| text(&object["name"])).collect();
        assert_eq!(names, [name], "{key}");
    }
    lab.kill();

    let lab = lab.with(&format!("[catalog]\n{catalog}"), "");
    let output = lab.cli(["check"]);
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("`read_keys` doesn't say which keys may open"), "{words}");
}

#[test]
fn background_work_is_one_replicas() {
    let bucket = moto().bucket("leased");
    let (mut lab, file) = known_to_its_database(&bucket);
    let engine = Engine::File(&file);
    for class in ["records", "letters"] {
        let upload = begun(&bucket, &format!("{class}/left"));
        written_down(&engine, class, "left", &upload);
    }
    // Until the year 3000.
    engine.sql("INSERT INTO leases (name, holder, until) VALUES ('orphans records', 'another', 32503680000000000)");
    let letters = format!(
        r#"
[[class]]
name = "letters"
bucket = "{bucket}"
prefix = "letters/"
require_sse_kms = false
canary = "off"
{EXCLUSIVE}
[[route]]
path = "/letters/"
seal = {{ class = "letters" }}
"#
    );
    lab = lab.class(EXCLUSIVE).rest(&letters);
    lab.start();
    let aborted = |lab: &Lab, class: &str| lab.count(ABORTED, &[("class", class)]);
    // Both are looked at together, and this one takes requests to the bucket.
    eventually("what is nobody's is swept", || aborted(&lab, "letters") == 1);
    for name in ["a", "b"] {
        lab.put(name, b"meanwhile");
        assert_eq!(lab.get(name).text(), "meanwhile");
    }
    assert_eq!(moto().uploads(&bucket), json!(["records/left"]));
    assert_eq!(engine.sql("SELECT class FROM uploads"), "records");
    assert_eq!(aborted(&lab, "records"), 0);
    let told = |line: &str, class: &str| {
        line.contains("uploads left unfinished were aborted") && line.contains(&format!("\"class\":\"{class}\""))
    };
    lab.server().wait_for_line(|line| told(line, "letters"));
    let log = lab.server().log();
    assert!(!log.lines().any(|line| told(line, "records")), "{log}");
    let holder = || engine.sql("SELECT holder FROM leases WHERE name = 'orphans records'");
    assert_eq!(holder(), "another");

    lab.kill();
    engine.sql("UPDATE leases SET until = 1 WHERE name = 'orphans records'");
    lab.start();
    eventually("what is nobody's any more is swept", || aborted(&lab, "records") == 1);
    assert_eq!(moto().uploads(&bucket), json!([]));
    assert_eq!(engine.sql("SELECT count(*) FROM uploads"), "0");
    assert_ne!(holder(), "another");
}

/// A class in `bucket` that has run, so that its database has a schema, and nobody has a lease: it
/// isn't exclusive yet. With it, where that database is.
fn known_to_its_database(bucket: &str) -> (Lab, PathBuf) {
    let site = moto().site();
    let file = site.path("catalog.db");
    let catalog = Engine::File(&file).catalog();
    let mut lab = Lab::of(site, &under_keyring(bucket, RECORDS), &catalog).started();
    lab.kill();
    (lab, file)
}

/// Begins an upload of `name` beside every Sealward, and gives its id. moto asks nobody for a signature.
fn begun(bucket: &str, name: &str) -> String {
    let url = format!("{}/{bucket}/{name}?uploads", moto().endpoint);
    let mut curl = Command::new("curl");
    let output = curl.args(["--disable", "-sS", "--max-time", "60", "-X", "POST", &url]).output().expect("curl");
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = answer.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>"));
    id.unwrap_or_else(|| panic!("no upload: {answer}")).0.to_owned()
}

/// Has the catalogue know of `upload`, as if it had begun in 1970.
fn written_down(engine: &Engine<'_>, class: &str, name: &str, upload: &str) {
    let id = row_id(class, upload);
    engine.sql(&format!(
        "INSERT INTO uploads (id, class, name, upload, since) VALUES ('{id}', '{class}', '{name}', '{upload}', 0)"
    ));
}

fn row_id(class: &str, upload: &str) -> String {
    let hash = digest(&SHA256, format!("{class}\0{upload}").as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
