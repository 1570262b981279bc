//! Tokens in a file, which `sealward token` writes and `serve` follows.
//!
//! Beside `tokens.json` lies `tokens.json.key`: the 32 bytes that key the
//! hashes, so that the list alone can't be searched for a token.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Grant, Token, TokenRecord, TokenStore, token::TokenKey};
use crate::{
    fault::Fault,
    secret::{Key256, SecretText},
};

/// How old the list in memory may be before the file is looked at again.
const FRESH: Duration = Duration::from_secs(1);
/// The largest list read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The tokens of one file.
pub struct TokenFile {
    path: PathBuf,
    key: TokenKey,
    known: Mutex<Known>,
}

struct Known {
    tokens: HashMap<String, TokenRecord>,
    state: Option<FileState>,
    looked: Instant,
}

/// What tells one state of the file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileState {
    modified: SystemTime,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

/// Why a token file can't be used.
#[derive(Debug)]
pub enum TokenFileError {
    /// A file can't be read or written.
    Io(PathBuf, io::Error),
    /// A file isn't what it should be.
    Content(PathBuf, String),
    /// No token of that name or id is there.
    Unknown(String),
    /// A token of that name is there already.
    Taken(String),
}

impl TokenFile {
    /// Reads the tokens at `path`; there may be none yet. With `create`, a key is
    /// made where there is none.
    ///
    /// # Errors
    /// [`TokenFileError`], with the file and what is wrong.
    pub fn open(path: &Path, create: bool) -> Result<Self, TokenFileError> {
        let key = read_key(&key_path(path), create)?;
        let state = state_of(path).map_err(|error| TokenFileError::Io(path.to_owned(), error))?;
        let tokens = read(path)?;
        let known = Known { tokens, state, looked: Instant::now() };
        Ok(Self { path: path.to_owned(), key, known: Mutex::new(known) })
    }

    /// Makes a token called `name`, good for `lifetime` or for ever. The token is
    /// returned once, and only its hash is kept.
    ///
    /// # Errors
    /// [`TokenFileError::Taken`], or when the file can't be written.
    pub fn issue(&self, name: &str, grant: Grant, lifetime: Option<Duration>) -> Result<SecretText, TokenFileError> {
        let io = |error| TokenFileError::Io(self.path.clone(), error);
        let token = Token::fresh().map_err(|error| io(io::Error::other(error)))?;
        let created = time::OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .map_err(|error| io(io::Error::other(error)))?
            .format(&time::format_description::well_known::Rfc3339)
            .map_err(|error| io(io::Error::other(error)))?;
        let record = TokenRecord {
            name: name.to_owned(),
            id: token.id().to_owned(),
            hash: self.key.hash(&token),
            created,
            expires: lifetime.map(|lifetime| super::unix_now() + lifetime.as_secs()),
            grant,
        };
        self.change(|tokens| {
            if tokens.values().any(|other| other.name == name) {
                return Err(TokenFileError::Taken(name.to_owned()));
            }
            tokens.insert(record.id.clone(), record);
            Ok(())
        })?;
        Ok(token.expose())
    }

    /// Ends the token called `name`, or of that id.
    ///
    /// # Errors
    /// [`TokenFileError::Unknown`], or when the file can't be written.
    pub fn revoke(&self, name: &str) -> Result<(), TokenFileError> {
        self.change(|tokens| {
            let id = tokens.values().find(|token| token.name == name || token.id == name).map(|token| token.id.clone());
            let id = id.ok_or_else(|| TokenFileError::Unknown(name.to_owned()))?;
            tokens.remove(&id);
            Ok(())
        })
    }

    /// Whether `text` is a token of this file that is good now.
    pub fn knows(&self, text: &str) -> bool {
        let Some(token) = Token::parse(text) else { return false };
        self.look_up(token.id()).is_some_and(|record| {
            self.key.matches(&token, &record) && record.expires.is_none_or(|expires| expires > super::unix_now())
        })
    }

