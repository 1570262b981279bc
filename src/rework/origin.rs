//! Where plain objects come from: a folder, or a bucket.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::io::AsyncReadExt as _;

use super::{PAGE, body::fault, passing, patient};
use crate::{
    config::Class,
    fault::{Fault, Kind},
    objects::Description,
    store::{Attributes, Failure, Item, Reading, Source, Span, Store},
};

/// Plain objects, one after the other.
#[async_trait]
pub trait Origin: Send {
    /// The next; none after the last.
    ///
    /// # Errors
    /// When it can't be told what is there.
    async fn next(&mut self) -> Result<Option<Box<dyn Plain>>, Fault>;
}

/// One plain object.
#[async_trait]
pub trait Plain: Send + Sync {
    /// Its name, from the origin's root.
    fn name(&self) -> &str;

    /// Its bytes from the beginning, and what is said of it that `class` takes.
    ///
    /// # Errors
    /// When it can't be read, or can't be adopted as it is.
    async fn open(&self, class: &Class) -> Result<Opened, Fault>;
}

/// A plain object, open.
pub struct Opened {
    /// What is said of it.
    pub description: Description,
    /// Bytes in all.
    pub length: u64,
    /// The bytes.
    pub source: Box<dyn Source>,
}

/// The files of a folder and of the folders in it.
pub struct Folder {
    root: PathBuf,
    /// The folders we are in, the innermost last.
    open: Vec<fs::ReadDir>,
}

impl Folder {
    /// The folder `root`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: root.to_owned(), open: vec![fs::read_dir(root)?] })
    }

    fn step(&mut self) -> Option<File> {
        loop {
            let entry = match self.open.last_mut()?.next() {
                None => {
                    self.open.pop();
                    continue;
                }
                Some(Ok(entry)) => entry,
                Some(Err(error)) => return Some(File::bad(&self.root, &self.root, error.to_string())),
            };
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => match fs::read_dir(&path) {
                    Ok(folder) => self.open.push(folder),
                    Err(error) => return Some(File::bad(&self.root, &path, error.to_string())),
                },
                Ok(kind) if kind.is_file() => return Some(File::new(&self.root, path)),
                // A link may lead out of the folder: who wants what it points to names that.
                Ok(_) => return Some(File::bad(&self.root, &path, "it is no regular file".into())),
                Err(error) => return Some(File::bad(&self.root, &path, error.to_string())),
            }
        }
    }
}

#[async_trait]
impl Origin for Folder {
    async fn next(&mut self) -> Result<Option<Box<dyn Plain>>, Fault> {
        Ok(self.step().map(|file| Box::new(file) as Box<dyn Plain>))
    }
}

struct File {
    name: String,
    path: PathBuf,
    bad: Option<String>,
}

impl File {
    fn new(root: &Path, path: PathBuf) -> Self {
        let below = path.strip_prefix(root).unwrap_or(&path);
        match below.to_str() {
            Some(name) => Self { name: name.to_owned(), path, bad: None },
            None => Self::bad(root, &path, "its name isn't UTF-8".into()),
        }
    }

    fn bad(root: &Path, path: &Path, why: String) -> Self {
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        // A name that is empty would pass for a folder's.
        let name = if name.is_empty() { ".".to_owned() } else { name };
        Self { name, path: path.to_owned(), bad: Some(why) }
    }
}

#[async_trait]
impl Plain for File {
    fn name(&self) -> &str {
        &self.name
    }

    async fn open(&self, _: &Class) -> Result<Opened, Fault> {
        let unread = |why: &str| Fault::new(Kind::Internal, "the file could not be read").because(why);
        if let Some(why) = &self.bad {
            return Err(unread(why));
        }
        let file = tokio::fs::File::open(&self.path).await.map_err(|error| unread(&error.to_string()))?;
        let length = file.metadata().await.map_err(|error| unread(&error.to_string()))?.len();
        Ok(Opened { description: Description::default(), length, source: Box::new(FileSource(file)) })
    }
}

struct FileSource(tokio::fs::File);

#[async_trait]
impl Source for FileSource {
    async fn fill(&mut self, into: &mut Vec<u8>, want: usize) -> Result<usize, Failure> {
        let mut part = (&mut self.0).take(want as u64);
        part.read_to_end(into).await.map_err(|error| Failure::Other(error.to_string()))
    }
}

