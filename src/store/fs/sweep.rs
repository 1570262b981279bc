//! Removes what a crash left behind.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirEntry, FileType},
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
};

use super::{Disk, Failure, OpenError, names, read::Head, sidecar};

/// Removes every unfinished upload, and every sidecar that isn't the one of the
/// message beside it. A message is never touched, nor is the sidecar of one that
/// can't be read. Whoever calls holds the folder's lock.
pub(super) fn sweep(disk: &Disk) -> Result<(), OpenError> {
    let mut removed = 0_u64;
    each(&disk.uploads, |path, _, kind| {
        removed += 1;
        if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    })?;
    let mut left = vec![disk.root.clone()];
    while let Some(folder) = left.pop() {
        let mut names = Names::default();
        each(&folder, |path, name, kind| {
            if kind.is_file() {
                names.see(name);
            } else if kind.is_dir() && names::decoded(name).is_some() {
                left.push(path.to_owned());
            }
            Ok(())
        })?;
        removed += remove_stale(&folder, &names)?;
    }
    if removed > 0 {
        tracing::info!(removed, root = %disk.root.display(), "removed what an earlier run left unfinished");
    }
    Ok(())
}

/// Which stems of a folder have other than one message and one sidecar: only
/// those can have stale ones, and only their messages are opened. Stems are held
/// as hashes, because a folder may have millions; two that share one are looked
/// at for nothing.
#[derive(Default)]
struct Names {
    state: RandomState,
    seen: HashMap<u64, Seen>,
}

#[derive(Default)]
struct Seen {
    message: bool,
    sidecars: u8,
}

impl Names {
    fn see(&mut self, name: &str) {
        if let Some((stem, _)) = names::parse_sidecar(name) {
            let seen = self.entry(stem);
            seen.sidecars = seen.sidecars.saturating_add(1);
        } else if let Some(stem) = name.strip_suffix(names::SEALED) {
            self.entry(stem).message = true;
        }
    }

    fn entry(&mut self, stem: &str) -> &mut Seen {
        self.seen.entry(self.state.hash_one(stem)).or_default()
    }

    fn suspects(&self) -> HashSet<u64> {
        let suspect = |seen: &Seen| seen.sidecars > 1 || (seen.sidecars > 0 && !seen.message);
        self.seen.iter().filter(|(_, seen)| suspect(seen)).map(|(hash, _)| *hash).collect()
    }
}

fn remove_stale(folder: &Path, names: &Names) -> Result<u64, OpenError> {
    let suspects = names.suspects();
    let mut stale = Vec::new();
    if suspects.is_empty() {
        return Ok(0);
    }
    each(folder, |path, name, kind| {
        if let Some((stem, half)) = names::parse_sidecar(name).filter(|_| kind.is_file())
            && suspects.contains(&names.state.hash_one(stem))
            && names::decoded(stem).is_some()
            && is_stale(&folder.join(format!("{stem}{}", names::SEALED)), half)
        {
            stale.push(path.to_owned());
        }
        Ok(())
    })?;
    for path in &stale {
        fs::remove_file(path).map_err(OpenError::io("remove the leftover", path))?;
    }
    Ok(stale.len() as u64)
}

fn is_stale(message: &Path, half: &str) -> bool {
    match Head::open(message) {
        Ok(head) => head.id.is_ok_and(|id| sidecar::half(&id) != half),
        Err(failure) => failure == Failure::NotFound,
    }
}

/// Calls `visit` with the path, name and kind of each entry whose name is text.
fn each(folder: &Path, mut visit: impl FnMut(&PathBuf, &str, FileType) -> io::Result<()>) -> Result<(), OpenError> {
    let fail = OpenError::io("read the folder", folder);
    let mut entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Err(fail(error)),
    };
    entries.try_for_each(|entry| {
        let entry: DirEntry = entry.map_err(OpenError::io("read the folder", folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { return Ok(()) };
        let kind = entry.file_type().map_err(OpenError::io("look at", &path))?;
        visit(&path, name, kind).map_err(OpenError::io("remove the leftover", &path))
    })
}
