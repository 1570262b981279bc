//! An S3 bucket as the resting place: sealed parts in, SSE-KMS on top, and every
//! answer judged.
//!
//! The rules that this room keeps: what was sent is
//! followed to its end, what the bucket answered about encryption is believed
//! only when it says what was asked for, and what is undone is undone whole.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_config::SdkConfig;
pub use aws_sdk_s3::types::ServerSideEncryption;
use aws_sdk_s3::{
    Client,
    config::{RequestChecksumCalculation, ResponseChecksumValidation},
};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::request_id::RequestId;
use tracing::Instrument as _;

use super::{Condition, ETag, Failure, Page, PartRules, Payload, Reading, Span, Stat, Store, Stored, Target, Upload};
use crate::{
    aws::{KeptCredentials, SdkError, Trouble, TroubleKind},
    metrics::Metrics,
    proof::Proof,
    trace,
};

mod attributes;
mod checksum;
mod direct;
mod encryption;
mod list;
mod orphans;
mod prove;
mod put;
mod read;
mod remove;
mod upload;

use direct::{Call, Came, Coming, Direct, Fields, Head};

/// One try of a call that carries no object.
const ATTEMPT: Duration = Duration::from_secs(20);

/// How a bucket is to be used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub bucket: String,
    /// The encryption asked of S3, and required of its answers.
    pub sse: Option<Sse>,
    /// Whether a removal ends every version, or leaves S3's marker.
    pub versions: bool,
}

/// Server-side encryption under KMS.
#[derive(Clone, Debug)]
pub struct Sse {
    /// `aws:kms` or `aws:kms:dsse`.
    pub kind: ServerSideEncryption,
    /// The key's own ARN: an alias could be pointed elsewhere between the request and
    /// the look at its answer.
    pub arn: String,
    /// Whether an answer that says anything else closes the class.
    pub required: bool,
}

/// One bucket.
#[derive(Clone)]
pub struct S3Store(Arc<Inner>);

struct Inner {
    client: Client,
    direct: Option<Direct>,
    settings: Settings,
    rules: PartRules,
    metrics: Metrics,
    /// Set when the bucket stored something otherwise than it was asked to.
    closed: AtomicBool,
    why_closed: OnceLock<String>,
    /// Whether the bucket was seen to refuse what was to be new and isn't.
    refuses: AtomicBool,
}

/// A client for S3 of `config`.
pub fn client(config: &SdkConfig) -> Client {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT).build();
    let path_style = config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    let config = aws_sdk_s3::config::Builder::from(config)
        .timeout_config(timeouts)
        .force_path_style(path_style)
        // Ours are given with each call; the SDK would hash what is hashed already.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

impl S3Store {
    /// The bucket of `settings`, by what `aws` says.
    pub fn new(aws: &SdkConfig, settings: Settings, metrics: Metrics) -> Self {
        const MIB: u64 = 1 << 20;
        let rules =
            PartRules { min: 5 * MIB, usual: 8 * MIB, max: 5 << 30, count: 10_000, whole: 8 * MIB, crc64: true };
        let client = client(aws);
        let credentials = aws.credentials_provider().map(KeptCredentials::new);
        Self(Arc::new(Inner {
            direct: Direct::new(&client, &settings.bucket, credentials),
            client,
            settings,
            rules,
            metrics,
            closed: AtomicBool::new(false),
            why_closed: OnceLock::new(),
            refuses: AtomicBool::new(false),
        }))
    }
}

impl Inner {
    fn bucket(&self) -> &str {
        &self.settings.bucket
    }

    /// Stops every later write: what the bucket does isn't what was asked of it.
    fn close(&self, why: String) -> Failure {
        tracing::error!(bucket = self.bucket(), why, "the class is closed for writing");
        self.closed.store(true, Ordering::Release);
        Failure::Denied(self.why_closed.get_or_init(|| why).clone())
    }

