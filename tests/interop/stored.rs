//! What the server stores is the user's: the official tools open it with the
//! keyring file and nothing of ours.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    peers::{Batch, below, cli, inspect, same},
    support::{Sealward, Site, files_below, pattern},
};

/// A site with an object of each kind, uploaded by curl.
struct Stored {
    site: Site,
    _server: Sealward,
}

/// Key and plaintext bytes: none, less than a frame, whole frames only, and more parts than one.
const OBJECTS: [(&str, usize); 4] =
    [("empty", 0), ("a/small.pdf", 1000), ("even.bin", 3 * 4096), ("large.iso", 3_000_000)];

impl Stored {
    fn new(class: &str) -> Self {
        let site = Site::new();
        let server = site.serve(&format!("frame_length = \"4KiB\"\n{class}"), "");
        for (key, length) in OBJECTS {
            let file = site.path("plain").join(key);
            fs::create_dir_all(file.parent().expect("a folder")).expect("makes");
            fs::write(&file, pattern(length)).expect("writes");
            let answer = site.curl([
                "-T".as_ref(),
                file.as_os_str(),
                "-H".as_ref(),
                "Content-Type: application/pdf".as_ref(),
                "-H".as_ref(),
                "x-amz-meta-patient: Zoe-Kowalczyk".as_ref(),
                server.url(key).as_ref(),
            ]);
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        Self { site, _server: server }
    }

    fn path(&self, name: impl AsRef<std::path::Path>) -> String {
        below(self.site.folder.path(), name)
    }

    fn sealed(&self, key: &str) -> String {
        self.path(PathBuf::from("objects").join(format!("{key}.sealed")))
    }

    fn plain(&self, key: &str) -> String {
        self.path(PathBuf::from("plain").join(key))
    }

    /// What stands beside the object.
    fn sidecar(&self, key: &str) -> Value {
        let stem = format!("{}.", self.path(PathBuf::from("objects").join(key)));
        let is_its = |path: &PathBuf| {
            path.to_str().is_some_and(|text| text.starts_with(&stem))
                && path.extension().is_some_and(|end| end == "meta")
        };
        let path = files_below(&self.site.objects()).into_iter().find(is_its).expect("a sidecar");
        serde_json::from_slice(&fs::read(path).expect("reads")).expect("JSON")
    }
}

fn context(key: Option<&str>) -> Value {
    let mut context = json!({ "sealward-class": "records", "sealward-vault": "records", "sealward-meta": "sealed" });
    if let Some(key) = key {
        context["sealward-key"] = key.into();
    }
    context
}

#[test]
fn stored_objects_open_in_the_sdk_with_the_keyring_alone() {
    for (class, strict) in [("", false), ("binding = \"strict\"", true)] {
        let stored = Stored::new(class);
        let mut sdk = Batch::sdk();
        for (number, (key, _)) in OBJECTS.iter().enumerate() {
            let out = stored.path(format!("{number}.opened"));
            sdk.add(json!({
                "op": "open", "keyrings": [stored.path("keyring.json")], "in": stored.sealed(key), "out": out,
            }));
        }
        let sdk = sdk.run();
        for (number, (key, length)) in OBJECTS.iter().enumerate() {
            let told = sdk.good(number);
            assert_eq!(told["context"], context(strict.then_some(key)), "exactly these entries");
            assert_eq!((&told["suite"], &told["length"]), (&json!("0x0478"), &json!(length)));
            assert_eq!(told["frame_length"], 4096);
            same(&stored.path(format!("{number}.opened")), &stored.plain(key));
        }
    }
}

#[test]
fn stored_objects_open_in_the_command_line_with_the_keyring_alone() {
    let stored = Stored::new("");
    let ring = stored.path("keyring.json");
    for key in ["empty", "even.bin", "large.iso"] {
        let (sealed, opened) = (stored.sealed(key), stored.path("opened"));
        let entries = ["sealward-class=records", "sealward-vault=records", "sealward-meta=sealed"];
        let mut args = vec!["open", "--keyring", &ring];
        args.extend(entries.into_iter().flat_map(|entry| ["--context", entry]));
        args.extend([sealed.as_str(), &opened]);
        cli(&args);
        same(&opened, &stored.plain(key));
    }
}

#[test]
fn a_second_reader_finds_binding_and_metadata_as_the_format_says() {
    let stored = Stored::new("");
    let mut reader = Batch::reader();
    let bindings = |key: &str| {
        let own = json!(["records", "records", key]);
        let others = [["archive", "records", key], ["records", "archive", key], ["records", "records", "other"]];
        std::iter::once(own).chain(others.map(|other| json!(other)))
    };
    let mut jobs = Vec::new();
    for (key, _) in OBJECTS {
        let metadata = stored.sidecar(key)["entries"]["sealward-metadata"].clone();
        for binding in bindings(key) {
            jobs.push(reader.add(json!({
                "op": "open", "keyrings": [stored.path("keyring.json")], "in": stored.sealed(key),
                "binding": binding, "metadata": metadata,
            })));
        }
    }
    // Metadata of one beside the message of another.
    let (message, metadata) =
        (stored.sealed("empty"), stored.sidecar("even.bin")["entries"]["sealward-metadata"].clone());
    let astray = reader.add(json!({
        "op": "open", "keyrings": [stored.path("keyring.json")], "in": message, "metadata": metadata,
    }));
    let answers = reader.run();
    for ((key, length), jobs) in OBJECTS.iter().zip(jobs.chunks(4)) {
        let report = answers.good(jobs[0]);
        assert_eq!(report["plaintext_length"], *length);
        assert_eq!(report["encryption_context"], context(None));
        let described = json!({ "content-type": "application/pdf", "x-amz-meta-patient": "Zoe-Kowalczyk" });
        assert_eq!(report["metadata"], described, "sealed beside it, and nothing else");
        let told = inspect(&stored.sealed(key));
        for field in ["message_id", "encryption_context", "data_keys", "frame_length", "header_length"] {
            assert_eq!(told[field], report[field], "{field} of {key}");
        }
        for other in &jobs[1..] {
            assert!(answers.refused(*other).contains("bound to another object"), "{}", answers.refused(*other));
        }
    }
    assert!(answers.refused(astray).contains("the metadata does not verify"), "{}", answers.refused(astray));
}

#[test]
fn what_is_private_stands_nowhere_in_the_store() {
    let stored = Stored::new("");
    for path in files_below(&stored.site.objects()) {
        let bytes = fs::read(&path).expect("reads");
        for secret in [&b"Kowalczyk"[..], b"patient", b"application/pdf", &pattern(64)] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} in {}", secret.escape_ascii(), path.display());
        }
    }
}
