//! A running Sealward with classes of every kind, the store under it, and a forger
//! who has the library and whatever keys a row gives them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sealward::{
    keys::local::{COMMAND_BLOCK, Keyring},
    message::{Draft, EncryptionContext, FrameWriter, MessageId, Sealer},
    secret::Key256,
};
use serde_json::Value;

use crate::{
    object::Object,
    support::{Sealward, Site, pattern},
};

/// The classes: name, folder below the site, and their own lines.
const CLASSES: [(&str, &str, &str); 8] = [
    ("records", "records/", r#"frame_length = "4KiB""#),
    ("strict", "strict/", "frame_length = \"4KiB\"\nbinding = \"strict\""),
    ("plain", "plain/", "frame_length = \"4KiB\"\nmetadata = \"plain\""),
    ("shelf-a", "shelf/a/", "frame_length = \"4KiB\"\nprefix = \"a/\""),
    ("shelf-b", "shelf/b/", "frame_length = \"4KiB\"\nprefix = \"b/\""),
    ("novel", "novel/", "frame_length = \"4KiB\"\nread_names = [\"former\"]\nvault = \"novels\""),
    ("large", "large/", r#"frame_length = "256KiB""#),
    ("fine", "fine/", r#"frame_length = "4KiB""#),
];

/// Three frames of class `records` and a fourth that is the final one.
pub(crate) const LENGTH: usize = 3 * 4096 + 1000;

pub(crate) struct Lab {
    pub(crate) site: Site,
    pub(crate) server: Sealward,
}

/// What a forger decides of a message.
pub(crate) struct Forgery<'a> {
    /// Vault, class and key that the id is bound to.
    pub(crate) bound: (&'a str, &'a str, &'a str),
    pub(crate) context: Vec<(&'a str, &'a str)>,
    /// A keyring file of the site, and the key of it that wraps.
    pub(crate) ring: &'a str,
    pub(crate) wrapped_by: &'a str,
    pub(crate) metadata: Option<&'a str>,
    pub(crate) frame: u32,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let site = Site::new();
        keyrings(&site);
        let server = site.serve_text(&config());
        Self { site, server }
    }

    pub(crate) fn url(&self, class: &str, key: &str) -> String {
        format!("https://{}/{class}/{key}", self.server.https)
    }

    /// The object's path in the store, without its endings.
    pub(crate) fn stem(&self, class: &str, key: &str) -> PathBuf {
        let (_, folder, _) = CLASSES.iter().find(|(name, ..)| *name == class).expect("a class");
        self.site.path(folder).join(key)
    }

    /// Uploads `plaintext` as a user would.
    pub(crate) fn upload(&self, class: &str, key: &str, plaintext: &[u8]) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), plaintext).expect("writes");
        let url = self.url(class, key);
        let answer = self.site.curl(["-T".as_ref(), file.path().as_os_str(), url.as_ref()]);
        assert!(matches!(answer.status, 200 | 201), "PUT {key}: {answer:?}");
    }

    /// Uploads an object of `length` bytes and takes it out of the store.
    pub(crate) fn stored(&self, class: &str, key: &str, length: usize) -> Object {
        self.upload(class, key, &pattern(length));
        Object::take(&self.stem(class, key))
    }

    /// Another object of `class`, whose plaintext has nothing of the usual one.
    pub(crate) fn other(&self, class: &str, key: &str) -> Object {
        let plaintext: Vec<u8> = pattern(LENGTH).into_iter().map(|byte| !byte).collect();
        self.upload(class, key, &plaintext);
        Object::take(&self.stem(class, key))
    }

    /// Seals the usual plaintext as `forgery` says.
    pub(crate) fn forge(&self, forgery: &Forgery<'_>) -> Object {
        forge(&self.site.path(forgery.ring), forgery, &pattern(LENGTH))
    }
}

impl<'a> Forgery<'a> {
    /// What an honest writer of object `key` of `class` would decide.
    pub(crate) fn honest(class: &'a str, key: &'a str) -> Self {
        Self {
            bound: (class, class, key),
            context: vec![("sealward-class", class), ("sealward-vault", class), ("sealward-meta", "sealed")],
            ring: "keyring.json",
            wrapped_by: "key-1",
            metadata: Some("{}"),
            frame: 4096,
        }
    }
}

/// Seals `plaintext` as `forgery` says, under the keyring file `ring`.
pub(crate) fn forge(ring: &Path, forgery: &Forgery<'_>, plaintext: &[u8]) -> Object {
    let ring = Arc::new(Keyring::load(ring, COMMAND_BLOCK).expect("a keyring"));
    let context = EncryptionContext::new(forgery.context.iter().copied()).expect("a context");
    let keys = ring.view(Some(forgery.wrapped_by), &[], None).expect("a key of the ring");
    let fresh = keys.seal_key(&context).expect("wraps");
    let (vault, class, key) = forgery.bound;
    let draft = Draft {
        id: MessageId::bound(vault, class, key).expect("random"),
        context,
        data_keys: fresh.encrypted,
        frame_length: forgery.frame,
    };
    let (message, metadata) = seal(draft, &fresh.key, plaintext, forgery.metadata);
    Object::new(message, metadata)
}

fn seal(draft: Draft, key: &Key256, plaintext: &[u8], metadata: Option<&str>) -> (Vec<u8>, Option<String>) {
    let sealer = Sealer::new(draft, key).expect("a valid draft");
    let metadata = metadata.map(|json| sealer.seal_metadata(json.as_bytes()).expect("seals"));
    let mut message = sealer.header().as_bytes().to_vec();
    let mut writer = FrameWriter::new(sealer);
    writer.grant(u64::MAX);
    assert_eq!(writer.write(&mut message, plaintext), Ok(plaintext.len()));
    writer.finish(&mut message).expect("seals");
    (message, metadata)
}

/// `keyring.json`: `key-1`, which every class reads; `key-2`, which none does; and
/// the key of the vectors. `stranger.json`: other bytes under the names of `key-1`.
fn keyrings(site: &Site) {
    let load = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON") };
    let ring = site.path("keyring.json");
    Keyring::create(&site.path("second.json"), "test", "key-2").expect("a keyring");
    Keyring::create(&site.path("stranger.json"), "test", "key-1").expect("a keyring");
    let vectors = fixture("fixtures/not-secret-keyring-primary.json");
    let keys = Value::Array(vec![load(&ring), load(&site.path("second.json")), load(&vectors)]);
    std::fs::write(&ring, keys.to_string()).expect("writes");
}

fn config() -> String {
    let mut text = String::from(
        r#"
[[listener]]
bind = "127.0.0.1:0"
tls = { source = { files = { cert = "tls/cert.pem", key = "tls/key.pem" } } }
[keys]
provider = "local"
keyring = "keyring.json"
[identity]
tokens = "tokens.json"
[admin]
bind = "127.0.0.1:0"
[log]
format = "json"
level = "info"
"#,
    );
    for (name, folder, lines) in CLASSES {
        let (directory, _) = folder.split_once('/').expect("a folder");
        let class = format!(
            "[[class]]\nname = \"{name}\"\ndirectory = \"{directory}\"\n{lines}\n\
             read_keys = [\"test/key-1\", \"sealward-test/primary\"]\ncanary = \"off\"\n\
             [[route]]\npath = \"/{name}/\"\nseal = {{ class = \"{name}\" }}\n"
        );
        text.push_str(&class);
    }
    text
}

/// A file of `tests/`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// A message of `tests/vectors`, under true hints where it has a header that parses.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    std::fs::read(fixture("vectors").join(name)).expect("a vector")
}
