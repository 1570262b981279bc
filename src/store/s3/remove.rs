//! Removing: a marker, or every version.

use aws_smithy_types::retry::RetryConfig;

use super::{Condition, Failure, Inner, failure, pause, put::TRIES};
use crate::aws::TroubleKind;

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
        match if_match {
            None => {
                let call = self.client.delete_object().bucket(self.bucket()).key(name).send();
                self.timed("delete", call).await.map_err(|trouble| failure(&trouble))?;
            }
            Some(if_match) => self.delete_matching(name, &if_match).await?,
        }
        if self.settings.versions { self.delete_versions(name).await } else { Ok(()) }
    }

    /// Removes `name` while it bears the tag. Tries are ours, not the SDK's: to a second
    /// one S3 says that the condition fails, where the first one's answer was lost.
    async fn delete_matching(&self, name: &str, if_match: &str) -> Result<(), Failure> {
        let mut unanswered = false;
        for attempt in 1..=TRIES {
            let call = self.client.delete_object().bucket(self.bucket()).key(name).if_match(if_match).customize();
            let call =
                call.config_override(aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled())).send();
            let Err(trouble) = self.timed("delete", call).await else { return Ok(()) };
            let missed = matches!(trouble.kind, TroubleKind::Precondition | TroubleKind::NotFound);
            if unanswered && missed && self.stat(name).await?.is_none() {
                return Ok(());
            }
            unanswered |= trouble.is_ambiguous();
            if !trouble.is_passing() {
                return Err(failure(&trouble));
            }
            if attempt == TRIES && unanswered {
                return Err(Failure::OutcomeUnknown(trouble.detail));
            } else if attempt == TRIES {
                return Err(failure(&trouble));
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        Err(Failure::Unavailable("no try was made".into()))
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
