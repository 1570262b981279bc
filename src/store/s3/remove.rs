//! Removing: a marker, or every version.

use super::{Condition, Failure, Inner, failure};

impl Inner {
    pub(super) async fn delete(&self, name: &str, condition: &Condition) -> Result<(), Failure> {
        // S3 answers a removal of nothing as if it had been something.
        let Some(there) = self.stat(name).await? else { return Err(Failure::NotFound) };
        let if_match = match condition {
            Condition::None => None,
            Condition::Absent => return Err(Failure::Precondition),
            Condition::Matches(etag) if *etag != there.etag => return Err(Failure::Precondition),
            Condition::Matches(etag) => Some(etag.to_string()),
        };
        let call = self.client.delete_object().bucket(self.bucket()).key(name).set_if_match(if_match).send();
        self.timed("delete", call).await.map_err(|trouble| failure(&trouble))?;
        if self.settings.versions { self.delete_versions(name).await } else { Ok(()) }
    }

    /// Ends every version and marker of `name`.
    async fn delete_versions(&self, name: &str) -> Result<(), Failure> {
        let (mut key, mut version): (Option<String>, Option<String>) = (None, None);
        loop {
            let call = self
                .client
                .list_object_versions()
                .bucket(self.bucket())
                .prefix(name)
                .set_key_marker(key.take())
                .set_version_id_marker(version.take())
                .send();
            let page = self.timed("list_versions", call).await.map_err(|trouble| failure(&trouble))?;
            let versions = page.versions().iter().map(|version| (version.key(), version.version_id()));
            let markers = page.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
            for (_, id) in versions.chain(markers).filter(|(key, _)| *key == Some(name)) {
                let call = self
                    .client
                    .delete_object()
                    .bucket(self.bucket())
                    .key(name)
                    .set_version_id(id.map(str::to_owned))
                    .send();
                self.timed("delete_version", call).await.map_err(|trouble| failure(&trouble))?;
            }
            if page.is_truncated() != Some(true) {
                return Ok(());
            }
            (key, version) = (page.next_key_marker, page.next_version_id_marker);
        }
    }
}
