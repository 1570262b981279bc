//! Opens messages and hands out their bytes.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use async_trait::async_trait;

use super::{ETag, Failure, Metrics, Place, Reading, Span, Stat, disk, disk::Disk, hop, sidecar, timed};
use crate::{
    fault::Tamper,
    message::{Caps, Header},
    store::Source,
};

/// What the store reads of a message itself: its version, its suite and its id; bytes.
pub(super) const HEAD: usize = 35;

/// Spans up to this many bytes are read while the message is opened.
const SMALL: usize = 64 << 10;
/// How often a message may be replaced under a reader that looks for its sidecar.
const TRIES: usize = 16;

/// The start of a message, and what the file system knows of it.
pub(super) struct Head {
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
    /// The message's id, or why it is none of ours.
    pub(super) id: Result<[u8; 32], Failure>,
    /// Device and number.
    inode: (u64, u64),
}

impl Head {
    /// Opens the message at `path`; [`Failure::NotFound`] where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let fail = |error: io::Error| disk::failure("open", disk::MESSAGE, &error);
        let foreign = |why: &str| Failure::Damaged(Tamper::Foreign, format!("{} {why}", disk::MESSAGE));
        let (file, found) = disk::open_plain(path).map_err(fail)?.ok_or_else(|| foreign("is not a plain file"))?;
        let mut head = [0; HEAD];
        let id = match file.read_exact_at(&mut head, 0) {
            Ok(()) => id_of(&head).ok_or_else(|| match Header::parse(&head, &Caps::default()) {
                // A message in a version or a suite that isn't read is told by its name.
                Err(damage) => Failure::Damaged(damage.reason, format!("{}: {damage}", disk::MESSAGE)),
                Ok(_) => foreign("does not begin like a message"),
            }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(foreign("is too short for a message")),
            Err(error) => return Err(fail(error)),
        };
        let modified = found.modified().map_err(fail)?;
        Ok(Self { length: found.len(), modified, inode: (found.dev(), found.ino()), file, id })
    }
}

/// The id in a message's first bytes, if they are a message's.
pub(super) fn id_of(head: &[u8; HEAD]) -> Option<[u8; 32]> {
    head.strip_prefix(&[0x02, 0x04, 0x78])?.try_into().ok()
}

/// Opens what stands at `place`, and its sidecar.
pub(super) fn open(disk: &Disk, place: &Place) -> Result<(File, Stat), Failure> {
    let mut before: Option<Head> = None;
    for _ in 0..TRIES {
        let folder = disk.folder(&place.folders)?;
        let head = Head::open(&folder.join(place.message()))?;
        let id = head.id.clone()?;
        if let Some(attributes) = sidecar::read(&folder.join(place.sidecar(&id)), &id)? {
            let stat = Stat { etag: sidecar::etag(&id), length: head.length, modified: head.modified, attributes };
            return Ok((head.file, stat));
        }
        // The message may have been replaced or removed since it was opened, and
        // its sidecar after it. If the same file still stands there, the sidecar
        // is amiss. (No other takes an inode's number while it is open.)
        if before.is_some_and(|before| before.inode == head.inode) {
            let detail = "the message's sidecar is missing or another message's";
            return Err(Failure::Damaged(Tamper::Metadata, detail.into()));
        }
        before = Some(head);
    }
    Err(Failure::Unavailable("the object is replaced faster than it can be read".into()))
}

/// Opens what stands at `place` for reading; small spans are read at once.
pub(super) fn read(
    disk: &Disk,
    place: &Place,
    span: Span,
    pin: Option<&ETag>,
    metrics: Metrics,
) -> Result<Reading, Failure> {
    let (message, found) = open(disk, place)?;
    if pin.is_some_and(|pin| *pin != found.etag) {
        return Err(Failure::Precondition);
    }
    let (start, end) = match span {
        Span::Whole => (0, found.length),
        Span::Part { start, length } => (start.min(found.length), start.saturating_add(length).min(found.length)),
    };
    let mut source = FsSource { file: Arc::new(message), at: start, end, ahead: Vec::new(), taken: 0, metrics };
    if let Ok(length) = usize::try_from(end - start)
        && length <= SMALL
    {
        source.ahead = append(&source.file, Vec::new(), start, length)?;
        source.at = end;
        source.metrics.store_read_bytes.inc_by(end - start);
    }
    Ok(Reading { stat: found, source: Box::new(source) })
}

/// The bytes of one span. A `fill` that fails, or is dropped midway, takes what
/// was in the buffer with it.
struct FsSource {
    file: Arc<File>,
    /// The next byte to be read from the file.
    at: u64,
    end: u64,
    /// What was read before it was asked for, and how much of it was handed out.
    ahead: Vec<u8>,
    taken: usize,
    metrics: Metrics,
}

#[async_trait]
impl Source for FsSource {
    async fn fill(&mut self, into: &mut Vec<u8>, want: usize) -> Result<usize, Failure> {
        let ready = &self.ahead[self.taken..];
        let ready = &ready[..ready.len().min(want)];
        into.extend_from_slice(ready);
        self.taken += ready.len();
        let had = ready.len();
        let more = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(want - had);
        if more == 0 {
            return Ok(had);
        }
        let metrics = self.metrics.clone();
        timed(&metrics, "fill", async {
            let (file, buffer, at) = (Arc::clone(&self.file), std::mem::take(into), self.at);
            *into = hop(move || append(&file, buffer, at, more)).await?;
            self.at += more as u64;
            self.metrics.store_read_bytes.inc_by(more as u64);
            Ok(had + more)
        })
        .await
    }
}

/// Appends exactly `want` bytes from offset `at`. `read_to_end` reads into spare
/// capacity, so that nothing is cleared before it is overwritten.
fn append(file: &File, mut buffer: Vec<u8>, at: u64, want: usize) -> Result<Vec<u8>, Failure> {
    buffer.reserve_exact(want);
    match (At { file, at }).take(want as u64).read_to_end(&mut buffer) {
        Ok(got) if got == want => Ok(buffer),
        Ok(_) => Err(Failure::Damaged(Tamper::Length, "a message became shorter while it was read".into())),
        Err(error) => Err(disk::failure("read", disk::MESSAGE, &error)),
    }
}

/// Reads from a place of its own: a file's cursor would be shared with a read
/// whose caller has gone.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(into, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