    fn open(&self) -> Result<(), Failure> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Failure::Denied(self.why_closed.get().cloned().unwrap_or_default()));
        }
        Ok(())
    }

    /// Makes a call, timed, and its failure readable.
    async fn timed<T, E>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Trouble>
    where
        T: RequestId,
        E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (begun, span) = (Instant::now(), trace::aws("S3", method(operation)));
        let outcome = call.instrument(span.clone()).await.map_err(|error| Trouble::of(&error));
        match &outcome {
            Ok(answer) => trace::answered(&span, answer.request_id(), None),
            Err(trouble) => trouble.note(&span),
        }
        self.told(operation, begun, outcome)
    }

    /// One try by the short way, timed; `None` where the SDK is to be asked, since nothing happened
    /// or it may be asked again.
    async fn directly(&self, operation: &str, again: bool, call: Call<'_>) -> Option<Result<(Head, Coming), Trouble>> {
        let direct = self.direct.as_ref()?;
        let (begun, span) = (Instant::now(), trace::aws("S3", method(operation)));
        match direct.ask(call).instrument(span.clone()).await {
            Came::Answer(head, body) => {
                if !span.is_disabled() {
                    trace::answered(&span, head.request_id(), None);
                }
                Some(self.told(operation, begun, Ok((head, body))))
            }
            Came::Trouble(trouble) => {
                trouble.note(&span);
                let trouble = self.told::<()>(operation, begun, Err(trouble)).err()?;
                if !again || !trouble.is_passing() {
                    return Some(Err(trouble));
                }
                // Who has too much to do is not asked again at once.
                if matches!(trouble.kind, TroubleKind::Throttled | TroubleKind::Server) {
                    tokio::time::sleep(pause(1)).await;
                }
                None
            }
            Came::Nothing => {
                trace::left(&span);
                None
            }
        }
    }

    /// Notes how a call ended, and puts into words whom to ask for leave.
    fn told<T>(&self, operation: &str, begun: Instant, mut outcome: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(trouble) = &mut outcome
            && trouble.kind == TroubleKind::Denied
        {
            let of_kms =
                trouble.code.as_deref().is_some_and(|code| code.starts_with("KMS.") && !code.contains("AccessDenied"));
            trouble.detail = if of_kms {
                format!("{}; look at the KMS key of the encryption of {}", trouble.detail, self.bucket())
            } else {
                format!("{}; allow {} on {}", trouble.detail, actions(operation), self.bucket())
            };
        }
        let outcome = outcome.map_err(Trouble::with_id);
        let label = match &outcome {
            Ok(_) => "ok",
            Err(trouble) => trouble.kind.as_str(),
        };
        self.metrics.store_seconds.with_label_values(&[operation, label]).observe(begun.elapsed().as_secs_f64());
        outcome
    }
}

#[async_trait]
impl Store for S3Store {
    fn rules(&self) -> &PartRules {
        &self.0.rules
    }

    fn tells(&self, length: u64) -> bool {
        self.0.tells(length)
    }

    fn sweep(&self) {
        if let Some(direct) = &self.0.direct {
            direct.sweep();
        }
    }

    async fn put(&self, target: Target, message: Payload) -> Result<Stored, Failure> {
        self.0.open()?;
        self.0.put(target, message).await
    }

    async fn begin(&self, target: Target) -> Result<Box<dyn Upload>, Failure> {
        self.0.open()?;
        upload::begin(&self.0, target).await
    }

    async fn probe(&self, prefix: &str) -> Result<(), Failure> {
        self.0.open()?;
        self.0.probe(prefix).await
    }

    async fn stat(&self, name: &str) -> Result<Option<Stat>, Failure> {
        self.0.stat(name).await
    }

    async fn read(&self, name: &str, span: Span, pin: Option<&ETag>) -> Result<Reading, Failure> {
        self.0.read(name, span, pin).await
    }

