//! What is said of an object beside its bytes: type, disposition, labels.
//!
//! Sealed (the default) it is one JSON object, encrypted into one entry beside
//! the message. Plain it is what the store itself keeps, and a bucket writer's
//! to change.

use std::collections::BTreeMap;

use crate::{
    config::Metadata,
    fault::{Fault, Tamper},
    message::{Damage, Header, Layout, Opener, Sealer},
    store::Attributes,
};

/// Headers of an upload that come back with the object, in lower case.
pub const STORED_HEADERS: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
/// What labels begin with.
const LABEL: &str = "x-amz-meta-";
/// What entries of ours begin with; clients can't set them.
const OURS: &str = "sealward";
/// The version of what stands in the entries.
const FORMAT: &str = "1";
const FORMAT_ENTRY: &str = "sealward-format";
const HEADER_ENTRY: &str = "sealward-header";
const FRAME_ENTRY: &str = "sealward-frame";
const METADATA_ENTRY: &str = "sealward-metadata";
/// Bytes of JSON that fit S3's 2 KB of user metadata once sealed, in base64, beside the hints.
const MAX_JSON: usize = 1400;

/// Headers of an object by lower-case name: [`STORED_HEADERS`] and `x-amz-meta-*`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Description(BTreeMap<String, String>);

impl Description {
    /// Takes one header of an upload, if it is one that is kept.
    ///
    /// # Errors
    /// 400 for a label that is ours, a value that isn't text, or a header given twice.
    pub fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Fault> {
        let label = name.strip_prefix(LABEL);
        if label.is_none() && !STORED_HEADERS.contains(&name) {
            return Ok(());
        }
        if label.is_some_and(|label| label.starts_with(OURS)) {
            return Err(Fault::bad_request("labels that begin with x-amz-meta-sealward are reserved"));
        }
        let value = std::str::from_utf8(value)
            .map_err(|_| Fault::bad_request(format!("the header {name} isn't UTF-8 text")))?;
        if self.0.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Fault::bad_request(format!("the header {name} stands there twice")));
        }
        Ok(())
    }

    /// The value of the header `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets the header `name`.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Every header, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Checks that what is said fits beside an object.
    ///
    /// # Errors
    /// 400 that names the limit.
    pub fn check(&self) -> Result<(), Fault> {
        self.json().map(|_| ())
    }

    /// What stands beside the message of `sealer`.
    ///
    /// # Errors
    /// 400 when it doesn't fit.
    pub(super) fn seal(&self, how: Metadata, sealer: &Sealer) -> Result<Attributes, Fault> {
        let json = self.json()?;
        let mut attributes = Attributes::default();
        attributes.entries.insert(FORMAT_ENTRY.into(), FORMAT.into());
        attributes.entries.insert(HEADER_ENTRY.into(), sealer.header().len().to_string());
        attributes.entries.insert(FRAME_ENTRY.into(), sealer.header().frame_length().to_string());
        match how {
            Metadata::Sealed => {
                let sealed = sealer.seal_metadata(&json).map_err(Fault::internal)?;
                attributes.entries.insert(METADATA_ENTRY.into(), sealed);
            }
            Metadata::Plain => {
                for (name, value) in &self.0 {
                    match name.strip_prefix(LABEL) {
                        Some(label) => attributes.entries.insert(label.to_owned(), value.clone()),
                        None => attributes.headers.insert(name.clone(), value.clone()),
                    };
                }
            }
        }
        Ok(attributes)
    }

    /// Reads what stands beside the message of `opener` back.
    ///
    /// # Errors
    /// [`Damage`] for anything that isn't what [`Self::seal`] made for it.
    pub(super) fn open(how: Metadata, attributes: &Attributes, opener: &Opener) -> Result<Self, Damage> {
        let damage = |what: &str| Damage::new(Tamper::Metadata, what);
        if how == Metadata::Plain && attributes.entries.contains_key(METADATA_ENTRY) {
            return Err(damage("an object of plain metadata has sealed metadata too"));
        }
        match how {
            Metadata::Sealed => {
                let sealed =
                    attributes.entries.get(METADATA_ENTRY).ok_or_else(|| damage("the sealed metadata is missing"))?;
                let json = opener.open_metadata(sealed)?;
                serde_json::from_str(json.expose())
                    .map(Self)
                    .map_err(|_| damage("the sealed metadata isn't what this version writes"))
            }
            Metadata::Plain => {
                let labels = attributes
                    .entries
                    .iter()
                    .filter(|(name, _)| !name.starts_with(OURS))
                    .map(|(name, value)| (format!("{LABEL}{name}"), value.clone()));
                let headers = attributes
                    .headers
                    .iter()
                    .filter(|(name, _)| STORED_HEADERS.contains(&name.as_str()))
                    .map(|(name, value)| (name.clone(), value.clone()));
                Ok(Self(labels.chain(headers).collect()))
            }
        }
    }

    fn json(&self) -> Result<Vec<u8>, Fault> {
        let json = serde_json::to_vec(&self.0).map_err(Fault::internal)?;
        if json.len() > MAX_JSON {
            return Err(Fault::bad_request(format!(
                "the object's headers and labels take {} bytes as JSON; {MAX_JSON} can be kept",
                json.len()
            )));
        }
        Ok(json)
    }
}

impl std::fmt::Debug for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // As private as the object's bytes.
        f.debug_struct("Description").field("entries", &self.0.len()).finish()
    }
}

/// The layout that the hints claim, for a list that reads no header.
pub(super) fn hinted_layout(attributes: &Attributes) -> Option<Layout> {
    if attributes.entries.get(FORMAT_ENTRY)? != FORMAT {
        return None;
    }
    let header = attributes.entries.get(HEADER_ENTRY)?.parse().ok()?;
    let frame = attributes.entries.get(FRAME_ENTRY)?.parse().ok().filter(|frame| *frame > 0)?;
    Some(Layout::new(header, frame))
}

/// The entries of ours must be there, agree with the header, and be all there are.
pub(super) fn check_hints(attributes: &Attributes, header: &Header) -> Result<(), Damage> {
    let damage = |what: String| Err(Damage::new(Tamper::Metadata, what));
    let (length, frame) = (header.len().to_string(), header.frame_length().to_string());
    for (entry, expected) in [(FORMAT_ENTRY, FORMAT), (HEADER_ENTRY, length.as_str()), (FRAME_ENTRY, frame.as_str())] {
        match attributes.entries.get(entry) {
            None => return damage(format!("the entry {entry} is missing")),
            Some(value) if value != expected => return damage(format!("the entry {entry} disagrees with the header")),
            Some(_) => {}
        }
    }
    let known = |name: &str| [FORMAT_ENTRY, HEADER_ENTRY, FRAME_ENTRY, METADATA_ENTRY].contains(&name);
    match attributes.entries.keys().find(|name| name.starts_with(OURS) && !known(name)) {
        Some(name) => damage(format!("the entry {name} is none of ours")),
        None => Ok(()),
    }
}
