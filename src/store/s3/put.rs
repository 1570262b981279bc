//! One object in one request, and what became of it when no answer came.

use std::collections::HashMap;

use aws_sdk_s3::{primitives::ByteStream, types::ServerSideEncryption};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use crc_fast::CrcAlgorithm;

use super::{
    Condition, ETag, Failure, Inner, Payload, Stored, Target, attributes, encryption::Answered, failure, patience,
    pause, unquoted, unwritten,
};
use crate::{
    aws::{Trouble, TroubleKind},
    message::MessageId,
};

/// Tries of a call whose outcome is followed by us, not by the SDK: the SDK
/// doesn't tell a first 409 or 412 from one that answers its own second try.
pub(super) const TRIES: u32 = 4;

/// The tries of one call, so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
    pub(super) made: u32,
    /// Whether one of them got no answer: it may have happened, and may still.
    pub(super) unanswered: bool,
}

/// What was found under a name when no answer said what stands there.
pub(super) struct Standing {
    pub(super) id: MessageId,
    etag: ETag,
    version: Option<String>,
    kind: Option<ServerSideEncryption>,
    key: Option<String>,
}

impl Standing {
    pub(super) fn stored(self) -> Stored {
        Stored { etag: self.etag, replaced: None, version: self.version }
    }

    fn answered(&self) -> Answered<'_> {
        Answered { kind: self.kind.as_ref(), key: self.key.as_deref() }
    }
}

impl Inner {
    /// Puts `message` whole.
    pub(super) async fn put(&self, target: Target, message: Payload) -> Result<Stored, Failure> {
        let metadata = attributes::metadata(&target.attributes)?;
        let checksum = STANDARD.encode(message.crc64().to_be_bytes());
        let mut tries = Tries::default();
        loop {
            tries.made += 1;
            let trouble = match self.put_once(&target, metadata.clone(), message.bytes.clone(), &checksum).await {
                Ok(Ok(stored)) => return Ok(stored),
                Ok(Err(failure)) => return Err(failure),
                Err(trouble) => trouble,
            };
            match self.follow(&target, &trouble, &mut tries).await? {
                // The answer that was lost is the one that would have been judged.
                Some(found) => {
                    if let Err(failure) = self.judge(&found.answered()) {
                        self.take_back(&target.name, found.version.as_deref(), Some(&found.etag)).await;
                        return Err(failure);
                    }
                    return Ok(found.stored());
                }
                None => tokio::time::sleep(pause(tries.made)).await,
            }
        }
    }