/// The objects of a store below a prefix.
pub struct Stored {
    store: Arc<dyn Store>,
    prefix: String,
    /// A prefix below it that isn't gone through: the class's own.
    except: Option<String>,
    page: VecDeque<Item>,
    after: Option<String>,
    more: bool,
}

impl Stored {
    /// What `store` holds below `prefix`, but not below `except`.
    pub fn new(store: Arc<dyn Store>, prefix: String, except: Option<String>) -> Self {
        Self { store, prefix, except, page: VecDeque::new(), after: None, more: true }
    }

    fn wants(&self, name: &str) -> bool {
        self.except.as_ref().is_none_or(|except| !name.starts_with(except))
    }
}

#[async_trait]
impl Origin for Stored {
    async fn next(&mut self) -> Result<Option<Box<dyn Plain>>, Fault> {
        loop {
            while let Some(item) = self.page.pop_front() {
                if self.wants(&item.name) {
                    let (store, prefix) = (Arc::clone(&self.store), self.prefix.len());
                    return Ok(Some(Box::new(Object { store, name: item.name, prefix })));
                }
            }
            if !self.more {
                return Ok(None);
            }
            let (store, prefix, after) = (&self.store, self.prefix.as_str(), self.after.as_deref());
            let page =
                patient(passing, |_| async move { store.list(prefix, after, PAGE).await.map_err(fault) }).await?;
            self.more = page.more && !page.items.is_empty();
            self.after = page.items.last().map(|item| item.name.clone());
            self.page = page.items.into();
        }
    }
}

struct Object {
    store: Arc<dyn Store>,
    /// In the store.
    name: String,
    /// Bytes of it that are the origin's prefix.
    prefix: usize,
}

#[async_trait]
impl Plain for Object {
    fn name(&self) -> &str {
        &self.name[self.prefix..]
    }

    async fn open(&self, class: &Class) -> Result<Opened, Fault> {
        let stat = self.store.stat(&self.name).await.map_err(fault)?.ok_or_else(|| fault(Failure::NotFound))?;
        let description = described(&stat.attributes, class.allow_public_cache)?;
        if stat.length == 0 {
            return Ok(Opened { description, length: 0, source: Box::new(Nothing) });
        }
        let Reading { stat, source } =
            self.store.read(&self.name, Span::Whole, Some(&stat.etag)).await.map_err(fault)?;
        Ok(Opened { description, length: stat.length, source })
    }
}

struct Nothing;

#[async_trait]
impl Source for Nothing {
    async fn fill(&mut self, _: &mut Vec<u8>, _: usize) -> Result<usize, Failure> {
        Ok(0)
    }
}

/// What the origin says of the object, as an upload would have said it.
///
/// # Errors
/// 400 for labels of ours: what bears them is sealed already.
fn described(attributes: &Attributes, public_cache: bool) -> Result<Description, Fault> {
    let mut description = Description::default();
    for (name, value) in &attributes.headers {
        let words = |value: &str| value.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
        let kept = match name.as_str() {
            // How it was once sent, not what it is.
            "content-encoding" => {
                let codings = words(value).into_iter().filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked"));
                codings.collect::<Vec<_>>().join(", ")
            }
            "cache-control" if !public_cache => {
                let rules = words(value).into_iter().filter(|rule| !rule.eq_ignore_ascii_case("public"));
                rules.collect::<Vec<_>>().join(", ")
            }
            _ => value.clone(),
        };
        if !kept.is_empty() {
            description.take(name, kept.as_bytes())?;
        }
    }
    for (name, value) in &attributes.entries {
        description.take(&format!("x-amz-meta-{name}"), value.as_bytes())?;
    }
    description.check()?;
    Ok(description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_an_object_is_kept() {
        let mut attributes = Attributes::default();
        for (name, value) in
            [("content-type", "text/plain"), ("content-encoding", "aws-chunked"), ("cache-control", "public, no-cache")]
        {
            attributes.headers.insert(name.into(), value.into());
        }
        attributes.entries.insert("owner".into(), "me".into());
        let said = described(&attributes, false).expect("is kept");
        let said: Vec<_> = said.iter().collect();
        let expected = [("cache-control", "no-cache"), ("content-type", "text/plain"), ("x-amz-meta-owner", "me")];
        assert_eq!(said, expected);
        attributes.entries.insert("sealward-format".into(), "1".into());
        assert!(described(&attributes, false).is_err(), "it is sealed already");
    }
}
