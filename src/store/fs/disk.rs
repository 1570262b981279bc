//! The folder itself: its lock, its subfolders, its temporary files, and what
//! the system's errors mean.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    Failure, OpenError,
    names::{Place, below},
};
use crate::fault::Tamper;

/// What failures call an object's files: by no path, which tells the object's name.
pub(super) const MESSAGE: &str = "the message file";
pub(super) const SIDECAR: &str = "its sidecar";
pub(super) const FOLDER: &str = "a folder of the object";
const UPLOAD: &str = "an unfinished upload's file";

/// An open folder.
pub(super) struct Disk {
    /// The folder, as an absolute path.
    pub(super) root: PathBuf,
    /// Where files are before they are visible.
    pub(super) uploads: PathBuf,
    next: AtomicU64,
    /// Folders that are being made, each with how many are at it: they may be
    /// there and not yet last.
    making: Mutex<HashMap<PathBuf, usize>>,
    _lock: File,
}

impl Disk {
    /// Makes the folder where it isn't there, and takes its lock.
    pub(super) fn open(root: &Path) -> Result<Self, OpenError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(root).map_err(OpenError::io("make the folder", root))?;
        let root = root.canonicalize().map_err(OpenError::io("open the folder", root))?;
        let own = root.join(".sealward");
        let uploads = own.join("uploads");
        for folder in [&own, &uploads] {
            builder.create(folder).map_err(OpenError::io("make the folder", folder))?;
            let kind = fs::symlink_metadata(folder).map_err(OpenError::io("look at the folder", folder))?;
            if !kind.is_dir() {
                let error = io::Error::from(io::ErrorKind::NotADirectory);
                return Err(OpenError::io("use the folder", folder)(error));
            }
        }
        let path = own.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(OpenError::io("open the lock", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Held { root }),
            Err(TryLockError::Error(error)) => return Err(OpenError::io("take the lock", &path)(error)),
        }
        if fs::symlink_metadata(own.join("LOCK")).is_ok() {
            return Err(OpenError::CaseBlind { root });
        }
        Ok(Self { root, uploads, next: AtomicU64::new(0), making: Mutex::default(), _lock: lock })
    }

    /// The folder, which another may have, for looking alone.
    pub(super) fn beside(root: &Path) -> Result<Self, OpenError> {
        let root = root.canonicalize().map_err(OpenError::io("open the folder", root))?;
        let uploads = root.join(".sealward").join("uploads");
        let lock = File::open(&root).map_err(OpenError::io("open the folder", &root))?;
        Ok(Self { root, uploads, next: AtomicU64::new(0), making: Mutex::default(), _lock: lock })
    }

    /// The folder of `folders` if all of it is there, [`Failure::NotFound`] if
    /// not. A link is not a folder: what it leads to isn't ours.
    pub(super) fn folder(&self, folders: &[String]) -> Result<PathBuf, Failure> {
        let mut path = self.root.clone();
        for folder in folders {
            path.push(folder);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(found) if found.is_symlink() => return Err(link()),
                Ok(_) => return Err(Failure::NotFound),
                Err(error) => return Err(failure("look at", FOLDER, &error)),
            }
        }
        Ok(path)
    }

    /// The folder of `folders`; makes what isn't there, and makes it last.
    /// [`Failure::NotFound`] when a delete took away what this found.
    pub(super) fn make_folder(&self, folders: &[String]) -> Result<PathBuf, Failure> {
        let mut path = self.root.clone();
        for folder in folders {
            let parent = path.clone();
            path.push(folder);
            let found = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.make(&parent, &path)?;
                    fs::symlink_metadata(&path)
                }
                found => found,
            };
            match found {
                // Whoever makes it just now may not have come to the sync.
                Ok(found) if found.is_dir() => {
                    if self.making().contains_key(&path) {
                        sync_folder(&parent).map_err(|error| failure("sync", FOLDER, &error))?;
                    }
                }
                Ok(found) if found.is_symlink() => return Err(link()),
                Ok(_) => return Err(Failure::Other(format!("something is in the way of {FOLDER}"))),
                Err(error) => return Err(failure("look at", FOLDER, &error)),
            }
        }
        Ok(path)
    }

    /// Makes `path`, unless another was faster, and makes it last. A failed sync
    /// leaves the folder noted, so that the next to find it syncs again.
    fn make(&self, parent: &Path, path: &Path) -> Result<(), Failure> {
        *self.making().entry(path.to_owned()).or_default() += 1;
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                self.made(path);
                return Err(failure("make", FOLDER, &error));
            }
            _ => sync_folder(parent).map_err(|error| failure("sync", FOLDER, &error))?,
        }
        self.made(path);
        Ok(())
    }

    fn made(&self, path: &Path) {
        let mut making = self.making();
        if let Some(count) = making.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                making.remove(path);
            }
        }
    }

    pub(super) fn making(&self) -> MutexGuard<'_, HashMap<PathBuf, usize>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the place's folders from the innermost up to the first that isn't
    /// empty. A folder that stays for any other reason does no harm.
    pub(super) fn prune(&self, place: &Place) {
        for depth in (1..=place.folders.len()).rev() {
            if fs::remove_dir(below(&self.root, &place.folders[..depth])).is_err() {
                break;
            }
        }
    }
}

