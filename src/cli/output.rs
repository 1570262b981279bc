//! What a command reads and writes: files, standard streams, and words for people.

#![allow(clippy::print_stderr)] // here, and nowhere else

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Read, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::Failure;
use crate::replace::folder;

/// Prints a line for people and pipes. A reader that has gone is no failure of ours.
pub(super) fn say(words: &str) {
    let _ = writeln!(io::stdout(), "{words}");
}

/// Prints what went wrong.
pub(super) fn complain(words: &str) {
    let words = words.trim_end();
    // A report of a configuration's faults has its own beginnings.
    if words.starts_with("error") || words.starts_with('\u{1b}') {
        eprintln!("{words}");
    } else {
        eprintln!("error: {words}");
    }
}

/// Whether standard error is read by eyes that want colour.
pub(super) fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// What is read: a file, or standard input.
pub(super) struct Input {
    reader: Box<dyn Read>,
    name: String,
    length: Option<u64>,
}

impl Input {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            return Ok(Self { reader: Box::new(io::stdin().lock()), name: "standard input".into(), length: None });
        };
        let name = path.display().to_string();
        let bad = |error: io::Error| Failure::input(format!("{name}: {error}"));
        let file = File::open(path).map_err(bad)?;
        let metadata = file.metadata().map_err(bad)?;
        if metadata.is_dir() {
            return Err(Failure::input(format!("{name} is a folder; name a file")));
        }
        let length = metadata.is_file().then_some(metadata.len());
        Ok(Self { reader: Box::new(file), name, length })
    }

    /// Its length in bytes, where that is known before it is read.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads until `buffer` is full or the input ends; returns how many bytes.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::new(format!("{}: {error}", self.name))),
            }
        }
        Ok(filled)
    }
}

/// What is written: a file that appears only when it is whole, or standard output.
pub(super) enum Output {
    File(BufWriter<Unseen>, PathBuf),
    Standard(io::StdoutLock<'static>),
}

impl Output {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            return Ok(Self::Standard(io::stdout().lock()));
        };
        if path.is_dir() {
            return Err(Failure::input(format!("{} is a folder; name a file", path.display())));
        }
        let folder = folder(path);
        let file = Unseen::new_in(folder).map_err(|error| Failure::input(format!("{}: {error}", folder.display())))?;
        Ok(Self::File(BufWriter::new(file), path.to_owned()))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (outcome, name) = match self {
            Self::File(file, path) => (file.write_all(bytes), path.display().to_string()),
            Self::Standard(out) => (out.write_all(bytes), "standard output".into()),
        };
        outcome.map_err(|error| Failure::new(format!("{name}: {error}")))
    }

    /// Makes what was written last. Without it a file never appears.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::File(file, path) => {
                let fail = |error: io::Error| Failure::new(format!("{}: {error}", path.display()));
                let file = file.into_inner().map_err(|error| fail(error.into_error()))?;
                file.appear(&path).map_err(fail)
            }
            Self::Standard(mut out) => out.flush().map_err(|error| Failure::new(format!("standard output: {error}"))),
        }
    }
}

/// A file that isn't visible yet. It is in the folder where it will stand, so that
/// the last step is a link or a rename. Where it has no name, a process that is
/// killed leaves nothing of it; where the system has no such files, it has a
/// temporary one, which goes with the process only if that ends by itself.
pub(super) enum Unseen {
    #[cfg(target_os = "linux")]
    Nameless(File),
    Named(NamedTempFile),
}

impl Unseen {
    fn new_in(folder: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = nameless::create(folder) {
            return Ok(Self::Nameless(file));
        }
        NamedTempFile::new_in(folder).map(Self::Named)
    }

    fn appear(self, path: &Path) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Nameless(file) => {
                file.sync_all()?;
                match nameless::link(&file, path) {
                    // Only a rename replaces what stands there.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let named = tempfile::Builder::new().make_in(folder(path), |at| nameless::link(&file, at))?;
                        named.persist(path).map_err(|error| error.error)?;
                        Ok(())
                    }
                    done => done,
                }
            }
            Self::Named(file) => {
                file.as_file().sync_all()?;
                file.persist(path).map_err(|error| error.error)?;
                Ok(())
            }
        }
    }

    fn file(&mut self) -> &mut File {
        match self {
            #[cfg(target_os = "linux")]
            Self::Nameless(file) => file,
            Self::Named(file) => file.as_file_mut(),
        }
    }
}

impl Write for Unseen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

#[cfg(target_os = "linux")]
mod nameless {
    use std::{fs::File, io, os::fd::AsRawFd as _, path::Path};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

    /// By its descriptor, which is how such a file is linked without privileges.
    const DESCRIPTORS: &str = "/proc/self/fd";

    /// `None` where the file system has no nameless files, or they could not be named.
    pub(super) fn create(folder: &Path) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = open(folder, flags, Mode::RUSR | Mode::WUSR).ok()?;
        Path::new(DESCRIPTORS).is_dir().then(|| file.into())
    }

    pub(super) fn link(file: &File, path: &Path) -> io::Result<()> {
        let own = format!("{DESCRIPTORS}/{}", file.as_raw_fd());
        Ok(linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}
