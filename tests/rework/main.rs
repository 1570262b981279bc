//! `reencrypt`, `verify` and `adopt`: a whole class gone over by the real binary.

#[allow(unreachable_pub)] // shared with binaries that name it otherwise
#[path = "../support/mod.rs"]
mod support;

mod adopt;
mod reencrypt;
mod verify;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use sealward::keys::local::Keyring;
use serde_json::Value;
use support::{Sealward, Site, eventually, files_below, pattern, sealward};

/// What one run came to.
struct Ran {
    code: i32,
    out: String,
    words: String,
}

impl Ran {
    /// Its last line, where it exited with `code`.
    fn ended(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}{}", self.out, self.words);
        self.out.lines().last().unwrap_or_default()
    }
}

/// Runs `verb` on the class `records` of the site.
fn run(site: &Site, verb: &str, more: &[&str]) -> Ran {
    ran(begin(site, verb, more))
}

fn begin(site: &Site, verb: &str, more: &[&str]) -> Child {
    let config = site.path("rework.toml");
    if !config.exists() {
        fs::write(&config, Site::config("", "").replace("level = \"debug\"", "level = \"warn\"")).expect("writes");
    }
    sealward()
        .args([verb, "--class", "records", "--config"])
        .arg(config)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn ran(child: Child) -> Ran {
    let output = child.wait_with_output().expect("ends");
    let text = |bytes| String::from_utf8(bytes).expect("is text");
    let ran = Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), words: text(output.stderr) };
    assert!(!ran.words.contains("panicked"), "{}", ran.words);
    assert!(!ran.words.contains('\r') && !ran.words.contains('\u{1b}'), "a bar in a pipe: {}", ran.words);
    ran
}

/// Puts a new key first in the keyring; the old ones stay behind it.
fn rotate(site: &Site, name: &str) {
    let fresh = site.path("fresh.json");
    Keyring::create(&fresh, "test", name).expect("a keyring");
    let mut keys = vec![json(&fresh)];
    fs::remove_file(&fresh).expect("removes");
    match json(&site.path("keyring.json")) {
        Value::Array(old) => keys.extend(old),
        old => keys.push(old),
    }
    write_keys(site, &keys);
}

/// Leaves only the keyring's first key.
fn drop_old_keys(site: &Site) {
    let Value::Array(keys) = json(&site.path("keyring.json")) else { panic!("a list") };
    write_keys(site, &keys[..1]);
}

fn write_keys(site: &Site, keys: &[Value]) {
    fs::write(site.path("keyring.json"), serde_json::to_vec(keys).expect("is JSON")).expect("writes");
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("reads")).expect("is JSON")
}

/// The messages of the class, as they lie.
fn messages(site: &Site) -> Vec<PathBuf> {
    let mut files = files_below(&site.objects());
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sealed"));
    files
}

/// How many of them are sealed under the key `name`.
fn under(site: &Site, name: &str) -> usize {
    let named = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes[..bytes.len().min(512)].windows(name.len()).any(|window| window == name.as_bytes())
    };
    messages(site).iter().filter(|path| named(path)).count()
}

/// Every file below the store, with its bytes.
fn snapshot(site: &Site) -> Vec<(PathBuf, Vec<u8>)> {
    files_below(&site.objects()).into_iter().map(|path| (path.clone(), fs::read(&path).expect("reads"))).collect()
}

fn expect(site: &Site, server: &Sealward, key: &str, bytes: &[u8]) {
    let answer = site.get(server, key);
    assert_eq!((answer.status, answer.exit), (200, 0), "{key}: {answer:?}");
    assert!(answer.body == bytes, "{key}");
}
