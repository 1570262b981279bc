//! What stands beside an object: S3's user metadata and its own headers.

use std::collections::{BTreeMap, HashMap};

use aws_smithy_types::{DateTime, date_time::Format};

use super::super::{Attributes, Failure};

/// What `PutObject` and `CreateMultipartUpload` are asked alike: builders of the SDK's own,
/// which share no trait.
macro_rules! asked_for {
    ($call:expr, $store:expr, $target:expr, $metadata:expr) => {{
        let header = |name| $crate::store::s3::attributes::header(&$target.attributes, name);
        let (sse, key) = $store.asked();
        $call
            .bucket($store.bucket())
            .key(&$target.name)
            .set_metadata(Some($metadata))
            .set_cache_control(header("cache-control"))
            .set_content_disposition(header("content-disposition"))
            .set_content_encoding(header("content-encoding"))
            .set_content_language(header("content-language"))
            .set_content_type(header("content-type"))
            .set_expires($crate::store::s3::attributes::expires(&$target.attributes))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(key)
            .set_bucket_key_enabled($store.bucket_key())
    }};
}

/// The attributes of an answer to `HeadObject` or `GetObject`.
macro_rules! told {
    ($answer:expr) => {
        $crate::store::s3::attributes::attributes(
            $answer.metadata(),
            [
                ("cache-control", $answer.cache_control()),
                ("content-disposition", $answer.content_disposition()),
                ("content-encoding", $answer.content_encoding()),
                ("content-language", $answer.content_language()),
                ("content-type", $answer.content_type()),
                ("expires", $answer.expires_string()),
            ],
        )
    };
}

pub(super) use {asked_for, told};

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
