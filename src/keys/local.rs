//! The local keyring: the AWS Encryption SDK's Raw AES keyring, from a file.
//!
//! The file is `{"namespace", "name", "wrapping_key"}`, the key base64 of 32
//! bytes, or a list of such objects: the first seals, all open. The format of a
//! wrapped key is `framework/raw-aes-keyring.md` of the SDK's specification.

use std::{
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Generated, KeyFailure, KeyProvider,
    wraps::{MAX_WRAPS, WrapCount, WrapError},
};
use crate::{
    message::{EncryptedDataKey, EncryptionContext, IV_LEN, TAG_LEN},
    secret::{Key256, random_array},
};

/// Wraps that a server reserves at a time: one write of the count file in so many.
pub const SERVER_BLOCK: u64 = 4096;
/// Wraps that a command reserves: exactly what it uses.
pub const COMMAND_BLOCK: u64 = 1;
/// The largest keyring file read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The wrapping keys of one file.
pub struct Keyring {
    keys: Vec<WrappingKey>,
    wraps: WrapCount,
}

struct WrappingKey {
    namespace: String,
    name: String,
    cipher: LessSafeKey,
}

/// One class's view of a keyring: which key seals, which may open.
#[derive(Clone)]
pub struct LocalKeys {
    keyring: Arc<Keyring>,
    /// The keys that every data key is wrapped under; the first gives it its name.
    write: Vec<usize>,
    read: Vec<usize>,
}

/// Why a keyring can't be used. Never holds key bytes.
#[derive(Debug)]
pub enum KeyringError {
    /// The file can't be read or written.
    Io(PathBuf, std::io::Error),
    /// The file isn't a keyring.
    Content(PathBuf, String),
    /// No key of that name is in the ring; and those that are.
    NoSuchKey(String, Vec<String>),
    /// The key that seals isn't among those that open.
    NotRead(String),
}

impl Keyring {
    /// Reads the keyring at `path`. Its wraps are counted in `path` + `.wraps`,
    /// `block` at a time.
    ///
    /// # Errors
    /// [`KeyringError`], with the file and what is wrong with it.
    pub fn load(path: &Path, block: u64) -> Result<Self, KeyringError> {
        let io = |error| KeyringError::Io(path.to_owned(), error);
        let content = |what: String| KeyringError::Content(path.to_owned(), what);
        if std::fs::metadata(path).map_err(io)?.len() > MAX_FILE {
            return Err(content(format!("it is over {MAX_FILE} bytes")));
        }
        let bytes = Zeroizing::new(std::fs::read(path).map_err(io)?);
        // serde_json's message could quote a value, which here may be a key.
        let entries = entries(&bytes).map_err(|error| {
            content(format!(
                "line {}, column {}: not {{\"namespace\", \"name\", \"wrapping_key\"}} or a list of such",
                error.line(),
                error.column()
            ))
        })?;
        let mut keys: Vec<WrappingKey> = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = WrappingKey::new(&entry).map_err(|what| content(format!("key `{}`: {what}", entry.name)))?;
            if keys.iter().any(|other| other.id() == key.id()) {
                return Err(content(format!("key `{}` stands there twice", key.id())));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(content("it holds no key".into()));
        }
        let mut wraps = path.as_os_str().to_owned();
        wraps.push(".wraps");
        Ok(Self { keys, wraps: WrapCount::new(wraps.into(), block) })
    }

