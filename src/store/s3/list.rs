//! Listing, in the order of the names' bytes.

use std::time::SystemTime;

use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

use super::{super::Item, Failure, Inner, Page, failure, unquoted};

/// The most that S3 gives at once.
const MOST: usize = 1000;

impl Inner {
    pub(super) async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, Failure> {
        let call = self
            .client
            .list_objects_v2()
            .bucket(self.bucket())
            .prefix(prefix)
            .set_start_after(after.map(str::to_owned))
            .max_keys(i32::try_from(limit.min(MOST)).unwrap_or(1000))
            // A name may hold what XML can't.
            .encoding_type(EncodingType::Url)
            .send();
        let page = self.timed("list", call).await.map_err(|trouble| failure(&trouble))?;
        let decoded = page.encoding_type() == Some(&EncodingType::Url);
        let items = page
            .contents()
            .iter()
            .filter_map(|object| {
                let name = object.key()?;
                let name = if decoded { unescaped(name)? } else { name.to_owned() };
                let modified = object.last_modified().and_then(|time| SystemTime::try_from(*time).ok());
                Some(Item {
                    name,
                    etag: unquoted(object.e_tag()?),
                    length: u64::try_from(object.size()?).ok()?,
                    modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
                })
            })
            .collect();
        Ok(Page { items, more: page.is_truncated() == Some(true) })
    }
}

/// S3 writes a space as a plus there.
pub(super) fn unescaped(name: &str) -> Option<String> {
    let name = name.replace('+', " ");
    percent_decode_str(&name).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
