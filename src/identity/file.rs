//! Tokens in a file, which `sealward token` writes and `serve` follows.
//!
//! Beside `tokens.json` lies `tokens.json.key`: the 32 bytes that key the
//! hashes, so that the list alone can't be searched for a token.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Grant, TokenRecord, TokenStore,
    token::{Token, TokenKey},
};
use crate::{
    fault::Fault,
    replace::replace,
    secret::{Key256, SecretText},
};

/// How old the list in memory may be before the file is looked at again.
const FRESH: Duration = Duration::from_secs(1);
/// How long the last good list stands in for one that can't be read.
const GRACE: Duration = Duration::from_secs(30);
/// The largest list read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The tokens of one file.
pub struct TokenFile {
    path: PathBuf,
    key: TokenKey,
    followed: Arc<Followed>,
    /// Held by the one that looks at the file; the others wait for what it finds.
    looking: Arc<tokio::sync::Mutex<()>>,
}

/// The list as it was when it was last looked at.
struct Followed {
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    tokens: HashMap<String, TokenRecord>,
    state: Option<FileState>,
    looked: Instant,
    /// Since when the file can't be read.
    failing: Option<Instant>,
    /// Whether that has lasted so long that no token is known.
    closed: bool,
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
        let known = Known { tokens, state, looked: Instant::now(), failing: None, closed: false };
        let followed = Followed { path: path.to_owned(), known: Mutex::new(known) };
        Ok(Self { path: path.to_owned(), key, followed: Arc::new(followed), looking: Arc::default() })
    }

    /// Makes a token called `name`, good for `lifetime` or for ever. The token is
    /// returned once, and only its hash is kept.
    ///
    /// # Errors
    /// [`TokenFileError::Taken`], or when the file can't be written.
    pub fn issue(&self, name: &str, grant: Grant, lifetime: Option<Duration>) -> Result<SecretText, TokenFileError> {
        let io = |error| TokenFileError::Io(self.path.clone(), error);
        let (token, record) = self.key.issue(name, grant, lifetime).map_err(|error| io(io::Error::other(error)))?;
        self.change(|tokens| {
            if tokens.values().any(|other| other.name == name) {
                return Err(TokenFileError::Taken(name.to_owned()));
            }
            tokens.insert(record.id.clone(), record);
            Ok(())
        })?;
        Ok(token)
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
        if self.followed.due() {
            self.followed.look();
        }
        self.followed.record(token.id()).is_some_and(|record| {
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
        // It keeps its owner and mode: a server under another user must see it.
        replace(&self.path, &text).map_err(io)
    }
}

impl Followed {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the list is older than [`FRESH`].
    fn due(&self) -> bool {
        self.known().looked.elapsed() >= FRESH
    }

    fn record(&self, id: &str) -> Option<TokenRecord> {
        let known = self.known();
        if known.closed { None } else { known.tokens.get(id).cloned() }
    }

    /// Looks at the file, and reads it if it changed; that blocks. One that can't
    /// be read leaves the last good list in force for [`GRACE`], and then none.
    fn look(&self) {
        let before = self.known().state;
        let found = state_of(&self.path).map_err(|error| TokenFileError::Io(self.path.clone(), error));
        let found =
            found.and_then(
                |state| if state == before { Ok(None) } else { read(&self.path).map(|list| Some((state, list))) },
            );
        let mut known = self.known();
        known.looked = Instant::now();
        match found {
            Ok(changed) => {
                if let Some((state, tokens)) = changed {
                    (known.state, known.tokens) = (state, tokens);
                }
                if known.failing.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the tokens can be read again");
                }
                known.closed = false;
            }
            Err(error) => {
                let since = *known.failing.get_or_insert_with(|| {
                    let grace = GRACE.as_secs();
                    tracing::error!(%error, "the tokens can't be read; the last good ones stay for {grace} s");
                    Instant::now()
                });
                if !known.closed && since.elapsed() >= GRACE {
                    known.closed = true;
                    tracing::error!(%error, "the tokens can't be read still: none is known until they can");
                }
            }
        }
    }
}

#[async_trait]
impl TokenStore for TokenFile {
    async fn find(&self, id: &str) -> Result<Option<TokenRecord>, Fault> {
        if self.followed.due() {
            let looking = Arc::clone(&self.looking).lock_owned().await;
            if self.followed.due() {
                let followed = Arc::clone(&self.followed);
                // The guard goes along: where this caller has gone, the look goes on.
                let look = move || {
                    followed.look();
                    drop(looking);
                };
                let looked = tokio::task::spawn_blocking(look).await;
                looked.map_err(|error| Fault::internal(format!("a look at the tokens ended early: {error}")))?;
            }
        }
        Ok(self.followed.record(id))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn token(file: &TokenFile, name: &str) -> (SecretText, String) {
        let text = file.issue(name, Grant::default(), None).expect("issues");
        let id = Token::parse(text.expose()).expect("a token").id().to_owned();
        (text, id)
    }

    fn ago(age: Duration) -> Instant {
        Instant::now().checked_sub(age).expect("the machine ran so long")
    }

    #[test]
    fn a_changed_list_keeps_its_owner_and_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.json");
        let file = TokenFile::open(&path, true).expect("opens");
        token(&file, "a");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("sets");
        // Another's, where this process may give it away.
        let _ = std::os::unix::fs::chown(&path, Some(65_534), Some(65_534));
        let of = || fs::metadata(&path).map(|found| (found.uid(), found.gid(), found.mode())).expect("is there");
        let before = of();
        token(&file, "b");
        file.revoke("a").expect("revokes");
        assert_eq!(of(), before);
    }

    #[tokio::test]
    async fn a_list_that_stays_unreadable_knows_no_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.json");
        let (_, id) = token(&TokenFile::open(&path, true).expect("opens"), "a");
        let file = TokenFile::open(&path, false).expect("opens");
        let whole = fs::read(&path).expect("reads");
        let due = || file.followed.known().looked = ago(FRESH);
        fs::write(&path, "{").expect("writes");
        due();
        assert!(file.find(&id).await.expect("answers").is_some(), "the last good list stays for a while");
        file.followed.known().failing = Some(ago(GRACE));
        due();
        assert!(file.find(&id).await.expect("answers").is_none(), "and no longer");
        assert!(file.find(&id).await.expect("answers").is_none(), "also between two looks");
        fs::write(&path, whole).expect("writes");
        due();
        assert!(file.find(&id).await.expect("answers").is_some(), "until it can be read");
    }

    /// On a runtime of one thread, which a wait inside `find` would stop.
    #[tokio::test]
    async fn a_slow_look_holds_no_worker() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.json");
        let (_, id) = token(&TokenFile::open(&path, true).expect("opens"), "a");
        let file = TokenFile::open(&path, false).expect("opens");
        // A pipe stands for a file system that doesn't answer.
        fs::remove_file(&path).expect("removes");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("runs");
        assert!(made.success());
        file.followed.known().looked = ago(FRESH);
        let mut find = file.find(&id);
        tokio::time::timeout(Duration::from_millis(50), &mut find).await.expect_err("it waits for the file");
        // Opening waits for the other end, which has nothing to say.
        drop(fs::OpenOptions::new().write(true).open(&path).expect("opens"));
        assert!(find.await.expect("answers").is_some(), "an empty list is none: the last good one stays");
    }
}
