//! One SDK configuration, HTTP client and set of endpoints for every AWS room.
//!
//! Settings come as every AWS tool takes them: the default credential chain
//! (environment, profiles, web identity, ECS, IMDS), `AWS_REGION`,
//! `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_KMS`, FIPS and dual-stack endpoints.

use std::{fmt, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId as _;
use tracing::Span;

use crate::{fault::chain, trace};

mod credentials;

pub use credentials::KeptCredentials;

/// Who says nothing for so long isn't there.
const CONNECT: Duration = Duration::from_secs(3);
/// Tries of one call, the first included; jittered exponential pauses between.
const ATTEMPTS: u32 = 4;

/// The SDK's error, whatever the operation.
pub type SdkError<E> = aws_sdk_kms::error::SdkError<E, aws_sdk_kms::config::http::HttpResponse>;

/// The configuration that every client is made of; `region` goes before the environment's.
///
/// # Errors
/// [`NoRegion`] when neither says which region.
pub async fn load(region: Option<&str>) -> Result<SdkConfig, NoRegion> {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts);
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let config = loader.load().await;
    if config.region().is_none() { Err(NoRegion) } else { Ok(config) }
}

/// No region is configured.
#[derive(Clone, Copy, Debug)]
pub struct NoRegion;

impl fmt::Display for NoRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no AWS region: set AWS_REGION, or `region` in [keys]")
    }
}

impl std::error::Error for NoRegion {}

/// A failed call in the terms that decide what becomes of it. For the log: it
/// may hold an ARN.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What kind.
    pub kind: TroubleKind,
    /// The service's own code, where it answered with one.
    pub code: Option<String>,
    /// Code, status and the service's words.
    pub detail: String,
    /// The service's own id of the call, which its support asks for.
    pub request_id: Option<String>,
}

/// What a failed call says of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// Never sent: nothing happened.
    Unsent,
    /// Sent, and no whole answer came: whether it happened isn't known.
    Unanswered,
    /// Too many calls; nothing happened.
    Throttled,
    /// 5xx: whether it happened isn't known.
    Server,
    /// 403
    Denied,
    /// 404
    NotFound,
    /// 409
    Conflict,
    /// 412
    Precondition,
    /// 416
    Range,
    /// What arrived isn't what was sent; nothing happened.
    Garbled,
    /// Anything else that the service refuses.
    Refused,
}

impl TroubleKind {
    /// Its name, for metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Unanswered => "unanswered",
            Self::Throttled => "throttled",
            Self::Server => "server",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Precondition => "precondition",
            Self::Range => "range",
            Self::Garbled => "garbled",
            Self::Refused => "error",
        }
    }
}

