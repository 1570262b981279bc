//! Removing: a marker, or every version.

use std::sync::Arc;

use aws_sdk_s3::primitives::DateTime;
use aws_smithy_types::retry::RetryConfig;
use tracing::Instrument as _;

use super::{Condition, Failure, Inner, failure, pause, put::TRIES};
use crate::aws::TroubleKind;

/// One version of an object, or a marker.
struct Version {
    id: String,
    when: Option<DateTime>,
    /// Whether it is what stands there.
    latest: bool,
    marker: bool,
}

impl Inner {
    /// Removes what stands under `name`; with `versions`, everything that ever stood
    /// there. To its end, whoever stops waiting for it: half a removal can't be told
    /// from a whole one.
    pub(super) async fn delete(self: &Arc<Self>, name: &str, condition: &Condition) -> Result<(), Failure> {
        let (store, name, condition) = (Arc::clone(self), name.to_owned(), condition.clone());
        let task = async move { store.delete_to_the_end(&name, &condition).await };
        let task = tokio::spawn(task.in_current_span());
        task.await.unwrap_or_else(|error| Err(Failure::Other(format!("a removal's task ended: {error}"))))
    }

    async fn delete_to_the_end(&self, name: &str, condition: &Condition) -> Result<(), Failure> {
        // Ours, and of no use to anybody once they are removed.
        let canary = name.contains(".sealward/canary-");
        // S3 answers a removal of nothing as if it had been something.
        let Some(there) = self.stat(name).await? else {
            let hidden = self.settings.versions && *condition == Condition::None;
            // An earlier removal may have come no further than its marker.
            return if hidden && self.end_versions(name, None).await? { Ok(()) } else { Err(Failure::NotFound) };
        };
        let if_match = match condition {
            Condition::None => None,
            Condition::Absent => return Err(Failure::Precondition),
            Condition::Matches(etag) if *etag != there.etag => return Err(Failure::Precondition),
            Condition::Matches(etag) => Some(etag.to_string()),
        };
        let marker = match if_match {
            None => {
                let call = self.client.delete_object().bucket(self.bucket()).key(name).send();
                let answer = self.timed("delete", call).await.map_err(|trouble| failure(&trouble))?;
                answer.version_id().map(str::to_owned)
            }
            Some(if_match) => self.delete_matching(name, &if_match).await?,
        };
        // Where no marker was left, the bucket keeps no versions.
        let Some(marker) = marker else { return Ok(()) };
        if self.settings.versions {
            self.end_versions(name, Some(&marker)).await.map(drop)
        } else if canary {
            if let Err(failure) = self.end_versions(name, Some(&marker)).await {
                tracing::warn!(bucket = self.bucket(), %failure, "versions of a canary stay in the bucket");
            }
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Removes `name` while it bears the tag; the marker left. Tries are ours, not the
    /// SDK's: to a second one S3 says that the condition fails, where the first one's
    /// answer was lost.
    async fn delete_matching(&self, name: &str, if_match: &str) -> Result<Option<String>, Failure> {
        let mut unanswered = false;
        for attempt in 1..=TRIES {
            let call = self.client.delete_object().bucket(self.bucket()).key(name).if_match(if_match).customize();
            let call =
                call.config_override(aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled())).send();
            let trouble = match self.timed("delete", call).await {
                Ok(answer) => return Ok(answer.version_id().map(str::to_owned)),
                Err(trouble) => trouble,
            };
            let missed = matches!(trouble.kind, TroubleKind::Precondition | TroubleKind::NotFound);
            if unanswered && missed && self.stat(name).await?.is_none() {
                // The marker's name is lost with the answer; what lies behind it is found all the same.
                return Ok(self.settings.versions.then(String::new));
            }
            unanswered |= trouble.is_ambiguous();
            if !trouble.is_passing() {
                return Err(if unanswered { Failure::OutcomeUnknown(trouble.detail) } else { failure(&trouble) });
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

    /// Ends the versions of `name` at and behind the marker `from`, or behind whatever
    /// marker stands there now; whether there were any. What another writer has put
    /// there since stays. The marker goes last: until then a removal that broke off
    /// looks like one, and can be made again.
    async fn end_versions(&self, name: &str, from: Option<&str>) -> Result<bool, Failure> {
        let versions = self.versions(name).await?;
        let named = versions.iter().find(|version| from == Some(version.id.as_str()));
        let marker = named.or_else(|| versions.iter().find(|version| version.latest && version.marker));
        let Some(marker) = marker else { return Ok(false) };
        let behind = |version: &&Version| {
            // Behind what stands there lies everything else; behind another, what is older.
            let older = version.when.zip(marker.when).is_some_and(|(one, other)| one <= other);
            version.id != marker.id && !version.latest && (marker.latest || older)
        };
        for version in versions.iter().filter(behind).chain([marker]) {
            let call = self.client.delete_object().bucket(self.bucket()).key(name).version_id(&version.id).send();
            self.timed("delete_version", call).await.map_err(|trouble| failure(&trouble))?;
        }
        Ok(true)
    }

    /// Every version and marker of `name` itself, of which lists have those first that
    /// only begin with it.
    async fn versions(&self, name: &str) -> Result<Vec<Version>, Failure> {
        let (mut key, mut id): (Option<String>, Option<String>) = (None, None);
        let mut found = Vec::new();
        loop {
            let call = self
                .client
                .list_object_versions()
                .bucket(self.bucket())
                .prefix(name)
                .set_key_marker(key.take())
                .set_version_id_marker(id.take())
                .send();
            let page = self.timed("list_versions", call).await.map_err(|trouble| failure(&trouble))?;
            found.extend(page.versions().iter().filter(|one| one.key() == Some(name)).filter_map(|one| {
                let (id, when) = (one.version_id()?.to_owned(), one.last_modified().copied());
                Some(Version { id, when, latest: one.is_latest() == Some(true), marker: false })
            }));
            found.extend(page.delete_markers().iter().filter(|one| one.key() == Some(name)).filter_map(|one| {
                let (id, when) = (one.version_id()?.to_owned(), one.last_modified().copied());
                Some(Version { id, when, latest: one.is_latest() == Some(true), marker: true })
            }));
            // Names come in order, and a name before all that it begins.
            let more = page.is_truncated() == Some(true) && page.next_key_marker() == Some(name);
            if !more {
                return Ok(found);
            }
            (key, id) = (page.next_key_marker, page.next_version_id_marker);
        }
    }
}
