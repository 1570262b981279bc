//! Counts how often a wrapping key was used, across restarts and processes.
//!
//! A random 96-bit iv is good for 2^32 wraps under one key (NIST SP 800-38D,
//! section 8.3). Numbers are reserved in blocks, so that the count on disk is
//! never below the truth: a crash loses a block, never a wrap.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::replace::{folder, replace};

/// Wraps that one key is good for.
pub(super) const MAX_WRAPS: u64 = 1 << 32;

pub(super) struct WrapCount {
    path: PathBuf,
    block: u64,
    /// Wraps still reserved, by `namespace/name`. Held for no longer than a look.
    reserved: Mutex<BTreeMap<String, u64>>,
    /// Held while a block is reserved, so that those who need one share it.
    reserving: Mutex<()>,
}

#[derive(Debug)]
pub(super) enum WrapError {
    Spent,
    Io(io::Error),
}

impl WrapCount {
    /// A count kept at `path`, reserved `block` wraps at a time.
    pub(super) fn new(path: PathBuf, block: u64) -> Self {
        Self { path, block: block.max(1), reserved: Mutex::default(), reserving: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes one wrap under `key` from what is reserved, if anything is. Never waits.
    pub(super) fn take_reserved(&self, key: &str) -> bool {
        match self.reserved().get_mut(key) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes one wrap under `key` from the count. Once a block it waits for other
    /// processes and for the disk.
    pub(super) fn take(&self, key: &str) -> Result<(), WrapError> {
        if self.take_reserved(key) {
            return Ok(());
        }
        let _one = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        if self.take_reserved(key) {
            return Ok(());
        }
        let granted = reserve(&self.path, key, self.block)?;
        *self.reserved().entry(key.to_owned()).or_default() += granted - 1;
        Ok(())
    }

    fn reserved(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises the count of `key` in the file by up to `block`; returns by how much,
/// which is never nothing.
fn reserve(path: &Path, key: &str, block: u64) -> Result<u64, WrapError> {
    // The folder is what one lock can be on while the file in it is replaced,
    // whoever made that file.
    let lock = File::open(folder(path)).map_err(WrapError::Io)?;
    lock.lock().map_err(WrapError::Io)?;
    let mut counts = read(path).map_err(WrapError::Io)?;
    let count = counts.entry(key.to_owned()).or_default();
    let granted = block.min(MAX_WRAPS.saturating_sub(*count));
    if granted == 0 {
        return Err(WrapError::Spent);
    }
    *count += granted;
    let text = serde_json::to_vec(&counts).map_err(|error| WrapError::Io(error.into()))?;
    replace(path, &text).map_err(WrapError::Io)?;
    Ok(granted)
}

fn read(path: &Path) -> io::Result<BTreeMap<String, u64>> {
    match fs::read(path) {
        Ok(text) if text.trim_ascii().is_empty() => Ok(BTreeMap::new()),
        Ok(text) => serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
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
    #[test]
    fn any_formatting_of_the_count_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wraps");
        let text = format!("\n{{\n    \"n/k\" :{}7,\n    \"n/old\": 9\n}}\n\n", " ".repeat(100));
        for (text, count) in [(text.as_str(), 8), (" \n", 1)] {
            fs::write(&path, text).expect("writes");
            for count in [count, count + 1] {
                WrapCount::new(path.clone(), 1).take("n/k").expect("room");
                assert_eq!(read(&path).expect("is JSON")["n/k"], count);
            }
        }
        fs::write(&path, "{").expect("writes");
        assert!(matches!(WrapCount::new(path.clone(), 1).take("n/k"), Err(WrapError::Io(_))));
        assert_eq!(fs::read(&path).expect("is there"), b"{", "what isn't understood is left");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn takers_at_once_share_a_block_and_lose_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wraps");
        let counts = [WrapCount::new(path.clone(), 10), WrapCount::new(path.clone(), 10)];
        std::thread::scope(|threads| {
            for n in 0..8 {
                let count = &counts[n % 2];
                threads.spawn(move || (0..25).for_each(|_| count.take("n/k").expect("room")));
            }
        });
        assert_eq!(read(&path).expect("is JSON")["n/k"], 200);
    }
}
