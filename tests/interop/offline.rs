//! `sealward seal`, `open` and `inspect`, against the SDK, its command line and the
//! second reader.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    peers::{Batch, below, cli, inspect, keyring, ours, same},
    support::{pattern, sealward},
};

/// Plaintext bytes, frame length, and the encryption context.
type Case = (usize, u32, &'static [(&'static str, &'static str)]);

/// None, less than a frame, whole frames only, and some more; contexts of every kind.
const CASES: [Case; 12] = [
    (0, 4096, &[]),
    (1, 4096, &[("purpose", "interop")]),
    (4095, 4096, &[]),
    (4096, 4096, &[]),
    (4097, 4096, &[("a", ""), ("é", "naïve café"), ("鍵", "値 = with spaces")]),
    (3 * 4096, 4096, &[("z", "1"), ("a", "2"), ("m", "3")]),
    (100_000, 8192, &[]),
    (0, 1, &[]),
    (37, 1, &[]),
    (512 << 10, 256 << 10, &[("exact", "multiple")]),
    (600_000, 256 << 10, &[]),
    (5, 4 << 20, &[]),
];

/// A folder with the plaintext of every case.
struct Desk {
    folder: TempDir,
    primary: String,
    second: String,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (number, (length, ..)) in CASES.iter().enumerate() {
            fs::write(folder.path().join(format!("{number}.plain")), pattern(*length)).expect("writes");
        }
        // Our seal counts its wraps beside the keyring: not in the fixtures' folder.
        let copy = |name: &str| {
            let to: PathBuf = folder.path().join(format!("{name}.json"));
            fs::copy(keyring(name), &to).expect("copies");
            to.to_str().expect("text").to_owned()
        };
        let (primary, second) = (copy("primary"), copy("second"));
        Self { folder, primary, second }
    }

    fn path(&self, name: impl AsRef<std::path::Path>) -> String {
        below(self.folder.path(), name)
    }

    /// Seals a case by `sealward seal`.
    fn seal(&self, number: usize) -> String {
        let (_, frame, context) = CASES[number];
        let (plain, sealed) = (self.path(format!("{number}.plain")), self.path(format!("{number}.ours")));
        let pairs: Vec<String> = context.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let frame = frame.to_string();
        let mut args = vec!["seal", "--keyring", &self.primary, "--frame-length", &frame, "-o", &sealed];
        args.extend(pairs.iter().flat_map(|pair| ["--context", pair]));
        args.push(&plain);
        ours(&args);
        sealed
    }
}

fn context(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
}

/// What both tell of the same message must be the same.
fn agrees(file: &str, read: &Value) {
    let told = inspect(file);
    for field in
        ["suite", "message_id", "encryption_context", "data_keys", "frame_length", "header_length", "plaintext_length"]
    {
        assert_eq!(told[field], read[field], "{field} of {file}");
    }
    assert_eq!(told["sealed_length"], fs::metadata(file).expect("is there").len());
}

#[test]
fn what_we_seal_the_sdk_and_the_second_reader_open() {
    let desk = Desk::new();
    let (mut sdk, mut reader) = (Batch::sdk(), Batch::reader());
    for (number, (_, _, pairs)) in CASES.iter().enumerate() {
        let sealed = desk.seal(number);
        let out = |who: &str| desk.path(format!("{number}.{who}"));
        sdk.add(json!({ "op": "open", "keyrings": [desk.primary], "context": context(pairs), "in": sealed, "out": out("sdk") }));
        reader.add(json!({ "op": "open", "keyrings": [desk.primary], "in": sealed, "out": out("reader") }));
    }
    let (sdk, reader) = (sdk.run(), reader.run());
    for (number, (length, frame, pairs)) in CASES.iter().enumerate() {
        let told = sdk.good(number);
        assert_eq!(told["suite"], "0x0478");
        assert_eq!(told["frame_length"], *frame);
        assert_eq!(told["context"], context(pairs), "case {number}");
        assert_eq!(told["length"], *length);
        for who in ["sdk", "reader"] {
            same(&desk.path(format!("{number}.{who}")), &desk.path(format!("{number}.plain")));
        }
        agrees(&desk.path(format!("{number}.ours")), reader.good(number));
    }
}