    async fn put_once(
        &self,
        target: &Target,
        metadata: HashMap<String, String>,
        message: Bytes,
        checksum: &str,
    ) -> Result<Result<Stored, Failure>, Trouble> {
        let (if_match, if_none_match) = conditions(&target.condition);
        let length = message.len();
        let call = attributes::asked_for!(self.client.put_object(), self, target, metadata)
            .body(ByteStream::from(message))
            .checksum_crc64_nvme(checksum)
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .customize()
            .disable_payload_signing()
            .config_override(
                aws_sdk_s3::config::Builder::new()
                    .retry_config(RetryConfig::disabled())
                    .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(patience(length)).build()),
            );
        let answer = self.timed("put", call.send()).await?;
        let answered = Answered { kind: answer.server_side_encryption(), key: answer.ssekms_key_id() };
        let etag = answer.e_tag().map(unquoted);
        if let Err(failure) = self.judge(&answered) {
            self.take_back(&target.name, answer.version_id(), etag.as_ref()).await;
            return Ok(Err(failure));
        }
        // Stored, it says, and not as what: a look tells.
        let version = answer.version_id().map(str::to_owned);
        let stored = etag.map(|etag| Stored { etag, replaced: None, version });
        stored.map(Ok).ok_or_else(|| Trouble::unclear("PutObject answered without an entity tag"))
    }

    /// What a failed `PutObject` or `CompleteMultipartUpload` came to: stored after
    /// all, to be tried again (`None`), or an end.
    ///
    /// Once a try got no answer, whatever a later one is told says nothing of the first:
    /// it ends in finding our message, or in not knowing.
    pub(super) async fn follow(
        &self,
        target: &Target,
        trouble: &Trouble,
        tries: &mut Tries,
    ) -> Result<Option<Standing>, Failure> {
        let again = tries.made < TRIES;
        let earlier = tries.made > 1;
        tries.unanswered |= trouble.is_ambiguous();
        let gone = trouble.code.as_deref() == Some("NoSuchUpload");
        let conflict = trouble.kind == TroubleKind::Conflict;
        let precondition = trouble.kind == TroubleKind::Precondition;
        let unknown = |why: String| Err(Failure::OutcomeUnknown(why));
        // An answer to a second try may speak of the first one's work.
        if tries.unanswered || (earlier && (precondition || conflict || gone)) {
            match self.standing(&target.name).await {
                Ok(Some(found)) if found.id == target.id => return Ok(Some(found)),
                // It may be our own first try that the second one met.
                Ok(_) if conflict && again => return Ok(None),
                // Ours may have stood there until another writer's came.
                Ok(_) if precondition && tries.unanswered => {
                    return unknown(format!("another object stands there, after a try without an answer: {trouble}"));
                }
                Ok(_) if gone => return unknown(format!("the upload is gone and so is its object: {trouble}")),
                Ok(_) => {}
                Err(_) if again && (trouble.is_passing() || precondition || conflict || gone) => return Ok(None),
                Err(unread) => return unknown(format!("{trouble}; reading back: {unread}")),
            }
        }
        if again && trouble.is_passing() {
            return Ok(None);
        }
        if tries.unanswered { unknown(trouble.detail.clone()) } else { Err(unwritten(trouble)) }
    }

    /// What stands under `name`, if it begins as a message does.
    pub(super) async fn standing(&self, name: &str) -> Result<Option<Standing>, Failure> {
        let call = self.client.get_object().bucket(self.bucket()).key(name).range("bytes=0-34").send();
        match self.timed("read_back", call).await {
            Ok(answer) => {
                let etag = answer.e_tag().map(unquoted);
                let version = answer.version_id().map(str::to_owned);
                let kind = answer.server_side_encryption().cloned();
                let key = answer.ssekms_key_id().map(str::to_owned);
                let body = answer.body.collect().await;
                let bytes = body.map_err(|error| Failure::Unavailable(error.to_string()))?.into_bytes();
                let id: Option<[u8; 32]> = bytes.get(3..35).and_then(|id| id.try_into().ok());
                let found = id.map(MessageId::from).zip(etag);
                Ok(found.map(|(id, etag)| Standing { id, etag, version, kind, key }))
            }
            Err(trouble) if matches!(trouble.kind, TroubleKind::NotFound | TroubleKind::Range) => Ok(None),
            Err(trouble) => Err(failure(&trouble)),
        }
    }

    /// Removes an object that was stored otherwise than asked: by its version, or
    /// while it still bears its tag; nothing else under that name is touched.
    async fn take_back(&self, name: &str, version: Option<&str>, etag: Option<&ETag>) {
        let call = self.client.delete_object().bucket(self.bucket()).key(name);
        let call = match (version.filter(|version| *version != "null"), etag) {
            (Some(version), _) => call.version_id(version),
            (None, Some(etag)) => call.if_match(etag.to_string()),
            (None, None) => return tracing::error!(bucket = self.bucket(), "an object stored wrongly can't be named"),
        };
        match self.timed("take_back", call.send()).await {
            Ok(_) => tracing::error!(
                bucket = self.bucket(),
                versioned = version.is_some(),
                "an object stored without the encryption asked for was removed; what it took the place of is lost \
                 where the bucket keeps no versions"
            ),
            Err(trouble) => tracing::error!(
                bucket = self.bucket(), %trouble,
                "an object stored without the encryption asked for could not be removed"
            ),
        }
    }
}

impl Payload {
    /// Its CRC-64/NVME, taken now where nobody has.
    pub(super) fn crc64(&self) -> u64 {
        self.crc64.unwrap_or_else(|| crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &self.bytes))
    }
}

/// `If-Match` and `If-None-Match`.
pub(super) fn conditions(condition: &Condition) -> (Option<String>, Option<String>) {
    match condition {
        Condition::None => (None, None),
        Condition::Absent => (None, Some("*".into())),
        Condition::Matches(etag) => (Some(etag.to_string()), None),
    }
}
