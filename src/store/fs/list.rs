//! Lists names in the order of their bytes.
//!
//! A folder's entries are ordered with the slash of folders in place, and then
//! gone through depth first: that is the order of whole names. What a folder
//! holds is read in passes that keep no more entries than the page has room
//! for, so that memory is bounded by the page and the depth of the names.

use std::{
    collections::BinaryHeap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Disk, ETag, Failure, Page, disk,
    names::{self, LONGEST, SEALED},
    read::Head,
    sidecar,
};
use crate::store::Item;

/// Up to `limit` names that begin with `prefix` and sort after `after`.
pub(super) fn page(disk: &Disk, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, Failure> {
    let above = &prefix[..prefix.rfind('/').map_or(0, |slash| slash + 1)];
    let folder = match disk.folder(&names::folders(above)) {
        Ok(folder) => folder,
        Err(Failure::NotFound | Failure::Name(_)) => return Ok(Page::default()),
        Err(failure) => return Err(failure),
    };
    let mut walk = Walk { prefix, after, room: limit.saturating_add(1), items: Vec::new() };
    walk.folder(&folder, above)?;
    let mut items = walk.items;
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

struct Walk<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    /// One more than the page takes, which says whether more follow.
    room: usize,
    items: Vec<Item>,
}

/// An entry of a folder, ordered by the name it stands for.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// The segment; a folder's with its slash.
    name: String,
    path: PathBuf,
}

impl Walk<'_> {
    /// Adds what is in `folder`, whose names begin with `base`.
    fn folder(&mut self, folder: &Path, base: &str) -> Result<(), Failure> {
        let mut pass = Pass { base, room: 0, from: None, heap: BinaryHeap::new(), cut: false };
        loop {
            pass.room = self.room - self.items.len();
            pass.cut = false;
            self.gather(folder, &mut Vec::new(), &mut Vec::new(), &mut pass)?;
            for entry in std::mem::take(&mut pass.heap).into_sorted_vec() {
                let name = format!("{base}{}", entry.name);
                if entry.name.ends_with('/') {
                    self.folder(&entry.path, &name)?;
                } else {
                    self.items.extend(item(name, &entry.path)?);
                }
                if self.items.len() >= self.room {
                    return Ok(());
                }
                pass.from = Some(entry.name);
            }
            if !pass.cut {
                return Ok(());
            }
        }
    }

    /// Offers the entries of `folder` to `pass`. Of a long segment, `pieces` are
    /// those on the way here and `start` what they say; its entries belong among
    /// those of the folder it begins in.
    fn gather(
        &self,
        folder: &Path,
        pieces: &mut Vec<String>,
        start: &mut Vec<u8>,
        pass: &mut Pass<'_>,
    ) -> Result<(), Failure> {
        let fail = |error: io::Error| disk::failure("list", "a folder of the store", &error);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // Emptied and removed since it was seen.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            let piece = if kind.is_file() { file.strip_suffix(SEALED) } else { kind.is_dir().then_some(file) };
            let Some(piece) = piece else { continue };
            let Some((bytes, continued)) = names::decoded(piece) else { continue };
            if continued && kind.is_file() {
                continue;
            }
            let length = start.len();
            start.extend(bytes);
            pieces.push(piece.to_owned());
            if continued {
                if start.len() <= LONGEST && self.may_hold(&[pass.base.as_bytes(), start].concat()) {
                    self.gather(&entry.path(), pieces, start, pass)?;
                }
            } else if names::encoded(start, kind.is_dir()) == *pieces
                && let Ok(segment) = str::from_utf8(start)
            {
                let name = if kind.is_dir() { format!("{segment}/") } else { segment.to_owned() };
                if self.wants(&format!("{}{name}", pass.base), kind.is_dir()) {
                    pass.offer(Entry { name, path: entry.path() });
                }
            }
            start.truncate(length);
            pieces.pop();
        }
        Ok(())
    }

    fn wants(&self, name: &str, folder: bool) -> bool {
        if folder {
            return name.len() <= LONGEST && self.may_hold(name.as_bytes());
        }
        !name.is_empty() && name.starts_with(self.prefix) && self.after.is_none_or(|after| name > after)
    }

    /// Whether a name that is wanted may begin with `start`.
    fn may_hold(&self, start: &[u8]) -> bool {
        let prefix = self.prefix.as_bytes();
        let after = self.after.map(str::as_bytes);
        (start.starts_with(prefix) || prefix.starts_with(start))
            && after.is_none_or(|after| start > after || after.starts_with(start))
    }
}

/// One reading of a folder: the first entries after `from`, as many as there is room for.
struct Pass<'a> {
    base: &'a str,
    room: usize,
    from: Option<String>,
    heap: BinaryHeap<Entry>,
    /// Whether there were more.
    cut: bool,
}

impl Pass<'_> {
    fn offer(&mut self, entry: Entry) {
        if self.from.as_ref().is_some_and(|from| entry.name <= *from) {
            return;
        }
        self.heap.push(entry);
        if self.heap.len() > self.room {
            self.heap.pop();
            self.cut = true;
        }
    }
}

/// The line of the message at `path`; `None` when it has gone since it was seen.
/// One that can't be read is listed all the same, so that it can be found.
fn item(name: String, path: &Path) -> Result<Option<Item>, Failure> {
    let damaged = || ETag("damaged".into());
    match Head::open(path) {
        Ok(head) => {
            let etag = head.id.map_or_else(|_| damaged(), |id| sidecar::etag(&id));
            Ok(Some(Item { name, etag, length: head.length, modified: head.modified }))
        }
        Err(Failure::NotFound) => Ok(None),
        Err(failure @ Failure::Unavailable(_)) => Err(failure),
        Err(_) => Ok(fs::symlink_metadata(path).ok().map(|found| Item {
            name,
            etag: damaged(),
            length: found.len(),
            modified: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        })),
    }
}
