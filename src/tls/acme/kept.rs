//! What is kept between runs: the account with its key, and each certificate with its own.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use instant_acme::AccountCredentials;
use zeroize::Zeroizing;

use super::super::files;
use crate::replace::{read, replace};

/// The largest file, in bytes.
const MOST: u64 = 1 << 20;

/// A folder of ours alone.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    /// What tells accounts and certificates of one authority from another's.
    account: String,
    certificate: String,
}

impl Kept {
    /// Of `directory`'s account and the certificate for `domains`, below `folder`.
    pub(super) fn new(folder: &Path, directory: &str, domains: &[String]) -> Self {
        let hash = |parts: &[&str]| {
            let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            hex::encode(&files::digest(&parts)[..8])
        };
        let mut named: Vec<&str> = domains.iter().map(String::as_str).collect();
        named.sort_unstable();
        let first = domains.first().map_or("none", String::as_str);
        named.push(directory);
        Self {
            folder: folder.to_owned(),
            account: format!("account-{}.json", hash(&[directory])),
            certificate: format!("{first}-{}.pem", hash(&named)),
        }
    }

    /// Makes the folder, and sees that it can be written and is nobody else's.
    pub(super) fn prepare(&self) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;

        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mode = fs::metadata(&self.folder)?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(io::Error::other(format!("others may write to it: mode {:o}", mode & 0o777)));
        }
        tempfile::NamedTempFile::new_in(&self.folder).map(drop)
    }

    /// Where the certificate lies, with its key.
    pub(super) fn place(&self) -> PathBuf {
        self.folder.join(&self.certificate)
    }

    /// The bundle, if there is one.
    pub(super) fn bundle(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        self.read(&self.certificate)
    }

    pub(super) fn keep_bundle(&self, pem: &str) -> io::Result<()> {
        self.write(&self.certificate, pem.as_bytes())
    }

    pub(super) fn account(&self) -> io::Result<Option<AccountCredentials>> {
        let Some(bytes) = self.read(&self.account)? else { return Ok(None) };
        // The parser's own words may quote what it stumbled over.
        let unread = |_| {
            let place = self.folder.join(&self.account);
            io::Error::other(format!("{} is no account: remove it, and another is made", place.display()))
        };
        serde_json::from_slice(&bytes).map(Some).map_err(unread)
    }

    pub(super) fn keep_account(&self, credentials: &AccountCredentials) -> io::Result<()> {
        let json = serde_json::to_vec(credentials).map(Zeroizing::new).map_err(io::Error::other)?;
        self.write(&self.account, &json)
    }

    pub(super) fn forget_account(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(&self.account)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read(&self, name: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        match read(&self.folder.join(name), MOST) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// To this owner alone: keys are in it.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        replace(&self.folder.join(name), bytes)
    }
}
