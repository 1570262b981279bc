//! Uploads that nobody finished: found by their age, and aborted.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::EncodingType;

use super::{Failure, Inner, failure, list::unescaped, upload};

impl Inner {
    /// Aborts uploads below `prefix` begun longer ago than `older_than`.
    pub(super) async fn abort_orphans(&self, prefix: &str, older_than: Duration) -> Result<u64, Failure> {
        let (mut key, mut id): (Option<String>, Option<String>) = (None, None);
        let mut aborted = 0;
        loop {
            let call = self
                .client
                .list_multipart_uploads()
                .bucket(self.bucket())
                .prefix(prefix)
                .set_key_marker(key.take())
                .set_upload_id_marker(id.take())
                .encoding_type(EncodingType::Url)
                .send();
            let page = self.timed("list_uploads", call).await.map_err(|trouble| failure(&trouble))?;
            let decoded = page.encoding_type() == Some(&EncodingType::Url);
            let readable = |name: &str| if decoded { unescaped(name) } else { Some(name.to_owned()) };
            for left in page.uploads() {
                let (Some(name), Some(id)) = (left.key().and_then(readable), left.upload_id()) else { continue };
                let begun = left.initiated().and_then(|time| SystemTime::try_from(*time).ok());
                // A time that isn't told, or lies ahead, is no age.
                let age = begun.and_then(|begun| begun.elapsed().ok());
                // The store's own word on the prefix isn't taken for an abort.
                if name.starts_with(prefix) && age.is_some_and(|age| age > older_than) {
                    // What it can't undo it has said in the log.
                    if upload::abort(self, &name, id).await {
                        let bucket = self.bucket();
                        tracing::warn!(bucket, upload = id, ?age, "an upload left unfinished was aborted");
                        aborted += 1;
                    }
                }
            }
            let next = (page.next_key_marker().and_then(readable), page.next_upload_id_marker().map(str::to_owned));
            if page.is_truncated() != Some(true) || next.0.is_none() {
                return Ok(aborted);
            }
            (key, id) = next;
        }
    }
}
