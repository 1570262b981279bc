//! What stands beside an object: S3's user metadata and its own headers.

use std::collections::{BTreeMap, HashMap};

use aws_smithy_types::{DateTime, date_time::Format};

use super::{
    super::{Attributes, Condition, Failure, Target},
    Fields, Head, Inner,
};

/// What S3 calls the beginning of a label's header.
const LABEL: &str = "x-amz-meta-";
/// The headers that it keeps with an object.
const KEPT: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];

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

impl Inner {
    /// What `PutObject` is asked by its fields; `None` where one of them is none that S3 keeps.
    pub(super) fn fields<'a>(&'a self, target: &'a Target, checksum: &'a str) -> Option<Fields<'a>> {
        let mut fields = Fields::default();
        for (name, value) in &target.attributes.entries {
            fields.add([LABEL, name].concat(), value);
        }
        for (name, value) in &target.attributes.headers {
            match KEPT.into_iter().find(|kept| kept == name)? {
                // As the SDK has it: what is no date doesn't go.
                "expires" if expires(&target.attributes).is_none() => {}
                name => fields.add(name, value),
            }
        }
        if !target.attributes.headers.contains_key("content-type") {
            fields.add("content-type", "application/octet-stream");
        }
        if let Some(sse) = &self.settings.sse {
            fields.add("x-amz-server-side-encryption", sse.kind.as_str());
            fields.add("x-amz-server-side-encryption-aws-kms-key-id", &sse.arn);
        }
        if self.bucket_key() == Some(true) {
            fields.add("x-amz-server-side-encryption-bucket-key-enabled", "true");
        }
        fields.add("x-amz-checksum-crc64nvme", checksum);
        match &target.condition {
            Condition::None => {}
            Condition::Absent => fields.add("if-none-match", "*"),
            Condition::Matches(etag) => fields.add("if-match", etag.to_string()),
        }
        Some(fields)
    }
}

/// What the head of an answer to `HeadObject` or `GetObject` says.
pub(super) fn by_head(head: &Head) -> Attributes {
    let mut told = Attributes::default();
    for (name, value) in head.iter() {
        if let Some(label) = name.strip_prefix(LABEL) {
            told.entries.insert(label.to_owned(), value.to_owned());
        } else if KEPT.contains(&name) && !is_nothing(name, value) {
            told.headers.insert(name.to_owned(), value.to_owned());
        }
    }
    told
}

/// S3's own word for "nothing was said".
fn is_nothing(name: &str, value: &str) -> bool {
    name == "content-type" && value == "binary/octet-stream"
}

/// Whether S3 takes `attributes` as they are.
///
/// # Errors
/// [`Failure::Name`] for a label that it takes no header for.
pub(super) fn check(attributes: &Attributes) -> Result<(), Failure> {
    let plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if attributes.entries.iter().chain(&attributes.headers).any(|(name, value)| !plain(name) || !plain(value)) {
        return Err(Failure::Name("this class keeps labels and headers plainly, which takes printable ASCII alone"));
    }
    Ok(())
}

/// S3's user metadata of `attributes`.
pub(super) fn metadata(attributes: &Attributes) -> HashMap<String, String> {
    attributes.entries.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
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
        .filter(|(name, value)| !is_nothing(name, value))
        .collect();
    Attributes { entries, headers }
}
