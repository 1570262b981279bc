//! A multipart upload: parts side by side, then complete or undone, by one owner.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart},
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::{
    Call, Coming, Failure, Fields, Head, Inner, Payload, Stored, Target, Upload, attributes, checksum,
    direct::in_query,
    encryption::Answered,
    patience, pause,
    put::{TRIES, Tries, conditions},
    unquoted, unwritten,
};
use crate::aws::{Trouble, TroubleKind};

/// Parts on their way at once, for one upload.
const PARTS: usize = 4;
/// How often an abort is repeated before what is left is told to the log.
const ABORTS: u32 = 6;
/// How long an uploader waits for what only an abort can settle.
const SETTLE: Duration = Duration::from_secs(15);

struct S3Upload {
    store: Arc<Inner>,
    target: Target,
    id: String,
    sending: JoinSet<Result<CompletedPart, Failure>>,
    sent: Vec<CompletedPart>,
    next: i32,
    crc: u64,
    length: u64,
    /// Set when there is nothing left to undo.
    over: bool,
}

/// Creates the upload. Whether S3 will encrypt as asked is judged by its answer,
/// before a byte goes.
pub(super) async fn begin(store: &Arc<Inner>, target: Target) -> Result<Box<dyn Upload>, Failure> {
    attributes::check(&target.attributes)?;
    let metadata = attributes::metadata(&target.attributes);
    let call = attributes::asked_for!(store.client.create_multipart_upload(), store, target, metadata)
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject);
    let answer = store.timed("begin", call.send()).await.map_err(|trouble| unwritten(&trouble))?;
    let id = answer
        .upload_id()
        .ok_or_else(|| Failure::Nonsense("CreateMultipartUpload answered without an upload id".into()))?
        .to_owned();
    let upload = S3Upload {
        store: Arc::clone(store),
        target,
        id,
        sending: JoinSet::new(),
        sent: Vec::new(),
        next: 1,
        crc: 0,
        length: 0,
        over: false,
    };
    let answered = Answered { kind: answer.server_side_encryption(), key: answer.ssekms_key_id() };
    if let Err(failure) = store.judge(&answered) {
        Box::new(upload).abort().await;
        return Err(failure);
    }
    Ok(Box::new(upload))
}

#[async_trait]
impl Upload for S3Upload {
    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    async fn part(&mut self, part: Payload) -> Result<(), Failure> {
        while self.sending.len() >= PARTS {
            self.landed().await?;
        }
        let crc = part.crc64();
        let bytes = part.bytes;
        self.crc = if self.length == 0 { crc } else { checksum::combine(self.crc, crc, bytes.len() as u64) };
        self.length += bytes.len() as u64;
        let (store, name, id, number) = (Arc::clone(&self.store), self.target.name.clone(), self.id.clone(), self.next);
        self.next += 1;
        let sent = async move { store.send_part(&name, &id, number, bytes, crc).await };
        self.sending.spawn(sent.in_current_span());
        Ok(())
    }

    async fn complete(mut self: Box<Self>) -> Result<Stored, Failure> {
        while !self.sending.is_empty() {
            if let Err(failure) = self.landed().await {
                self.abort().await;
                return Err(failure);
            }
        }
        self.sent.sort_by_key(CompletedPart::part_number);
        let mut tries = Tries::default();
        loop {
            tries.made += 1;
            let trouble = match self.complete_once().await {
                Ok(stored) => {
                    self.over = true;
                    return Ok(stored);
                }
                Err(trouble) => trouble,
            };
            match self.store.follow(&self.target, &trouble, &mut tries).await {
                Ok(Some(found)) => {
                    self.over = true;
                    return Ok(found.stored());
                }
                Ok(None) => tokio::time::sleep(pause(tries.made)).await,
                // An abort settles it: an upload that it ends can't become an object
                // later, and one that has become one is there to be seen.
                Err(failure @ Failure::OutcomeUnknown(_)) => {
                    let (store, name, id) = (Arc::clone(&self.store), self.target.name.clone(), self.target.id);
                    // It goes on behind an uploader that isn't kept waiting for it.
                    let undone = tokio::spawn(self.abort().in_current_span());
                    if tokio::time::timeout(SETTLE, undone).await.is_err() {
                        return Err(failure);
                    }
                    return match store.standing(&name).await {
                        Ok(Some(found)) if found.id == id => Ok(found.stored()),
                        _ => Err(failure),
                    };
                }
                Err(failure) => {
                    self.abort().await;
                    return Err(failure);
                }
            }
        }
    }

    async fn abort(mut self: Box<Self>) {
        self.over = true;
        // A part that lands after an abort would lie there unseen.
        while self.sending.join_next().await.is_some() {}
        abort(&self.store, &self.target.name, &self.id).await;
    }
}

impl S3Upload {
    /// Waits for one part to land.
    async fn landed(&mut self) -> Result<(), Failure> {
        match self.sending.join_next().await {
            Some(Ok(part)) => self.sent.push(part?),
            Some(Err(error)) => return Err(Failure::Other(format!("a part's task ended: {error}"))),
            None => {}
        }
        Ok(())
    }