    async fn delete(&self, name: &str, condition: &Condition) -> Result<(), Failure> {
        self.0.delete(name, condition).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, Failure> {
        self.0.list(prefix, after, limit).await
    }

    fn closed(&self) -> Option<String> {
        self.0.why_closed.get().cloned()
    }

    async fn abort_orphans(&self, prefix: &str, older_than: Duration) -> Result<u64, Failure> {
        self.0.abort_orphans(prefix, older_than).await
    }

    async fn abort_upload(&self, name: &str, upload: &str) -> bool {
        upload::abort(&self.0, name, upload).await
    }

    async fn prove(&self, prefix: &str, write: bool) -> Vec<Proof> {
        Box::pin(prove::prove(&self.0, prefix, write)).await
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

/// What a trouble is where nothing special is known of the call.
fn failure(trouble: &Trouble) -> Failure {
    let detail = trouble.detail.clone();
    match (trouble.kind, trouble.code.as_deref()) {
        // Neither says anything of an object: the bucket is the operator's to mend,
        // and an upload that somebody else has ended can be made again.
        (_, Some("NoSuchBucket")) => {
            return Failure::Denied(format!("{detail}; create it, or name another as `bucket`"));
        }
        (_, Some("NoSuchUpload")) => return Failure::Unavailable(detail),
        _ => {}
    }
    match trouble.kind {
        TroubleKind::Denied => Failure::Denied(detail),
        TroubleKind::NotFound => Failure::NotFound,
        TroubleKind::Conflict => Failure::Conflict,
        TroubleKind::Precondition => Failure::Precondition,
        TroubleKind::Unsent | TroubleKind::Unanswered | TroubleKind::Throttled | TroubleKind::Server => {
            Failure::Unavailable(detail)
        }
        TroubleKind::Range | TroubleKind::Garbled | TroubleKind::Refused => Failure::Nonsense(detail),
    }
}

/// The same for a write: what isn't there is then the bucket or the upload, never
/// the object that a client named.
fn unwritten(trouble: &Trouble) -> Failure {
    match failure(trouble) {
        // `If-Match`, and nothing stands there any more.
        Failure::NotFound if trouble.code.as_deref() == Some("NoSuchKey") => Failure::Precondition,
        Failure::NotFound => Failure::Unavailable(trouble.detail.clone()),
        other => other,
    }
}

/// What S3's interface calls `operation`.
fn method(operation: &str) -> &'static str {
    match operation {
        "put" => "PutObject",
        "begin" => "CreateMultipartUpload",
        "part" => "UploadPart",
        "complete" => "CompleteMultipartUpload",
        "stat" => "HeadObject",
        "read" | "read_back" => "GetObject",
        "probe" | "list" => "ListObjectsV2",
        "head_bucket" => "HeadBucket",
        "delete" | "delete_version" | "take_back" => "DeleteObject",
        "list_versions" => "ListObjectVersions",
        "abort" => "AbortMultipartUpload",
        "list_parts" => "ListParts",
        "list_uploads" => "ListMultipartUploads",
        "bucket_encryption" => "GetBucketEncryption",
        "bucket_public_access" => "GetPublicAccessBlock",
        "bucket_versioning" => "GetBucketVersioning",
        "bucket_lifecycle" => "GetBucketLifecycleConfiguration",
        _ => "unknown",
    }
}

/// What IAM and the bucket's policy call it, with what else is needed.
fn actions(operation: &str) -> &'static str {
    match operation {
        "put" | "begin" | "part" | "complete" => {
            "s3:PutObject (and, for the bucket's encryption, kms:GenerateDataKey and kms:Decrypt with its key)"
        }
        "stat" => "s3:GetObject and s3:ListBucket (without the latter what is absent looks forbidden)",
        "probe" | "read" | "read_back" => "s3:GetObject (and, for the bucket's encryption, kms:Decrypt with its key)",
        "list" | "head_bucket" => "s3:ListBucket",
        "delete" => "s3:DeleteObject",
        "delete_version" | "take_back" => "s3:DeleteObject and s3:DeleteObjectVersion",
        "list_versions" => "s3:ListBucketVersions",
        "abort" => "s3:AbortMultipartUpload",
        "list_parts" => "s3:ListMultipartUploadParts",
        "list_uploads" => "s3:ListBucketMultipartUploads",
        "bucket_encryption" => "s3:GetEncryptionConfiguration",
        "bucket_public_access" => "s3:GetBucketPublicAccessBlock",
        "bucket_versioning" => "s3:GetBucketVersioning",
        "bucket_lifecycle" => "s3:GetLifecycleConfiguration",
        _ => "this call",
    }
}

/// An entity tag without its quotes.
fn unquoted(tag: &str) -> ETag {
    ETag(tag.trim_start_matches("W/").trim_matches('"').to_owned())
}

/// How long a try that carries `bytes` is waited for: a tenth of a second for each
/// 64 KiB, and a floor.
fn patience(bytes: usize) -> Duration {
    const FLOOR: Duration = Duration::from_secs(30);
    FLOOR + Duration::from_millis(bytes as u64 / 655)
}

/// The pause before try `attempt` (from 1), jittered, so that many don't return as one.
fn pause(attempt: u32) -> Duration {
    let most = 100_u64 << attempt.min(6);
    let jitter: [u8; 2] = crate::secret::random_array().unwrap_or([128, 0]);
    Duration::from_millis(most / 2 + most * u64::from(u16::from_be_bytes(jitter)) / 65_536 / 2)
}
