//! What is written down of objects, and asked back: the seam between them and a catalogue.
//!
//! An object's room tells an [`Index`] what was stored and removed; it doesn't know what keeps
//! that, and what keeps it doesn't know how objects are made.

use std::{fmt, time::SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// What has become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is there.
    Stored,
    /// It was removed.
    Removed,
}

/// An object as it was stored, or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The class's name.
    pub class: String,
    /// The class's vault.
    pub vault: String,
    /// The object's name in its class.
    pub name: String,
    /// Plaintext bytes.
    pub size: u64,
    /// The entity tag, unquoted.
    pub etag: String,
    /// The message id, in hexadecimal.
    pub message_id: String,
    /// The store's own id of this version, where it keeps versions.
    pub version_id: Option<String>,
    /// The key that it is sealed under: a KMS key's ARN, or a name in the keyring.
    pub key: String,
    /// Who stored it: a caller's name; empty where that is known already, and of removals.
    pub by: String,
    /// What has become of it.
    pub state: State,
    /// When.
    pub at: SystemTime,
}

/// What a list wants to know of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name in its class.
    pub name: String,
    /// The entity tag of what is written down.
    pub etag: String,
    /// Its plaintext bytes.
    pub size: u64,
}

/// One page of the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// The newest first, each with when it was stored.
    pub objects: Vec<(Known, SystemTime)>,
    /// What the next page goes on behind; `None` on the last.
    pub next: Option<String>,
}

/// Which messages may stand under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// The message that was last known to stand there; `None` after a removal.
    pub current: Option<String>,
    /// Messages that may have come to stand there since.
    pub pending: Vec<String>,
    /// Whether anything was ever written down of the name.
    pub known: bool,
}

/// What the mark of a removal begins with; no message's id does.
const REMOVAL: char = '-';

impl Newest {
    /// The mark of one removal among others.
    pub fn removal(number: u64) -> String {
        format!("{REMOVAL}{number:016x}")
    }

    /// Whether `message` is such a mark.
    pub fn is_removal(message: &str) -> bool {
        message.starts_with(REMOVAL)
    }

    /// Whether `message` may stand there, or nothing.
    pub fn allows(&self, message: Option<&str>) -> bool {
        match message {
            Some(message) => self.current.iter().chain(&self.pending).any(|known| known == message),
            None => self.current.is_none() || self.pending.iter().any(|pending| Self::is_removal(pending)),
        }
    }
}

/// Who keeps account of objects.
#[async_trait]
pub trait Index: Send + Sync + fmt::Debug + 'static {
    /// Whether what is about to be done could be written down; `now` where no later time will do.
    ///
    /// # Errors
    /// 503 while it couldn't.
    fn ready(&self, now: bool) -> Result<(), Fault>;

    /// Writes down what was stored or removed; returns when that is durable.
    ///
    /// # Errors
    /// 503 when it couldn't be: it is done all the same.
    async fn write(&self, record: Record) -> Result<(), Fault>;

    /// Writes `record` down in place of what was written of the object before `before`.
    ///
    /// # Errors
    /// 503 when it can't be.
    async fn rewrite(&self, record: Record, before: SystemTime) -> Result<(), Fault>;

    /// What is known of objects of `class`; those that aren't are left out.
    ///
    /// # Errors
    /// 503 when nothing can be asked.
    async fn known(&self, class: &str, names: &[&str]) -> Result<Vec<Known>, Fault>;

    /// Up to `limit` of the newest of `class`, behind what an earlier page called `next`.
    ///
    /// # Errors
    /// 503 when nothing can be asked, 400 for what no page has called so.
    async fn recent(&self, class: &str, after: Option<&str>, limit: usize) -> Result<Recent, Fault>;

    /// Which messages may stand under `name` of `class`.
    ///
    /// # Errors
    /// 503 when nothing can be asked.
    async fn newest(&self, class: &str, name: &str) -> Result<Newest, Fault>;

    /// Before a message becomes visible under `name` of `class`, in place of `before`; or before
    /// that is removed, for which `message` is a [`Newest::removal`].
    ///
    /// # Errors
    /// 503 when it can't be written down: it must not become visible.
    async fn pending(&self, class: &str, name: &str, message: &str, before: Option<&str>) -> Result<(), Fault>;

    /// What was pending is there: it is what stands under its name from now on. False where it
    /// isn't pending any more, as when one that came after it was faster.
    ///
    /// # Errors
    /// 503 when it can't be written down: it stays pending.
    async fn settle(&self, record: Record) -> Result<bool, Fault>;

    /// What was pending will never be there.
    async fn forget(&self, class: &str, name: &str, message: &str);

    /// So it is with all that has been pending since before `before`.
    ///
    /// # Errors
    /// 503 when it can't be written down.
    async fn expire(&self, class: &str, name: &str, before: SystemTime) -> Result<(), Fault>;

    /// An upload in parts has begun, which its store calls `upload`.
    ///
    /// # Errors
    /// 503 when it can't be written down.
    async fn begun(&self, class: &str, name: &str, upload: &str) -> Result<(), Fault>;

    /// That upload is over, in whichever way.
    async fn over(&self, class: &str, upload: &str);

    /// Uploads of `class` that began before `before` and aren't over, with their names.
    ///
    /// # Errors
    /// 503 when nothing can be asked.
    async fn unfinished(&self, class: &str, before: SystemTime) -> Result<Vec<(String, String)>, Fault>;
}