    /// Every token, by name.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn list(&self) -> Result<Vec<TokenRecord>, TokenFileError> {
        let mut tokens: Vec<_> = read(&self.path)?.into_values().collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tokens)
    }

    /// Reads, changes and replaces the file, one process at a time.
    fn change(
        &self,
        change: impl FnOnce(&mut HashMap<String, TokenRecord>) -> Result<(), TokenFileError>,
    ) -> Result<(), TokenFileError> {
        let io = |error| TokenFileError::Io(self.path.clone(), error);
        let lock = fs::File::open(key_path(&self.path)).map_err(io)?;
        lock.lock().map_err(io)?;
        let mut tokens = read(&self.path)?;
        change(&mut tokens)?;
        let mut list = List { tokens: tokens.into_values().collect() };
        list.tokens.sort_by(|a, b| a.name.cmp(&b.name));
        let text = serde_json::to_vec_pretty(&list).map_err(|error| io(error.into()))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(io)?;
        file.persist(&self.path).map_err(|error| io(error.error))?;
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
    }

    /// The record under `id`, from a list no older than [`FRESH`]. A list that
    /// can't be read leaves the last good one in force, and says so in the log.
    fn look_up(&self, id: &str) -> Option<TokenRecord> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= FRESH {
            known.looked = Instant::now();
            match state_of(&self.path) {
                Ok(state) if state == known.state => {}
                Ok(state) => match read(&self.path) {
                    Ok(tokens) => {
                        known.tokens = tokens;
                        known.state = state;
                    }
                    Err(error) => tracing::error!(%error, "the tokens can't be read again; the last good ones stay"),
                },
                Err(error) => {
                    tracing::error!(path = %self.path.display(), %error, "the tokens can't be looked at");
                }
            }
        }
        known.tokens.get(id).cloned()
    }
}

#[async_trait]
impl TokenStore for TokenFile {
    async fn find(&self, id: &str) -> Result<Option<TokenRecord>, Fault> {
        Ok(self.look_up(id))
    }

    fn key(&self) -> &TokenKey {
        &self.key
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Content(path, what) => write!(f, "{}: {what}", path.display()),
            Self::Unknown(name) => write!(f, "there is no token `{name}`; `sealward token list` shows them"),
            Self::Taken(name) => {
                write!(f, "there is a token `{name}` already; revoke it first, or choose another name")
            }
        }
    }
}

impl std::error::Error for TokenFileError {}

#[derive(Default, Serialize, Deserialize)]
struct List {
    tokens: Vec<TokenRecord>,
}

fn read(path: &Path) -> Result<HashMap<String, TokenRecord>, TokenFileError> {
    let text = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE => {
            return Err(TokenFileError::Content(path.to_owned(), format!("it is over {MAX_FILE} bytes")));
        }
        Ok(_) => fs::read(path).map_err(|error| TokenFileError::Io(path.to_owned(), error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(TokenFileError::Io(path.to_owned(), error)),
    };
    let list: List = serde_json::from_slice(&text)
        .map_err(|error| TokenFileError::Content(path.to_owned(), format!("not a list of tokens: {error}")))?;
    Ok(list.tokens.into_iter().map(|token| (token.id.clone(), token)).collect())
}

fn state_of(path: &Path) -> io::Result<Option<FileState>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(FileState {
            modified: metadata.modified()?,
            length: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&metadata),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn key_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

fn read_key(path: &Path, create: bool) -> Result<TokenKey, TokenFileError> {
    let io = |error| TokenFileError::Io(path.to_owned(), error);
    match fs::read(path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            let key = Key256::from_slice(&bytes)
                .ok_or_else(|| TokenFileError::Content(path.to_owned(), "it isn't 32 bytes long".into()))?;
            Ok(TokenKey::new(&key))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            let key = Key256::random().map_err(|error| io(io::Error::other(error)))?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(path).map_err(io)?;
            file.write_all(key.expose()).and_then(|()| file.sync_all()).map_err(io)?;
            Ok(TokenKey::new(&key))
        }
        Err(error) => Err(io(error)),
    }
}
