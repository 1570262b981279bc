//! What stands beside an object: S3's user metadata and its own headers.

use std::collections::{BTreeMap, HashMap};

use aws_smithy_types::{DateTime, date_time::Format};

use super::super::{Attributes, Failure};

/// S3's user metadata of `attributes`.
///
/// # Errors
/// [`Failure::Name`] for a label that S3 takes no header for.
pub(super) fn metadata(attributes: &Attributes) -> Result<HashMap<String, String>, Failure> {
    let plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if attributes.entries.iter().chain(&attributes.headers).any(|(name, value)| !plain(name) || !plain(value)) {
        return Err(Failure::Name("this class keeps labels and headers plainly, which takes printable ASCII alone"));
    }
    Ok(attributes.entries.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The header `name`, where it is kept plainly.
pub(super) fn header(attributes: &Attributes, name: &str) -> Option<String> {
    attributes.headers.get(name).cloned()
}

/// `Expires`, as S3's calls take it.
pub(super) fn expires(attributes: &Attributes) -> Option<DateTime> {
    DateTime::from_str(attributes.headers.get("expires")?, Format::HttpDate).ok()
}

/// What an answer said stands there.
pub(super) fn attributes(metadata: Option<&HashMap<String, String>>, headers: [(&str, Option<&str>); 6]) -> Attributes {
    let entries: BTreeMap<String, String> =
        metadata.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        // S3's own word for "nothing was said".
        .filter(|(name, value)| name != "content-type" || value != "binary/octet-stream")
        .collect();
    Attributes { entries, headers }
}