    /// Makes a keyring of one fresh key at `path`, readable by its owner alone.
    /// Never replaces a file.
    ///
    /// # Errors
    /// [`KeyringError`] when the file is there already or can't be written.
    pub fn create(path: &Path, namespace: &str, name: &str) -> Result<(), KeyringError> {
        let io = |error| KeyringError::Io(path.to_owned(), error);
        let key = Key256::random().map_err(|error| io(std::io::Error::other(error)))?;
        let entry = Entry {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            wrapping_key: KeyText(STANDARD.encode(key.expose())),
        };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&entry).map_err(|error| io(error.into()))?);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(io)?;
        file.write_all(&text).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all()).map_err(io)
    }

    /// A view that seals under `write` (a name; the ring's first key when absent)
    /// and `recipients` besides, and opens under `read` (`namespace/name`; every key when absent).
    ///
    /// # Errors
    /// [`KeyringError::NoSuchKey`], or [`KeyringError::NotRead`] when what is sealed could
    /// not be opened.
    pub fn view(
        self: &Arc<Self>,
        write: Option<&str>,
        recipients: &[String],
        read: Option<&[String]>,
    ) -> Result<LocalKeys, KeyringError> {
        let named = |name: &str| {
            let found = self.keys.iter().position(|key| key.name == name || key.id() == name);
            found.ok_or_else(|| self.lacks(name))
        };
        let mut write = vec![write.map_or(Ok(0), named)?];
        for recipient in recipients {
            write.push(named(recipient)?);
        }
        let read = match read {
            None => (0..self.keys.len()).collect(),
            Some(ids) => ids
                .iter()
                .map(|id| self.keys.iter().position(|key| key.id() == *id).ok_or_else(|| self.lacks(id)))
                .collect::<Result<Vec<_>, _>>()?,
        };
        if !read.contains(&write[0]) {
            return Err(KeyringError::NotRead(self.keys[write[0]].id()));
        }
        Ok(LocalKeys { keyring: Arc::clone(self), write, read })
    }

    fn lacks(&self, name: &str) -> KeyringError {
        KeyringError::NoSuchKey(name.to_owned(), self.keys.iter().map(WrappingKey::id).collect())
    }

    /// Counts one wrap under key `index`.
    fn count(&self, index: usize) -> Result<(), KeyFailure> {
        let id = self.keys[index].id();
        self.wraps.take(&id).map_err(|error| match error {
            WrapError::Spent => KeyFailure::Broken(format!(
                "key `{id}` has wrapped {MAX_WRAPS} data keys, all that its ivs are good for: \
                 put a fresh key first in the keyring and keep this one behind it"
            )),
            WrapError::Io(error) => {
                KeyFailure::Broken(format!("the count of wraps at {}: {error}", self.wraps.path().display()))
            }
        })
    }

    /// Wraps `key` under the ring's key `index`, for which one wrap was counted.
    fn wrap(&self, index: usize, key: &Key256, aad: &[u8]) -> Result<EncryptedDataKey, KeyFailure> {
        let broken = |error: &dyn fmt::Display| KeyFailure::Broken(error.to_string());
        let wrapping = &self.keys[index];
        let iv: [u8; IV_LEN] = random_array().map_err(|error| broken(&error))?;
        let mut ciphertext = key.expose().to_vec();
        let sealed =
            wrapping.cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(aad), &mut ciphertext);
        if sealed.is_err() {
            ciphertext.zeroize();
            return Err(broken(&"the cipher refused"));
        }
        let info = [wrapping.info_prefix().as_slice(), &iv].concat();
        Ok(EncryptedDataKey { provider: wrapping.namespace.clone().into_bytes(), info, ciphertext })
    }

    fn unwrap(&self, data_key: &EncryptedDataKey, context: &EncryptionContext) -> Result<Key256, KeyFailure> {
        let refused = |what: &str| KeyFailure::Refused(what.to_owned());
        let key = self.keys.iter().find(|key| key.wrapped(data_key)).ok_or_else(|| refused("no key of that name"))?;
        let mut iv = [0; IV_LEN];
        iv.copy_from_slice(&data_key.info[data_key.info.len() - IV_LEN..]);
        let aad = context.encode().map_err(|error| KeyFailure::Refused(error.to_string()))?;
        let mut bytes = Zeroizing::new(data_key.ciphertext.clone());
        let plaintext = key
            .cipher
            .open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(&aad), &mut bytes)
            .map_err(|_| refused("the wrapped data key does not verify"))?;
        Key256::from_slice(plaintext).ok_or_else(|| refused("the data key isn't 32 bytes"))
    }
}

#[async_trait]
impl KeyProvider for LocalKeys {
    async fn generate(&self, context: &EncryptionContext) -> Result<Generated, KeyFailure> {
        for index in self.write.iter().copied() {
            let keyring = Arc::clone(&self.keyring);
            if keyring.wraps.take_reserved(&keyring.keys[index].id()) {
                continue;
            }
            // It waits for the disk, and perhaps for another process.
            tokio::task::spawn_blocking(move || keyring.count(index)).await.unwrap_or_else(|error| {
                Err(KeyFailure::Unavailable(format!("a count of wraps ended early: {error}")))
            })?;
        }
        self.wrapped(context)
    }

    fn recognise(&self, data_key: &EncryptedDataKey) -> Option<&str> {
        self.read
            .iter()
            .map(|index| &self.keyring.keys[*index])
            .find(|key| key.wrapped(data_key))
            .map(|key| key.name.as_str())
    }

    fn is_current(&self, data_key: &EncryptedDataKey) -> bool {
        self.write.first().is_some_and(|index| self.keyring.keys[*index].wrapped(data_key))
    }