    async fn complete_once(&self) -> Result<Stored, Trouble> {
        let (if_match, if_none_match) = conditions(&self.target.condition);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.sent.clone())).build();
        let call = self
            .store
            .client
            .complete_multipart_upload()
            .bucket(self.store.bucket())
            .key(&self.target.name)
            .upload_id(&self.id)
            .multipart_upload(parts)
            .checksum_crc64_nvme(STANDARD.encode(self.crc.to_be_bytes()))
            .checksum_type(ChecksumType::FullObject)
            .mpu_object_size(i64::try_from(self.length).unwrap_or(i64::MAX))
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .customize()
            .config_override(
                aws_sdk_s3::config::Builder::new()
                    .retry_config(RetryConfig::disabled())
                    // S3 may take minutes to put 10,000 parts together.
                    .timeout_config(
                        TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(300)).build(),
                    ),
            );
        let answer = self.store.timed("complete", call.send()).await?;
        let etag = answer.e_tag().map(unquoted);
        let version = answer.version_id().map(str::to_owned);
        etag.map(|etag| Stored { etag, replaced: None, version })
            .ok_or_else(|| Trouble::unclear("CompleteMultipartUpload answered without an entity tag"))
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Its owner is gone without a word: a task of its own undoes it, if there
        // is still a runtime; else the orphan sweep does.
        let (store, name, id) = (Arc::clone(&self.store), self.target.name.clone(), self.id.clone());
        let mut sending = std::mem::take(&mut self.sending);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                while sending.join_next().await.is_some() {}
                abort(&store, &name, &id).await;
            });
        }
    }
}

impl Inner {
    async fn send_part(
        &self,
        name: &str,
        id: &str,
        number: i32,
        bytes: Bytes,
        crc: u64,
    ) -> Result<CompletedPart, Failure> {
        let checksum = STANDARD.encode(crc.to_be_bytes());
        if let Some(told) = self.part_directly(name, id, number, &bytes, &checksum).await {
            let (head, _) = told.map_err(|trouble| unwritten(&trouble))?;
            let part = CompletedPart::builder().part_number(number).set_e_tag(head.get("etag").map(str::to_owned));
            return Ok(part.checksum_crc64_nvme(checksum).build());
        }
        Box::pin(self.send_part_by_sdk(name, id, number, bytes, checksum)).await
    }

    async fn send_part_by_sdk(
        &self,
        name: &str,
        id: &str,
        number: i32,
        bytes: Bytes,
        checksum: String,
    ) -> Result<CompletedPart, Failure> {
        let patience = patience(bytes.len());
        let mut attempt = 1;
        let answer = loop {
            let call = self
                .client
                .upload_part()
                .bucket(self.bucket())
                .key(name)
                .upload_id(id)
                .part_number(number)
                .body(ByteStream::from(bytes.clone()))
                .checksum_crc64_nvme(&checksum)
                .customize()
                .disable_payload_signing()
                .config_override(
                    aws_sdk_s3::config::Builder::new()
                        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(patience).build()),
                );
            match self.timed("part", call.send()).await {
                Ok(answer) => break answer,
                // The SDK tries everything else again.
                Err(trouble) if trouble.kind == TroubleKind::Garbled && attempt < TRIES => {
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                Err(trouble) => return Err(unwritten(&trouble)),
            }
        };
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(answer.e_tag().map(str::to_owned))
            .checksum_crc64_nvme(checksum)
            .build())
    }
}

impl Inner {
    /// One try of a part by the short way; none where the SDK is to be asked.
    async fn part_directly(
        &self,
        name: &str,
        id: &str,
        number: i32,
        bytes: &Bytes,
        checksum: &str,
    ) -> Option<Result<(Head, Coming), Trouble>> {
        let mut fields = Fields::default();
        fields.add("x-amz-checksum-crc64nvme", checksum);
        let query = format!("partNumber={number}&uploadId={}", in_query(id));
        let (body, patience) = (bytes.clone(), patience(bytes.len()));
        self.directly("part", true, Call { method: "PUT", name, query, fields, body, patience }).await
    }
}

/// Aborts until no part is left, or says in the log that some may be; which of the two.
pub(super) async fn abort(store: &Inner, name: &str, id: &str) -> bool {
    for attempt in 1..=ABORTS {
        let call = store.client.abort_multipart_upload().bucket(store.bucket()).key(name).upload_id(id).send();
        let aborted = store.timed("abort", call).await;
        let call = store.client.list_parts().bucket(store.bucket()).key(name).upload_id(id).send();
        match (aborted, store.timed("list_parts", call).await) {
            // Gone: listing finds no upload.
            (_, Err(trouble)) if trouble.kind == TroubleKind::NotFound => return true,
            // We may not list: the abort's own word has to do.
            (Ok(_), Err(trouble)) if trouble.kind == TroubleKind::Denied => return true,
            _ => tokio::time::sleep(pause(attempt)).await,
        }
    }
    tracing::error!(
        bucket = store.bucket(),
        upload = id,
        "an upload could not be undone; its parts may still be there"
    );
    false
}