impl Trouble {
    /// Reads `error`.
    pub fn of<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().map(str::to_owned);
        let kind = match error {
            SdkError::ConstructionFailure(_) => TroubleKind::Unsent,
            // A connection that was never made carried nothing.
            SdkError::DispatchFailure(failure) if failure.is_user() => TroubleKind::Unsent,
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) | SdkError::ResponseError(_) => {
                TroubleKind::Unanswered
            }
            _ => by_answer(status, code.as_deref()),
        };
        let what = match error {
            SdkError::ServiceError(_) if error.message().is_some() || code.is_some() => {
                error.message().unwrap_or_default().to_owned()
            }
            // Also an answer that couldn't be read.
            other => chain(other),
        };
        let (shown, number) = (code.as_deref().unwrap_or("no code"), status.unwrap_or(0));
        Self { kind, detail: format!("{shown} ({number}): {what}"), code, request_id: None }.called(error.request_id())
    }

    /// A call that was sent, and got no answer.
    pub fn unanswered(detail: String) -> Self {
        Self { kind: TroubleKind::Unanswered, code: None, detail, request_id: None }
    }

    /// An answer of `status` with the service's own `code` and words.
    pub fn answered(status: u16, code: Option<&str>, words: &str) -> Self {
        let detail = format!("{} ({status}): {words}", code.unwrap_or("no code"));
        Self { kind: by_answer(Some(status), code), code: code.map(str::to_owned), detail, request_id: None }
    }

    /// An answer of success that doesn't say what it must.
    pub fn unclear(what: &str) -> Self {
        Self { kind: TroubleKind::Unanswered, code: None, detail: what.to_owned(), request_id: None }
    }

    /// The same, of the call that the service calls `id`.
    #[must_use]
    pub fn called(mut self, id: Option<&str>) -> Self {
        self.request_id = id.map(str::to_owned);
        self
    }

    /// The same, with the service's id in its words: for what happens once, and not for what is looked at
    /// again and again, whose words are compared.
    #[must_use]
    pub fn with_id(mut self) -> Self {
        if let Some(id) = &self.request_id {
            self.detail.push_str("; request ");
            self.detail.push_str(id);
        }
        self
    }

    /// Notes in `span`, which is the call's, how it ended.
    pub fn note(&self, span: &Span) {
        trace::answered(span, self.request_id.as_deref(), Some(self.code.as_deref().unwrap_or(self.kind.as_str())));
        if !self.is_answer() {
            trace::failed(span);
        }
    }

    /// Whether it says of an object what a caller may well have asked for: nothing is broken.
    fn is_answer(&self) -> bool {
        match self.kind {
            TroubleKind::NotFound => {
                self.code.as_deref().is_none_or(|code| matches!(code, "NoSuchKey" | "NotFound" | "404"))
            }
            TroubleKind::Precondition | TroubleKind::Range => true,
            _ => false,
        }
    }

    /// Whether the call may have taken effect all the same.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.kind, TroubleKind::Unanswered | TroubleKind::Server)
    }

    /// Whether trying later makes sense.
    pub fn is_passing(&self) -> bool {
        self.is_ambiguous() || matches!(self.kind, TroubleKind::Throttled | TroubleKind::Unsent | TroubleKind::Garbled)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

// One arm for each way of saying it: an error inside a 200 is no less one.
#[allow(clippy::match_same_arms)]
fn by_answer(status: Option<u16>, code: Option<&str>) -> TroubleKind {
    // S3 hands on what KMS told it.
    let of_kms = code.and_then(|code| code.strip_prefix("KMS."));
    let code = of_kms.or(code);
    let throttled = ["Throttling", "SlowDown", "TooManyRequests", "RequestLimitExceeded", "LimitExceeded"];
    if code.is_some_and(|code| throttled.iter().any(|name| code.starts_with(name))) {
        return TroubleKind::Throttled;
    }
    match (status, code) {
        (_, Some("KMSInternalException" | "DependencyTimeoutException")) if of_kms.is_some() => TroubleKind::Server,
        // Disabled, pending deletion, gone: S3 is refused the key of its encryption.
        _ if of_kms.is_some() => TroubleKind::Denied,
        // The body came too slowly for S3: sent again it may not.
        (_, Some("RequestTimeout")) => TroubleKind::Unanswered,
        (
            _,
            Some(
                "ExpiredToken"
                | "ExpiredTokenException"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "UnrecognizedClientException"
                | "InvalidClientTokenId"
                | "InvalidSignatureException",
            ),
        ) => TroubleKind::Denied,
        (_, Some("BadDigest" | "XAmzContentChecksumMismatch")) => TroubleKind::Garbled,
        (_, Some("AccessDenied" | "AccessDeniedException")) | (Some(401 | 403), _) => TroubleKind::Denied,
        (Some(404), _) => TroubleKind::NotFound,
        (Some(409), _) => TroubleKind::Conflict,
        (Some(412), _) => TroubleKind::Precondition,
        (Some(416), _) => TroubleKind::Range,
        (Some(429), _) => TroubleKind::Throttled,
        // CompleteMultipartUpload may begin a 200 before it knows how it ends.
        (Some(200..=299), Some("PreconditionFailed")) => TroubleKind::Precondition,
        (Some(200..=299), Some("ConditionalRequestConflict" | "OperationAborted")) => TroubleKind::Conflict,
        (Some(200..=299), Some("NoSuchUpload")) => TroubleKind::NotFound,
        (Some(200..=299), Some(_)) => TroubleKind::Server,
        (Some(500..), _) => TroubleKind::Server,
        _ => TroubleKind::Refused,
    }
}
