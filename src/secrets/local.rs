//! Secrets of this machine: a file, a variable of the environment.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;

use super::{MOST, Refusal, Source, Version};
use crate::{replace, secret::SecretText};

/// A file's content, without its last line feed. The content is compared, not its time.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    place: String,
    last: Mutex<Option<SecretText>>,
    count: AtomicU64,
}

impl File {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            place: path.display().to_string(),
            last: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    fn refusal(&self, what: impl Into<String>) -> Refusal {
        Refusal::new(&self.place, what)
    }
}

#[async_trait]
impl Source for File {
    fn place(&self) -> &str {
        &self.place
    }

    async fn fetch(&self, known: Option<&str>) -> Result<Option<Version>, Refusal> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let (value, since) = read
            .map_err(|_| self.refusal("the reading task ended"))?
            .map_err(|error| self.refusal(format!("can't be read ({error}); check the path and its permissions")))?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let same = last.as_ref().is_some_and(|last| last.expose() == value.expose());
        if same && known.is_some() {
            return Ok(None);
        }
        let previous = if same { None } else { last.replace(value.clone()) };
        let count =
            if same { self.count.load(Ordering::Relaxed) } else { self.count.fetch_add(1, Ordering::Relaxed) + 1 };
        Ok(Some(Version { id: count.to_string(), value, previous, since }))
    }
}

fn read(path: &Path) -> io::Result<(SecretText, SystemTime)> {
    let since = std::fs::metadata(path)?.modified().unwrap_or_else(|_| SystemTime::now());
    let bytes = replace::read(path, MOST as u64 + 2)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok((SecretText::new(text.to_owned()), since))
}

/// A variable of the environment: the same for as long as the process runs.
#[derive(Debug)]
pub(super) struct Env {
    name: String,
}

impl Env {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

#[async_trait]
impl Source for Env {
    fn place(&self) -> &str {
        &self.name
    }

    async fn fetch(&self, known: Option<&str>) -> Result<Option<Version>, Refusal> {
        if known.is_some() {
            return Ok(None);
        }
        let value = std::env::var(&self.name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
            Refusal::new(&format!("${}", self.name), "is not set to UTF-8 text; set it where sealward is started")
        })?;
        let (value, since) = (SecretText::new(value), SystemTime::now());
        Ok(Some(Version { id: "environment".into(), value, previous: None, since }))
    }
}