    async fn unwrap(&self, data_key: &EncryptedDataKey, context: &EncryptionContext) -> Result<Key256, KeyFailure> {
        self.keyring.unwrap(data_key, context)
    }
}

impl LocalKeys {
    /// [`KeyProvider::generate`], which waits for nothing here but a write of the count
    /// file, once a block.
    ///
    /// # Errors
    /// [`KeyFailure::Broken`] when a key is spent or its count can't be kept.
    pub fn seal_key(&self, context: &EncryptionContext) -> Result<Generated, KeyFailure> {
        for index in &self.write {
            self.keyring.count(*index)?;
        }
        self.wrapped(context)
    }

    /// A fresh data key, wrapped under each key that seals; its wraps were counted.
    fn wrapped(&self, context: &EncryptionContext) -> Result<Generated, KeyFailure> {
        let broken = |error: &dyn fmt::Display| KeyFailure::Broken(error.to_string());
        let key = Key256::random().map_err(|error| broken(&error))?;
        let aad = context.encode().map_err(|error| broken(&error))?;
        let wrap = |index: &usize| self.keyring.wrap(*index, &key, &aad);
        let encrypted = self.write.iter().map(wrap).collect::<Result<Vec<_>, _>>()?;
        let name = self.write.first().map_or_else(String::new, |index| self.keyring.keys[*index].name.clone());
        Ok(Generated { key, encrypted, name })
    }
}

impl WrappingKey {
    fn new(entry: &Entry) -> Result<Self, &'static str> {
        for (text, what) in [
            (&entry.namespace, "the namespace is 1 to 128 bytes and not `aws-kms`, which is KMS's own"),
            (&entry.name, "the name is 1 to 128 bytes"),
        ] {
            if text.is_empty() || text.len() > 128 || text == "aws-kms" {
                return Err(what);
            }
        }
        let bytes = Zeroizing::new(STANDARD.decode(&entry.wrapping_key.0).map_err(|_| "`wrapping_key` isn't base64")?);
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| "`wrapping_key` isn't base64 of 32 bytes")?;
        Ok(Self { namespace: entry.namespace.clone(), name: entry.name.clone(), cipher: LessSafeKey::new(key) })
    }

    fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// `name | tag bits u32 | iv length u32`, before the iv.
    #[allow(clippy::cast_possible_truncation)] // 128 and 12
    fn info_prefix(&self) -> Vec<u8> {
        let mut info = self.name.clone().into_bytes();
        info.extend_from_slice(&(TAG_LEN as u32 * 8).to_be_bytes());
        info.extend_from_slice(&(IV_LEN as u32).to_be_bytes());
        info
    }

    fn wrapped(&self, data_key: &EncryptedDataKey) -> bool {
        let prefix = self.name.len() + 8;
        data_key.provider == self.namespace.as_bytes()
            && data_key.info.len() == prefix + IV_LEN
            && data_key.info[..prefix] == self.info_prefix()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(WrappingKey::id)).finish()
    }
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRead(id) => write!(f, "`{id}` seals and could not open again: add it to `read_keys`"),
            Self::Io(path, error) if error.kind() == std::io::ErrorKind::NotFound => write!(
                f,
                "the keyring {}: {error}; put it back, or for a first one write \
                 {{\"namespace\", \"name\", \"wrapping_key\"}} there, the key base64 of 32 random bytes",
                path.display()
            ),
            Self::Io(path, error) => {
                write!(f, "the keyring {}: {error}; let the user that runs Sealward read it", path.display())
            }
            Self::Content(path, what) => {
                write!(f, "the keyring {}: {what}; put back the one that sealed what is stored", path.display())
            }
            Self::NoSuchKey(name, known) => {
                write!(f, "the keyring has no key `{name}`; it has: {}", known.join(", "))
            }
        }
    }
}

impl std::error::Error for KeyringError {}

/// One entry or a list. Told apart by the first byte: serde's untagged enums
/// would keep every value, keys too, in a buffer that nobody wipes.
fn entries(text: &[u8]) -> serde_json::Result<Vec<Entry>> {
    if text.trim_ascii_start().first() == Some(&b'[') {
        return serde_json::from_slice(text);
    }
    Ok(vec![serde_json::from_slice(text)?])
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    namespace: String,
    name: String,
    wrapping_key: KeyText,
}

/// Wiped with its owner, also where the rest of its entry isn't one.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct KeyText(String);

impl Drop for KeyText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
