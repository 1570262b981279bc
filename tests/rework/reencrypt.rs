//! `reencrypt`: another key, and nothing else changed.

use crate::{
    begin, drop_old_keys, eventually, expect, messages, pattern, ran, rotate, run, snapshot,
    support::{Answer, Site},
    under,
};

const SIZES: [(&str, usize); 5] =
    [("empty", 0), ("one", 1), ("in/a frame", 262_144), ("in/frames", 700_001), ("in/deep/parts", 3_500_000)];

#[test]
fn every_object_moves_to_the_new_key_and_the_old_one_may_go() {
    let site = Site::new();
    let server = site.serve("", "");
    for (key, length) in SIZES {
        site.put(&server, &key.replace(' ', "%20"), &pattern(length));
    }
    let file = site.path("upload.tmp");
    std::fs::write(&file, b"labelled").expect("writes");
    let labels = ["-H", "content-type: text/x-special", "-H", "x-amz-meta-owner: me", "-T"];
    let args = labels.iter().map(std::ffi::OsString::from).chain([file.into(), server.url("labelled").into()]);
    assert_eq!(site.curl(args).status, 201);
    server.stop();

    rotate(&site, "key-2");
    let before = snapshot(&site);
    let line = run(&site, "reencrypt", &["--dry-run"]);
    let bytes: usize = SIZES.iter().map(|(_, length)| length).sum::<usize>() + 8;
    assert_eq!(
        line.ended(0),
        format!("class records: 6 would be sealed anew, 0 skipped, 0 failed, {bytes} bytes"),
        "{}",
        line.words
    );
    assert!(snapshot(&site) == before, "a dry run changes nothing");

    let line = run(&site, "reencrypt", &["--jobs", "2"]);
    assert_eq!(line.ended(0), format!("class records: 6 sealed anew, 0 skipped, 0 failed, {bytes} bytes"));
    assert_eq!((under(&site, "key-1"), under(&site, "key-2")), (0, 6));
    let ids = |snapshot: &[(std::path::PathBuf, Vec<u8>)]| -> Vec<Vec<u8>> {
        let messages = snapshot.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "sealed"));
        messages.map(|(_, bytes)| bytes[3..35].to_vec()).collect()
    };
    let (old, new) = (ids(&before), ids(&snapshot(&site)));
    assert!(old.len() == 6 && new.len() == 6 && new.iter().all(|id| !old.contains(id)), "each has a new message id");

    let after = snapshot(&site);
    let line = run(&site, "reencrypt", &[]);
    assert_eq!(line.ended(0), "class records: 0 sealed anew, 6 skipped, 0 failed, 0 bytes");
    assert!(snapshot(&site) == after, "what is done is passed over");

    drop_old_keys(&site);
    assert_eq!(
        run(&site, "verify", &[]).ended(0),
        format!("class records: 6 whole, 0 skipped, 0 failed, {bytes} bytes")
    );
    let server = site.serve("", "");
    for (key, length) in SIZES {
        expect(&site, &server, &key.replace(' ', "%20"), &pattern(length));
    }
    let answer: Answer = site.get(&server, "labelled");
    assert_eq!((answer.header("content-type"), answer.header("x-amz-meta-owner")), ("text/x-special", "me"));
}

#[test]
fn a_key_may_be_named_and_must_be_one_that_opens() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "a", b"a");
    server.stop();
    rotate(&site, "key-2");
    rotate(&site, "key-3");
    let line = run(&site, "reencrypt", &["--to-key", "key-2"]);
    assert_eq!(line.ended(0), "class records: 1 sealed anew, 0 skipped, 0 failed, 1 bytes");
    assert_eq!((under(&site, "key-2"), under(&site, "key-3")), (1, 0));
    let refused = run(&site, "reencrypt", &["--to-key", "key-9"]);
    refused.ended(1);
    assert!(refused.words.contains("key-9"), "{}", refused.words);
    run(&site, "reencrypt", &["--rate", "1B/s"]).ended(2);
}

/// Killed, told to stop, and begun again: each goes on where the last one ended.
#[test]
fn a_run_that_is_cut_short_is_ended_by_another() {
    const OBJECTS: usize = 40;
    let site = Site::new();
    let server = site.serve("", "");
    let bytes = pattern(300_000);
    for number in 0..OBJECTS {
        site.put(&server, &format!("o/{number:02}"), &bytes);
    }
    server.stop();
    rotate(&site, "key-2");

    let mut killed = begin(&site, "reencrypt", &["--rate", "1MiB/s", "--jobs", "3"]);
    eventually("some are done", || under(&site, "key-2") >= 5);
    killed.kill().expect("kills");
    killed.wait().expect("ends");
    let first = under(&site, "key-2");
    assert!(first < OBJECTS, "it was killed too late");

    let told = begin(&site, "reencrypt", &["--rate", "1MiB/s", "--jobs", "3"]);
    eventually("more are done", || under(&site, "key-2") >= first + 5);
    let status = std::process::Command::new("kill").args(["-INT", &told.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
    let told = ran(told);
    let line = told.ended(1);
    let second = under(&site, "key-2");
    assert!(line.starts_with(&format!("class records: {} sealed anew,", second - first)), "{line}");
    assert!(line.ends_with("until it was told to stop") && second < OBJECTS, "{line}");
    assert!(told.words.contains("run it again"), "{}", told.words);

    let last = run(&site, "reencrypt", &[]);
    let expected = format!("class records: {} sealed anew, {second} skipped, 0 failed,", OBJECTS - second);
    assert!(last.ended(0).starts_with(&expected), "{}", last.out);
    assert_eq!((under(&site, "key-2"), messages(&site).len()), (OBJECTS, OBJECTS));
    drop_old_keys(&site);
    assert!(run(&site, "verify", &[]).ended(0).starts_with(&format!("class records: {OBJECTS} whole, 0 skipped")));
}

#[test]
fn beside_a_server_on_the_same_folder_it_says_why_not() {
    let site = Site::new();
    let _server = site.serve("", "");
    for verb in ["reencrypt", "verify"] {
        let refused = run(&site, verb, &[]);
        refused.ended(1);
        assert!(refused.words.contains("another Sealward holds the store folder"), "{}", refused.words);
    }
}
