//! Counts how often a wrapping key was used, across restarts and processes.
//!
//! A random 96-bit iv is good for 2^32 wraps under one key (NIST SP 800-38D,
//! section 8.3). Numbers are reserved in blocks, so that the count on disk is
//! never below the truth: a crash loses a block, never a wrap.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Wraps that one key is good for.
pub(super) const MAX_WRAPS: u64 = 1 << 32;

pub(super) struct WrapCount {
    path: PathBuf,
    block: u64,
    /// Wraps still reserved, by `namespace/name`.
    reserved: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug)]
pub(super) enum WrapError {
    Spent,
    Io(io::Error),
}

impl WrapCount {
    /// A count kept at `path`, reserved `block` wraps at a time.
    pub(super) fn new(path: PathBuf, block: u64) -> Self {
        Self { path, block: block.max(1), reserved: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes one wrap under `key` from the count. Writes the file once a block.
    pub(super) fn take(&self, key: &str) -> Result<(), WrapError> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let left = reserved.entry(key.to_owned()).or_default();
        if *left == 0 {
            *left = reserve(&self.path, key, self.block)?;
        }
        *left -= 1;
        Ok(())
    }
}

/// Raises the count of `key` in the file by up to `block`; returns by how much.
fn reserve(path: &Path, key: &str, block: u64) -> Result<u64, WrapError> {
    let mut file = open(path).map_err(WrapError::Io)?;
    file.lock().map_err(WrapError::Io)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(WrapError::Io)?;
    let mut counts: BTreeMap<String, u64> = if text.is_empty() {
        BTreeMap::new()
    } else {
        serde_json::from_str(&text).map_err(|error| WrapError::Io(io::Error::new(io::ErrorKind::InvalidData, error)))?
    };
    let count = counts.entry(key.to_owned()).or_default();
    let granted = block.min(MAX_WRAPS.saturating_sub(*count));
    if granted == 0 {
        return Err(WrapError::Spent);
    }
    *count += granted;
    let text = serde_json::to_vec(&counts).map_err(|error| WrapError::Io(error.into()))?;
    // In place: the lock is on this file, and numbers only grow, so the text never shrinks.
    file.rewind().and_then(|()| file.write_all(&text)).and_then(|()| file.sync_all()).map_err(WrapError::Io)?;
    Ok(granted)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_outlives_the_process_and_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wraps");
        WrapCount::new(path.clone(), 10).take("n/k").expect("room");
        let read = || -> BTreeMap<String, u64> {
            serde_json::from_slice(&std::fs::read(&path).expect("is there")).expect("is JSON")
        };
        assert_eq!(read()["n/k"], 10);
        WrapCount::new(path.clone(), 10).take("n/k").expect("room");
        assert_eq!(read()["n/k"], 20);

        std::fs::write(&path, format!("{{\"n/k\":{}}}", MAX_WRAPS - 1)).expect("writes");
        let count = WrapCount::new(path.clone(), 10);
        count.take("n/k").expect("one is left");
        assert!(matches!(count.take("n/k"), Err(WrapError::Spent)));
        count.take("n/other").expect("another key is not spent");
    }
}
