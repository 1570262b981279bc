//! Who is to blame, which status, and which words a client may read.
//!
//! Every room turns its own small error types into a [`Fault`] when a request
//! ends because of them. A fault carries two texts: *words*, which a client
//! reads, and *detail*, which only the log sees. Words never name a key, an
//! ARN, a path of this machine or what another server said.

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;

/// The end of a request that did not go well.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: Kind,
    words: Cow<'static, str>,
    detail: Option<String>,
    retry_after: Option<Duration>,
    tamper: Option<Tamper>,
    length: Option<u64>,
}

/// What went wrong, in the terms of RFC 9110's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 400: the request can't be understood or contradicts itself.
    BadRequest,
    /// 401: no caller, or one we don't know.
    Unauthorized,
    /// 403: a caller we know, who may not.
    Forbidden,
    /// 404: no such object or route.
    NotFound,
    /// 405: the route doesn't take this method.
    MethodNotAllowed,
    /// 408: the client was too slow.
    RequestTimeout,
    /// 409: another writer was faster.
    Conflict,
    /// 412: a condition of the request doesn't hold.
    PreconditionFailed,
    /// 413: larger than the class or the format allows.
    TooLarge,
    /// 414: the object's name is too long.
    UriTooLong,
    /// 415: a content coding this door doesn't take.
    UnsupportedMediaType,
    /// 416: the range lies outside the object.
    RangeNotSatisfiable,
    /// 417: an `Expect` that isn't `100-continue`.
    ExpectationFailed,
    /// 429: more than this client may have.
    TooManyRequests,
    /// 431: a head that is too long.
    HeadTooLarge,
    /// 500: ours.
    Internal,
    /// 501: a transfer coding or method we don't know.
    NotImplemented,
    /// 505: a version of HTTP we don't speak.
    VersionNotSupported,
    /// 502: what the store holds isn't what was sealed.
    Damaged,
    /// 502: what is behind us answered what makes no sense.
    BadGateway,
    /// 503: something needed is away, or full; try again.
    Unavailable,
    /// 504: sent, but whether it was stored isn't known.
    OutcomeUnknown,
    /// 504: the app behind doesn't go on.
    GatewayTimeout,
    /// 507: the store has no room.
    NoSpace,
}

impl Kind {
    /// The HTTP status of this kind.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Damaged | Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::OutcomeUnknown | Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

impl Kind {
    /// One word for it, as the access log's `error_reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "precondition_failed",
            Self::TooLarge => "too_large",
            Self::UriTooLong => "uri_too_long",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RangeNotSatisfiable => "range_not_satisfiable",
            Self::ExpectationFailed => "expectation_failed",
            Self::TooManyRequests => "too_many_requests",
            Self::HeadTooLarge => "head_too_large",
            Self::Internal => "internal",
            Self::NotImplemented => "not_implemented",
            Self::VersionNotSupported => "version_not_supported",
            Self::Damaged => "damaged",
            Self::BadGateway => "bad_gateway",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::GatewayTimeout => "gateway_timeout",
            Self::NoSpace => "no_space",
        }
    }
}

/// Why stored bytes were not believed: the `reason` label of `sealward_tamper_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tamper {
    /// Not a message of this format at all.
    Foreign,
    /// A message of the format, in a version, suite or content type we don't read.
    Suite,
    /// A size in the header is over what we allocate for.
    Caps,
    /// The header doesn't parse or its tag doesn't verify.
    Header,
    /// The data key doesn't commit to this message.
    Commitment,
    /// The encryption context isn't the class's own.
    Context,
    /// The message id isn't bound to this vault, class and key.
    MessageId,
    /// No data key is wrapped under a key this class may open.
    DataKey,
    /// The wrapped data key doesn't open, though its wrapping key is ours.
    Unwrap,
    /// A frame doesn't verify, or isn't the one due.
    Frame,
    /// The length can't be that of a whole message.
    Length,
    /// Bytes follow the final frame.
    Trailing,
    /// The `sealward-*` entries are missing, extra, or disagree with the header.
    Metadata,
    /// Not the newest that the catalogue knows, or gone without its leave.
    RolledBack,
}

impl Tamper {
    /// Every reason, so that the metric family exists from the start.
    pub const ALL: [Self; 14] = [
        Self::Foreign,
        Self::Suite,
        Self::Caps,
        Self::Header,
        Self::Commitment,
        Self::Context,
        Self::MessageId,
        Self::DataKey,
        Self::Unwrap,
        Self::Frame,
        Self::Length,
        Self::Trailing,
        Self::Metadata,
        Self::RolledBack,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Suite => "suite",
            Self::Caps => "caps",
            Self::Header => "header",
            Self::Commitment => "commitment",
            Self::Context => "context",
            Self::MessageId => "message_id",
            Self::DataKey => "data_key",
            Self::Unwrap => "unwrap",
            Self::Frame => "frame",
            Self::Length => "length",
            Self::Trailing => "trailing",
            Self::Metadata => "metadata",
            Self::RolledBack => "rolled_back",
        }
    }
}

impl Fault {
    /// A fault of `kind`; `words` are read by the client.
    pub fn new(kind: Kind, words: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, words: words.into(), detail: None, retry_after: None, tamper: None, length: None }
    }

    /// 400 with `words`.
    pub fn bad_request(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::BadRequest, words)
    }

    /// 500; `detail` is for the log alone.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::new(Kind::Internal, "something failed on our side").because(detail)
    }

    /// 502: what the store holds was not believed.
    pub fn damaged(reason: Tamper, detail: impl fmt::Display) -> Self {
        let mut fault = Self::new(
            Kind::Damaged,
            "the stored object is not what was sealed under this name; nothing of it is served",
        );
        fault.tamper = Some(reason);
        fault.because(detail)
    }

    /// 502: what the store holds was sealed, but isn't the newest.
    pub fn stale(detail: impl fmt::Display) -> Self {
        let words = "the store doesn't hold what was last stored under this name; nothing of it is served. If that \
                     was meant, `sealward catalog rebuild` takes what is there for the newest";
        let mut fault = Self::new(Kind::Damaged, words);
        fault.tamper = Some(Tamper::RolledBack);
        fault.because(detail)
    }

    /// 503, to be tried again after `retry_after`.
    pub fn unavailable(words: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let mut fault = Self::new(Kind::Unavailable, words);
        fault.retry_after = Some(retry_after);
        fault
    }

    /// 429, to be tried again after `retry_after`.
    pub fn too_many(words: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let mut fault = Self::new(Kind::TooManyRequests, words);
        fault.retry_after = Some(retry_after);
        fault
    }

    /// 416: the range lies outside an object of `length` bytes.
    pub fn outside(length: u64) -> Self {
        let mut fault = Self::new(Kind::RangeNotSatisfiable, "the range lies outside the object");
        fault.length = Some(length);
        fault
    }

    /// Adds what the log may know and the client may not.
    #[must_use]
    pub fn because(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// What kind of end this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The status a client sees.
    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// Whether it is this side's, and not the client's own.
    pub fn is_ours(&self) -> bool {
        self.status().is_server_error()
    }

    /// The words a client reads.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// What the log adds to them.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// When trying again makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The length of the object that a range lay outside of, in bytes.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Why stored bytes were not believed, where that is what happened.
    pub fn tamper(&self) -> Option<Tamper> {
        self.tamper
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// What an error says, and each cause behind it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}
