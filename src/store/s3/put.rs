//! One object in one request, and what became of it when no answer came.

use std::sync::atomic::Ordering;

use aws_sdk_s3::{primitives::ByteStream, types::ServerSideEncryption};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use crc_fast::CrcAlgorithm;

use super::{
    Call, Condition, ETag, Failure, Inner, Payload, Stored, Target, attributes,
    encryption::{Answered, OwnedAnswered},
    failure, patience, pause, unquoted, unwritten,
};
use crate::{
    aws::{Trouble, TroubleKind},
    message::MessageId,
};

/// Tries of a call whose outcome is followed by us, not by the SDK: the SDK
/// doesn't tell a first 409 or 412 from one that answers its own second try.
pub(super) const TRIES: u32 = 4;

/// What may go twice, for S3 to tell whether it is new; bytes.
const TWICE: u64 = 128 << 10;

/// The tries of one call, so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
    pub(super) made: u32,
    /// Whether one of them got no answer: it may have happened, and may still.
    pub(super) unanswered: bool,
    /// Whether the target's condition is nobody's but ours, and is dropped where it doesn't hold.
    ours: bool,
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
        let mut tries = Tries::default();
        if !target.tells || target.condition != Condition::None {
            return self.put_under(&target, &message, &mut tries).await;
        }
        // Most are new: under the condition that this one is, S3 tells whether it was. Where it
        // wasn't, small bytes go twice, which costs no more than to look first.
        let absent = Target { condition: Condition::Absent, ..target };
        tries.ours = true;
        match self.put_under(&absent, &message, &mut tries).await {
            Ok(stored) => return Ok(Stored { replaced: Some(false), ..stored }),
            Err(Failure::Precondition | Failure::Conflict) => {}
            Err(failure) => return Err(failure),
        }
        let target = Target { condition: Condition::None, ..absent };
        // What came of a try without an answer isn't known yet.
        let mut tries = Tries { unanswered: tries.unanswered, ..Tries::default() };
        let stored = self.put_under(&target, &message, &mut tries).await?;
        Ok(Stored { replaced: Some(true), ..stored })
    }

    /// Whether a message of so many bytes is put in such a way that S3 tells if it is new; not before S3
    /// was seen to refuse one that isn't.
    pub(super) fn tells(&self, length: u64) -> bool {
        length <= TWICE && self.refuses.load(Ordering::Relaxed)
    }

    async fn put_under(&self, target: &Target, message: &Payload, tries: &mut Tries) -> Result<Stored, Failure> {
        attributes::check(&target.attributes)?;
        let checksum = STANDARD.encode(message.crc64().to_be_bytes());
        loop {
            tries.made += 1;
            let trouble = match self.put_once(target, message.bytes.clone(), &checksum, tries.made == 1).await {
                Ok(Ok(stored)) => return Ok(stored),
                Ok(Err(failure)) => return Err(failure),
                Err(trouble) => trouble,
            };
            match Box::pin(self.follow(target, &trouble, tries)).await? {
                // The answer that was lost is the one that would have been judged.
                Some(found) => {
                    if let Err(failure) = self.judge(&found.answered()) {
                        Box::pin(self.take_back(&target.name, found.version.as_deref(), Some(&found.etag))).await;
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
        message: Bytes,
        checksum: &str,
        first: bool,
    ) -> Result<Result<Stored, Failure>, Trouble> {
        if first && let Some(told) = self.put_directly(target, message.clone(), checksum).await {
            let (answered, etag, version) = told?;
            return self.put_told(target, &answered.of(), etag, version).await;
        }
        // Boxed: what the SDK keeps across its call would be moved about with each that goes the short way.
        Box::pin(self.put_by_sdk(target, message, checksum)).await
    }

    async fn put_by_sdk(
        &self,
        target: &Target,
        message: Bytes,
        checksum: &str,
    ) -> Result<Result<Stored, Failure>, Trouble> {
        let length = message.len();
        let metadata = attributes::metadata(&target.attributes);
        let (if_match, if_none_match) = conditions(&target.condition);
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
        let version = answer.version_id().map(str::to_owned);
        self.put_told(target, &answered, answer.e_tag().map(unquoted), version).await
    }

    /// The same by the short way: what the answer says of its encryption, its tag and its version.
    async fn put_directly(
        &self,
        target: &Target,
        message: Bytes,
        checksum: &str,
    ) -> Option<Result<(OwnedAnswered, Option<ETag>, Option<String>), Trouble>> {
        let fields = self.fields(target, checksum)?;
        let patience = patience(message.len());
        let call = Call { method: "PUT", name: &target.name, query: String::new(), fields, body: message, patience };
        let told = self.directly("put", false, call).await?;
        Some(told.map(|(head, _)| {
            let version = head.get("x-amz-version-id").map(str::to_owned);
            (OwnedAnswered::by_head(&head), head.get("etag").map(unquoted), version)
        }))
    }

    /// What was stored, where it was as asked.
    async fn put_told(
        &self,
        target: &Target,
        answered: &Answered<'_>,
        etag: Option<ETag>,
        version: Option<String>,
    ) -> Result<Result<Stored, Failure>, Trouble> {
        if let Err(failure) = self.judge(answered) {
            Box::pin(self.take_back(&target.name, version.as_deref(), etag.as_ref())).await;
            return Ok(Err(failure));
        }
        // Stored, it says, and not as what: a look tells.
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
        if precondition && target.condition == Condition::Absent {
            self.refuses.store(true, Ordering::Relaxed);
        }
        if precondition && tries.ours && !tries.unanswered {
            return Err(Failure::Precondition);
        }
        let unknown = |why: String| Err(Failure::OutcomeUnknown(why));
        // An answer to a second try may speak of the first one's work.
        if tries.unanswered || (earlier && (precondition || conflict || gone)) {
            match self.standing(&target.name).await {
                Ok(Some(found)) if found.id == target.id => return Ok(Some(found)),
                // It may be our own first try that the second one met.
                Ok(_) if conflict && again => return Ok(None),
                // The same message goes again, without it.
                _ if precondition && tries.ours => return Err(Failure::Precondition),
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