/// A file that isn't visible yet. It goes with its last owner unless it was published.
pub(super) struct Temp {
    file: File,
    path: PathBuf,
    /// Whether it is still at `path`.
    there: AtomicBool,
    /// The lock is not let go while a file of ours is about.
    _disk: Arc<Disk>,
}

impl Temp {
    /// An empty file. Nobody else makes files in a locked folder, and a crash's
    /// are swept before the first, so that a count is name enough.
    pub(super) fn create(disk: &Arc<Disk>) -> Result<Self, Failure> {
        let path = disk.uploads.join(format!("{:016x}", disk.next.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            // NotFound would read as "no such object"; here the store itself is gone.
            .map_err(|error| gone(failure("make", UPLOAD, &error)))?;
        Ok(Self { file, path, there: AtomicBool::new(true), _disk: Arc::clone(disk) })
    }

    /// Writes all of `bytes` at `offset`; on failure the file is removed.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Failure> {
        self.file.write_all_at(bytes, offset).map_err(|error| self.fail("write", &error))
    }

    /// Fills `into` from the file's start; `false` when the file is shorter.
    pub(super) fn head(&self, into: &mut [u8]) -> Result<bool, Failure> {
        match self.file.read_exact_at(into, 0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(self.fail("read", &error)),
        }
    }

    /// Bytes written so far, as the file system counts them.
    pub(super) fn length(&self) -> Result<u64, Failure> {
        self.file.metadata().map(|found| found.len()).map_err(|error| self.fail("look at", &error))
    }

    /// Brings it to the disk; on failure the file is removed, because what a
    /// failed sync left in it can't be known.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| self.fail("sync", &error))
    }

    /// Makes it visible as `path`.
    pub(super) fn rename(&self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.there.store(false, Ordering::Release);
        Ok(())
    }

    /// Removes it, unless that or a rename was done before; says in the log when
    /// it can't be.
    pub(super) fn remove(&self) {
        if !self.there.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.path.display(), %error, "an unfinished upload is left until the next start");
        }
    }

    fn fail(&self, tried: &str, error: &io::Error) -> Failure {
        self.remove();
        gone(failure(tried, UPLOAD, error))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Opens a plain file; `None` when it is a link or anything else. Never waits,
/// not even for a pipe's other end.
pub(super) fn open_plain(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        // A link, or a socket or the like.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, found)))
}

#[cfg(test)]
thread_local! {
    /// The folders this thread synced, each with how many entries it had then.
    pub(super) static SYNCED: std::cell::RefCell<Vec<(PathBuf, usize)>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Makes a folder's entries last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    SYNCED.with_borrow_mut(|synced| synced.push((path.to_owned(), fs::read_dir(path).map_or(0, Iterator::count))));
    File::open(path)?.sync_all()
}

/// What an error of the system with `what` means to whoever uses the store. The
/// text is for the log, which may not be told names: `what` is a kind of file.
pub(super) fn failure(tried: &str, what: &'static str, error: &io::Error) -> Failure {
    let detail = || format!("could not {tried} {what}: {error}");
    match error.kind() {
        io::ErrorKind::NotFound => Failure::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::NoSpace,
        io::ErrorKind::InvalidFilename => Failure::Name("its path is longer than the file system takes"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Failure::Denied(detail()),
        io::ErrorKind::OutOfMemory
        | io::ErrorKind::StaleNetworkFileHandle
        | io::ErrorKind::TimedOut
        | io::ErrorKind::ResourceBusy => Failure::Unavailable(detail()),
        _ => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Failure::Unavailable(detail()),
            _ => Failure::Other(detail()),
        },
    }
}

/// A failure where "not found" doesn't mean the object.
pub(super) fn gone(failure: Failure) -> Failure {
    match failure {
        Failure::NotFound => Failure::Other("the store's own folder was removed while it was open".into()),
        failure => failure,
    }
}

fn link() -> Failure {
    Failure::Damaged(Tamper::Foreign, format!("{FOLDER} is a link; the store follows none"))
}