#[test]
fn what_we_seal_the_command_line_opens() {
    let desk = Desk::new();
    // Empty, a context, and whole frames only: it refuses a full final frame.
    for number in [0, 5, 9] {
        let (sealed, opened) = (desk.seal(number), desk.path(format!("{number}.cli")));
        let pairs: Vec<String> = CASES[number].2.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut args = vec!["open", "--keyring", &desk.primary];
        args.extend(pairs.iter().flat_map(|pair| ["--context", pair]));
        args.extend([sealed.as_str(), &opened]);
        cli(&args);
        same(&opened, &desk.path(format!("{number}.plain")));
    }
}

#[test]
fn what_the_sdk_seals_we_open() {
    let desk = Desk::new();
    let (mut sdk, mut reader) = (Batch::sdk(), Batch::reader());
    // The SDK writes no frame that isn't a multiple of 128 bytes.
    let theirs = |case: &Case| (case.0, case.1.next_multiple_of(128), case.2);
    for (number, (_, frame, pairs)) in CASES.iter().map(theirs).enumerate() {
        // Every other one under two data keys.
        let keyrings = if number % 2 == 0 { vec![&desk.primary] } else { vec![&desk.primary, &desk.second] };
        let (plain, sealed) = (desk.path(format!("{number}.plain")), desk.path(format!("{number}.theirs")));
        sdk.add(json!({
            "op": "seal", "keyrings": keyrings, "frame_length": frame, "context": context(pairs), "in": plain, "out": sealed,
        }));
        reader.add(json!({ "op": "inspect", "in": sealed }));
    }
    let (sdk, reader) = (sdk.run(), reader.run());
    for number in 0..CASES.len() {
        assert_eq!(sdk.good(number)["suite"], "0x0478");
        let (plain, sealed) = (desk.path(format!("{number}.plain")), desk.path(format!("{number}.theirs")));
        let rings = if number % 2 == 0 { vec![&desk.primary] } else { vec![&desk.primary, &desk.second] };
        for ring in rings {
            let opened = desk.path(format!("{number}.opened"));
            ours(&["open", "--keyring", ring, "-o", &opened, &sealed]);
            same(&opened, &plain);
        }
        agrees(&sealed, reader.good(number));
    }
    // Nor does it open under a key that it wasn't sealed under.
    let (sealed, out) = (desk.path("0.theirs"), desk.path("never"));
    let refused = sealward().args(["open", "--keyring", &desk.second, "-o", &out, &sealed]).output().expect("starts");
    assert_eq!(refused.status.code(), Some(1));
    assert!(!fs::exists(&out).expect("looks"), "nothing is left behind");
}

#[test]
fn what_the_command_line_seals_we_open() {
    let desk = Desk::new();
    for number in [0, 3, 1] {
        let (plain, sealed) = (desk.path(format!("{number}.plain")), desk.path(format!("{number}.cli")));
        let mut args = vec!["seal", "--keyring", &desk.primary];
        if number == 1 {
            args.extend(["--keyring", &desk.second, "--frame-length", "128", "--context", "purpose=interop"]);
        }
        args.extend([plain.as_str(), &sealed]);
        cli(&args);
        let ring = if number == 1 { &desk.second } else { &desk.primary };
        let opened = desk.path(format!("{number}.opened"));
        ours(&["open", "--keyring", ring, "-o", &opened, &sealed]);
        same(&opened, &plain);
        let context = inspect(&sealed)["encryption_context"].clone();
        assert_eq!(context, if number == 1 { json!({ "purpose": "interop" }) } else { json!({}) });
    }
}

#[test]
fn a_suite_that_is_not_read_is_refused_by_its_name() {
    let desk = Desk::new();
    let suites = [("0x0578", "ECDSA"), ("0x0178", "version 1"), ("0x0378", "version 1")];
    let mut sdk = Batch::sdk();
    for (suite, _) in suites {
        sdk.add(json!({
            "op": "seal", "keyrings": [desk.primary], "suite": suite, "in": desk.path("2.plain"), "out": desk.path(suite),
        }));
    }
    let sdk = sdk.run();
    for (number, (suite, words)) in suites.iter().enumerate() {
        assert_eq!(sdk.good(number)["suite"], *suite);
        let (sealed, out) = (desk.path(suite), desk.path("never"));
        for args in [&["open", "--keyring", &desk.primary, "-o", &out, &sealed][..], &["inspect", &sealed]] {
            let refused = sealward().args(args).output().expect("starts");
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{said}");
            assert!(said.contains(words) && said.contains("0x0478"), "{said}");
            assert!(said.contains(suite) || *words == "version 1", "{said}");
        }
        assert!(!fs::exists(&out).expect("looks"), "nothing is left behind");
    }
}
