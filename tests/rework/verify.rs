//! `verify`: every bad object found, every good one read to its end.

use std::fs;

use crate::{messages, pattern, run, snapshot, support::Site};

#[test]
fn a_damaged_a_truncated_and_a_foreign_object_are_found() {
    let site = Site::new();
    let server = site.serve("", "");
    for key in ["good", "damaged", "truncated", "moved", "in/good"] {
        site.put(&server, key, &pattern(2_000_000));
    }
    server.stop();
    let path = |name: &str| site.objects().join(format!("{name}.sealed"));
    assert_eq!(messages(&site).len(), 5);
    let clean = run(&site, "verify", &[]);
    assert_eq!(clean.ended(0), "class records: 5 whole, 0 skipped, 0 failed, 10000000 bytes");
    assert_eq!(clean.out.lines().count(), 1);

    // In the last frame, where only reading to the end finds it.
    let mut bytes = fs::read(path("damaged")).expect("reads");
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(path("damaged"), &bytes).expect("writes");
    let bytes = fs::read(path("truncated")).expect("reads");
    fs::write(path("truncated"), &bytes[..bytes.len() - 262_176]).expect("writes");
    fs::write(path("foreign"), b"not a message at all").expect("writes");
    fs::write(path("nothing"), b"").expect("writes");
    let sidecar = |name: &str| {
        let mut files = snapshot(&site).into_iter().map(|(path, _)| path);
        files.find(|path| {
            path.file_name().is_some_and(|file| {
                let file = file.to_string_lossy();
                file.starts_with(&format!("{name}.")) && file.ends_with(".meta")
            })
        })
    };
    let meta = sidecar("moved").expect("a sidecar");
    fs::rename(path("moved"), path("renamed")).expect("renames");
    fs::rename(
        &meta,
        meta.with_file_name(meta.file_name().expect("a name").to_string_lossy().replace("moved", "renamed")),
    )
    .expect("renames");

    let before = snapshot(&site);
    let found = run(&site, "verify", &["--jobs", "2"]);
    assert_eq!(found.ended(1), "class records: 2 whole, 0 skipped, 5 failed, 4000000 bytes", "{}", found.out);
    let reason = |name: &str| {
        let line = found.out.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name} isn't reported:\n{}", found.out)).split(':').next().expect("a word")
    };
    assert_eq!(reason("damaged"), "frame");
    assert!(["length", "frame"].contains(&reason("truncated")));
    assert_eq!(reason("foreign"), "foreign");
    assert_eq!(reason("renamed"), "message_id");
    reason("nothing");
    assert!(found.words.contains("5 objects failed"), "{}", found.words);
    assert!(snapshot(&site) == before, "verifying writes nothing");
}

#[test]
fn names_are_reported_as_the_log_may_have_them() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "private-name", b"x");
    server.stop();
    fs::write(site.objects().join("private-name.sealed"), b"not a message at all").expect("writes");
    let config = Site::config("", "").replace("level = \"debug\"", "level = \"warn\"\nobject_keys = \"hashed\"");
    fs::write(site.path("rework.toml"), config).expect("writes");
    let found = run(&site, "verify", &[]);
    found.ended(1);
    assert!(
        !found.out.contains("private-name") && !found.words.contains("private-name"),
        "{}{}",
        found.out,
        found.words
    );
    assert!(found.out.lines().next().is_some_and(|line| line.as_bytes()[16] == b':'), "{}", found.out);
}
