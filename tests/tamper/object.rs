//! A sealed object as it lies in the store, taken apart so that it can be damaged.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use sealward::message::{Caps, Header, Layout};
use serde_json::{Value, json};

use crate::support::files_below;

/// A message and what stands beside it.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) message: Vec<u8>,
    pub(crate) entries: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) sidecar: Sidecar,
    pub(crate) form: Form,
    /// Bytes of the header as it was sealed.
    pub(crate) header: usize,
    /// Plaintext bytes of a frame as it was sealed.
    pub(crate) frame: usize,
    /// The sealed bytes that it had.
    pub(crate) sealed: usize,
}

/// What lies where the sidecar belongs.
#[derive(Clone)]
pub(crate) enum Sidecar {
    /// One that bears the message's own id, whatever has become of it: what
    /// somebody who knows the store would write.
    Fitting,
    /// This text, under the name that the message's id asks for.
    Text(Vec<u8>),
    /// None.
    Missing,
}

/// What lies where the message belongs.
#[derive(Clone)]
pub(crate) enum Form {
    File,
    Folder,
    /// A link to a file of the same bytes.
    Link,
}

impl Object {
    /// A message with true hints beside it.
    pub(crate) fn new(message: Vec<u8>, metadata: Option<String>) -> Self {
        let parsed = Header::parse(&message, &Caps::default()).expect("a header").expect("a whole header");
        let (header, frame) = (parsed.len(), parsed.frame_length() as usize);
        let mut entries = BTreeMap::from([
            ("sealward-format".to_owned(), "1".to_owned()),
            ("sealward-header".to_owned(), header.to_string()),
            ("sealward-frame".to_owned(), frame.to_string()),
        ]);
        entries.extend(metadata.map(|sealed| ("sealward-metadata".to_owned(), sealed)));
        let sealed = message.len();
        let headers = BTreeMap::new();
        Self { message, entries, headers, sidecar: Sidecar::Fitting, form: Form::File, header, frame, sealed }
    }

    /// Takes the object at `stem` (a path without its endings) out of the store.
    pub(crate) fn take(stem: &Path) -> Self {
        let message = std::fs::read(ending(stem, ".sealed")).expect("the message is there");
        let sidecar = std::fs::read(beside(stem, &message)).expect("its sidecar is there");
        let sidecar: Value = serde_json::from_slice(&sidecar).expect("JSON");
        let map = |name: &str| -> BTreeMap<String, String> {
            serde_json::from_value(sidecar[name].clone()).expect("a map of text")
        };
        let mut object = Self::new(message, None);
        (object.entries, object.headers) = (map("entries"), map("headers"));
        object
    }

    /// Lays it at `stem`, in the place of whatever stands there.
    pub(crate) fn lay(&self, stem: &Path) {
        let folder = stem.parent().expect("below a folder");
        std::fs::create_dir_all(folder).expect("makes");
        let own = format!("{}.", stem.file_name().and_then(|name| name.to_str()).expect("a name"));
        for file in files_below(folder) {
            if file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&own)) {
                std::fs::remove_file(file).expect("removes");
            }
        }
        let path = ending(stem, ".sealed");
        match self.form {
            Form::File => std::fs::write(path, &self.message).expect("writes"),
            Form::Folder => std::fs::create_dir(path).expect("makes"),
            Form::Link => {
                let target = ending(stem, ".elsewhere");
                std::fs::write(&target, &self.message).expect("writes");
                std::os::unix::fs::symlink(target, path).expect("links");
            }
        }
        if self.message.len() < 35 {
            return;
        }
        let text = match &self.sidecar {
            Sidecar::Missing => return,
            Sidecar::Text(text) => text.clone(),
            Sidecar::Fitting => self.sidecar_text(),
        };
        std::fs::write(beside(stem, &self.message), text).expect("writes");
    }

    /// The sidecar that fits the message.
    pub(crate) fn sidecar_text(&self) -> Vec<u8> {
        let id = hex(&self.message[3..35]);
        json!({ "id": id, "entries": self.entries, "headers": self.headers }).to_string().into_bytes()
    }

    /// Positions of the message as it was sealed.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.header, u32::try_from(self.frame).expect("capped"))
    }

    /// Where frame `index` stands, from 0; the one after the regular ones is the final one.
    pub(crate) fn at(&self, index: usize) -> Range<usize> {
        let start = |index: usize| usize::try_from(self.layout().frame_at(index as u64)).expect("short");
        start(index)..start(index + 1).min(self.sealed)
    }

    /// The bytes of frame `index`.
    pub(crate) fn frame(&self, index: usize) -> Vec<u8> {
        self.message[self.at(index)].to_vec()
    }

    /// Flips the lowest bit of byte `at`.
    pub(crate) fn flip(&mut self, at: usize) {
        self.message[at] ^= 1;
    }

    /// Sets one entry beside the message.
    pub(crate) fn set(&mut self, entry: &str, value: impl ToString) {
        self.entries.insert(entry.to_owned(), value.to_string());
    }

    /// Where the fields of the header stand, with one data key of a Raw AES keyring.
    pub(crate) fn field(&self, name: &str) -> Range<usize> {
        let mut fields = BTreeMap::new();
        let mut at = 0;
        let mut take = |name: &'static str, length: usize| {
            fields.insert(name, at..at + length);
            at += length;
        };
        let number =
            |range: Range<usize>| self.message[range].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        take("version", 1);
        take("suite", 2);
        take("nonce", 16);
        take("binding", 16);
        take("context-length", 2);
        let context = 37 + number(35..37);
        take("context-count", 2);
        let key = number(39..41);
        take("context-key-length", 2);
        take("context-key", key);
        take("context-value-length", 2);
        let value = number(41 + key..43 + key);
        take("context-value", value);
        take("context-rest", context - (43 + key + value));
        take("data-key-count", 2);
        let mut start = context + 2;
        for name in [["provider-length", "provider"], ["info-length", "info"], ["wrapped-length", "wrapped"]] {
            let length = number(start..start + 2);
            take(name[0], 2);
            take(name[1], length);
            start += 2 + length;
        }
        take("content-type", 1);
        take("frame-length", 4);
        take("commitment", 32);
        take("header-tag", 16);
        fields.remove(name).unwrap_or_else(|| panic!("no field {name}"))
    }
}

/// The stem with an ending.
fn ending(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Where the sidecar of `message` at `stem` belongs.
fn beside(stem: &Path, message: &[u8]) -> PathBuf {
    ending(stem, &format!(".{}.meta", hex(&message[3..19])))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
