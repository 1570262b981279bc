//! Every file of the fuzzer's corpus, through what the fuzzer runs.

use std::{fs, path::Path};

use crate::{
    independent::{self, spec},
    replay,
    support::{plaintext, seal},
    vectors::writing,
};

fn write(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory");
    let file = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).expect("written");
    for (len, frame_length) in
        [(0, 16), (1, 16), (15, 16), (16, 16), (17, 16), (59, 16), (3, 1), (300, 100), (5, 65_536)]
    {
        file(&format!("whole-{len}-in-{frame_length}"), &seal(&plaintext(len), frame_length));
    }
    let full = independent::seal(&spec(16, true), &plaintext(48));
    let message = independent::seal(&spec(16, false), &plaintext(59));
    let head = message.len() - 3 * 48 - 51;
    file("whole-full-final", &full);
    file("whole-stranger", &message);
    file(
        "key-another",
        &independent::seal(&independent::Spec { data_key: [8; 32], ..spec(16, false) }, &plaintext(59)),
    );
    for (name, at) in [
        ("version", 0),
        ("suite", 2),
        ("id", 20),
        ("context-length", 36),
        ("context-count", 38),
        ("context-key", 42),
        ("frame-length", head - 49),
        ("commitment", head - 20),
        ("header-tag", head - 1),
        ("frame-sequence", head + 3),
        ("frame-iv", head + 15),
        ("frame-bytes", head + 20),
        ("frame-tag", head + 47),
        ("final-mark", head + 144),
        ("final-length", head + 167),
        ("final-tag", message.len() - 1),
    ] {
        let mut changed = message.clone();
        changed[at] ^= 1;
        file(&format!("flip-{name}"), &changed);
    }
    for (name, at) in [
        ("header", head - 1),
        ("no-body", head),
        ("boundary", head + 96),
        ("arithmetic", head + 88),
        ("final", message.len() - 1),
    ] {
        file(&format!("cut-{name}"), &message[..at]);
    }
    file("more-byte", &[&message[..], &[0]].concat());
    file("more-message", &[&message[..], &message].concat());
    file(
        "frames-swapped",
        &[&message[..head], &message[head + 48..head + 96], &message[head..head + 48], &message[head + 96..]].concat(),
    );
    file("frames-double", &[&message[..head + 48], &message[head..]].concat());
    file("random-short", &plaintext(7));
    file("random-long", &plaintext(1000));
    file("random-head", &[&[2, 4, 0x78][..], &plaintext(400)].concat());
    file(
        "random-empty-context",
        &[&[2, 4, 0x78][..], &[9; 32], &[0, 0, 0, 1], &[0; 6], &[2, 0, 0, 0, 16], &[5; 200]].concat(),
    );
    file("huge-count", &[&[2, 4, 0x78][..], &[9; 32], &[0, 0, 0xFF, 0xFF]].concat());
}

#[test]
fn the_fuzzers_corpus_breaks_no_promise() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/message");
    if writing() {
        write(&directory);
    }
    let mut seen = 0;
    for entry in fs::read_dir(&directory).expect("the corpus") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let opened = replay::message(&fs::read(&path).expect("readable"));
        // What the fuzzer added has no such name, and may open or not.
        if name.contains('-') {
            assert_eq!(opened, name.starts_with("whole-"), "{name}");
        }
        seen += 1;
    }
    assert!(seen >= 30, "{seen} files are too few");
}

#[test]
fn every_small_change_breaks_no_promise() {
    let message = independent::seal(&spec(16, false), &plaintext(40));
    assert!(replay::message(&message));
    for at in 0..message.len() {
        for flip in [1, 0x80, 0xFF] {
            let mut changed = message.clone();
            changed[at] ^= flip;
            assert!(!replay::message(&changed), "byte {at}");
        }
        assert!(!replay::message(&message[..at]), "cut at {at}");
    }
}
