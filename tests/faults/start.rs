//! What keeps it from starting: each with the place, a mend, and an exit code, and never a panic.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Output, Stdio},
};

use crate::support::{Site, sealward};

fn serve(path: &Path) -> Output {
    sealward().arg("serve").arg("--config").arg(path).stdin(Stdio::null()).output().expect("runs")
}

/// What a start that must fail says, in words; `spoil` changes the site or the configuration's text.
fn refused(code: i32, spoil: impl FnOnce(&Site, &mut String)) -> String {
    let site = Site::new();
    let mut text = Site::config("", "").replace("level = \"debug\"", "level = \"error\"");
    spoil(&site, &mut text);
    let path = site.path("sealward.toml");
    fs::write(&path, text).expect("writes");
    let output = serve(&path);
    let words = String::from_utf8(output.stderr).expect("is text");
    assert_eq!(output.status.code(), Some(code), "{words}");
    assert!(output.stdout.is_empty() && words.starts_with("error"), "{words}");
    assert!(!words.contains("panicked"), "{words}");
    words
}

fn write(site: &Site, name: &str, content: &str) {
    fs::write(site.path(name), content).expect("writes");
}

fn remove(site: &Site, name: &str) {
    fs::remove_file(site.path(name)).expect("removes");
}

/// A spoiled start, its exit code, and what its words must name: the place, then the mend.
type Case = (&'static str, i32, fn(&Site, &mut String), &'static [&'static str]);

const CASES: &[Case] = &[
    ("no keyring", 1, |site, _| remove(site, "keyring.json"), &["keyring.json", "no such file", "32 random bytes"]),
    ("a keyring that is none", 1, |site, _| write(site, "keyring.json", "{}"), &["keyring.json", "wrapping_key"]),
    (
        "a key that is too short",
        1,
        |site, _| write(site, "keyring.json", r#"{"namespace":"n","name":"k","wrapping_key":"AAAA"}"#),
        &["keyring.json", "`k`", "base64 of 32 bytes"],
    ),
    (
        "a key that isn't in the ring",
        1,
        |_, text| *text = text.replace("directory =", "write_key = \"other\"\ndirectory ="),
        &["class `records`", "no key `other`", "it has: test/key-1"],
    ),
    (
        "tokens without their key",
        1,
        |site, _| remove(site, "tokens.json.key"),
        &["tokens.json.key", "sealward token new"],
    ),
    ("tokens that are none", 1, |site, _| write(site, "tokens.json", "[1"), &["tokens.json", "line 1"]),
    ("no certificate", 1, |site, _| remove(site, "tls/cert.pem"), &["listener 127.0.0.1:0", "tls/cert.pem"]),
    ("a certificate that is none", 1, |site, _| write(site, "tls/cert.pem", "x"), &["tls/cert.pem", "pem"]),
    ("no key of the certificate", 1, |site, _| remove(site, "tls/key.pem"), &["tls/key.pem"]),
    (
        "the key of another certificate",
        1,
        |site, _| {
            let other = Site::new();
            fs::copy(other.path("tls/key.pem"), site.path("tls/key.pem")).expect("copies");
        },
        &["tls/key.pem", "another certificate", "replace both"],
    ),
    (
        "a file in place of the folder",
        1,
        |site, _| write(site, "objects", "not a folder"),
        &["class `records`", "objects", "choose another folder"],
    ),
    (
        "a file in place of the store's own folder",
        1,
        |site, _| {
            fs::create_dir(site.objects()).expect("makes");
            write(site, "objects/.sealward", "not a folder");
        },
        &["class `records`", "objects/.sealward", "choose another folder"],
    ),
    (
        "an address that isn't ours",
        1,
        |_, text| *text = text.replacen("bind = \"127.0.0.1:0\"", "bind = \"192.0.2.1:0\"", 1),
        &["listener", "192.0.2.1:0", "no such address", "choose another `bind`"],
    ),
    (
        "a file with a fault",
        2,
        |_, text| text.push_str("[limits]\nuplods = 2\n"),
        &["uplods", "uploads", "sealward.toml:"],
    ),
    ("a file that isn't TOML", 2, |_, text| text.push_str("[limits\n"), &["sealward.toml:"]),
    ("no log of that kind", 2, |_, text| *text = text.replace("\"error\"", "\"loud\""), &["loud", "level"]),
];

#[test]
fn each_failure_names_its_place_and_its_mend() {
    let mut wrong = Vec::new();
    for (what, code, spoil, wanted) in CASES {
        let words = refused(*code, spoil);
        let missing: Vec<_> =
            wanted.iter().filter(|wanted| !words.to_lowercase().contains(&wanted.to_lowercase())).collect();
        if !missing.is_empty() {
            wrong.push(format!("{what}: says nothing of {missing:?}:\n{words}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_at_all() {
    let output = serve(Path::new("nowhere/sealward.toml"));
    let words = String::from_utf8(output.stderr).expect("is text");
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("nowhere/sealward.toml"), "{words}");
}

#[test]
fn a_port_in_use() {
    for (part, nth) in [("listener", 0), ("admin", 1)] {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address").to_string();
        let words = refused(1, |_, text| {
            let at = text.match_indices("127.0.0.1:0").nth(nth).expect("two addresses").0;
            text.replace_range(at..at + "127.0.0.1:0".len(), &address);
        });
        for wanted in [part, &address, "in use", "choose another `bind`"] {
            assert!(words.contains(wanted), "{wanted}: {words}");
        }
    }
}

#[test]
fn a_folder_that_another_holds() {
    let site = Site::new();
    let server = site.serve("", "");
    let objects = site.objects().canonicalize().expect("is there");
    let words = refused(1, |_, text| {
        *text = text.replace("directory = \"objects\"", &format!("directory = \"{}\"", objects.display()));
    });
    for wanted in ["class `records`", "another Sealward holds", &objects.display().to_string(), "stop it"] {
        assert!(words.contains(wanted), "{wanted}: {words}");
    }
    assert_eq!(site.put(&server, "still", b"served").status, 201);
    server.kill();
    assert_eq!(site.get(&site.serve("", ""), "still").body, b"served", "a killed one holds it no more");
}

#[test]
fn objects_that_another_keyring_sealed_are_refused_and_kept() {
    let site = Site::new();
    site.put(&site.serve("", ""), "old", b"sealed under the first key");
    fs::rename(site.path("keyring.json"), site.path("first.json")).expect("moves");
    sealward::keys::local::Keyring::create(&site.path("keyring.json"), "test", "key-2").expect("a keyring");
    let server = site.serve("", "");
    assert_eq!(site.get(&server, "old").status, 502);
    drop(server);
    fs::rename(site.path("first.json"), site.path("keyring.json")).expect("moves");
    assert_eq!(site.get(&site.serve("", ""), "old").body, b"sealed under the first key");
}
