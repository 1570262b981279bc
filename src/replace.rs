//! Reads small files whole, and replaces them with their owner and mode.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// All of the regular file at `path`, which has at most `most` bytes. What isn't a file, such
/// as a pipe or a device, is refused unread: it might never end.
///
/// # Errors
/// What the system says, or that it is too large or no file.
pub fn read(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    use io::Read as _;

    // Opening a pipe would wait for whoever writes to it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let too_large = |size: u64| io::Error::other(format!("{size} bytes, more than {most}"));
    if about.len() > most {
        return Err(too_large(about.len()));
    }
    // Room for all of it: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0) + 1));
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Puts `text` in the place of `path`, at once and to last. What is replaced hands
/// on its owner and its mode, so that whoever could read it still can; a new file
/// is its maker's alone. Whoever calls holds a lock: the file it is written to
/// first, `path` + `.new`, is always the same, so that a crash leaves one at most.
///
/// # Errors
/// What the system says, also where the owner can't be handed on.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    // A link stays: what it leads to is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let done = remove(&new).and_then(|()| write(&new, text, &path)).and_then(|()| fs::rename(&new, &path));
    if done.is_err() {
        let _ = remove(&new);
    }
    done?;
    File::open(folder(&path))?.sync_all()
}

/// The folder that `path` is in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(new: &Path, text: &[u8], old: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    match fs::metadata(old) {
        Ok(old) => {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_owner_mode_and_the_link_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, link] = ["file", "link"].map(|name| folder.path().join(name));
        replace(&path, b"one").expect("makes");
        assert_eq!(fs::metadata(&path).expect("is there").mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("sets");
        // Another's, where this process may give it away.
        let _ = std::os::unix::fs::chown(&path, Some(65_534), Some(65_534));
        fs::write(folder.path().join("file.new"), "left by a crash").expect("writes");
        std::os::unix::fs::symlink("file", &link).expect("links");
        let of = |path| fs::metadata(path).map(|found| (found.uid(), found.gid(), found.mode())).expect("is there");
        let before = of(&path);
        replace(&link, b"two").expect("replaces");
        assert_eq!(of(&path), before);
        assert_eq!(fs::read(&path).expect("reads"), b"two");
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }
}
