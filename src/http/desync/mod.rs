//! Judges requests that two readers could read in two ways, before anybody acts on them.
//!
//! The classes are those of AWS's HTTP desync mitigation: what RFC 9110 and RFC 9112 allow is
//! *compliant*; what they discourage, and everybody reads alike, *acceptable*; what some
//! reader in a row might take otherwise *ambiguous*; what nobody should take at all *severe*.

use http::StatusCode;

use crate::fault::{Fault, Kind};

mod chunks;
mod fields;
mod head;
mod text;

pub use chunks::Chunks;
pub use fields::judge_parts;
pub use head::{Framing, Judged, judge};

/// How sure everybody is to read a request alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// As the RFCs want it.
    Compliant,
    /// Not quite, and to everybody the same.
    Acceptable,
    /// Some may read it otherwise.
    Ambiguous,
    /// Not to be taken by anybody.
    Severe,
}

impl Class {
    /// A metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compliant => "compliant",
            Self::Acceptable => "acceptable",
            Self::Ambiguous => "ambiguous",
            Self::Severe => "severe",
        }
    }

    /// As a load balancer's access log has it.
    pub fn in_log(self) -> &'static str {
        match self {
            Self::Compliant => "-",
            Self::Acceptable => "Acceptable",
            Self::Ambiguous => "Ambiguous",
            Self::Severe => "Severe",
        }
    }
}

/// What is wrong with a request, why, and what is answered to it where it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub class: Class,
    /// Why.
    pub reason: Reason,
}

/// Refused below HTTP: an extension of the request that is answered in its place.
#[derive(Clone, Copy, Debug)]
pub struct Refused(pub Finding);

/// Noted below HTTP of a request that passed: an extension of it.
#[derive(Clone, Copy, Debug)]
pub struct Noted(pub Finding);

macro_rules! reasons {
    ($($name:ident: $label:literal, $status:ident, $words:literal;)*) => {
        /// Why a request isn't compliant. A closed set: it is a metric's label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $(#[doc = $words] $name,)*
        }

        impl Reason {
            /// The label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What is answered.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The words a client reads.
            pub fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

reasons! {
    BothLengths: "both_lengths", BAD_REQUEST, "the request has both Content-Length and Transfer-Encoding";
    BadLength: "bad_length", BAD_REQUEST, "Content-Length is no number";
    RepeatedLength: "repeated_length", BAD_REQUEST, "Content-Length is there more than once";
    BadTransferEncoding: "bad_transfer_encoding", BAD_REQUEST, "Transfer-Encoding is not `chunked` alone";
    UnknownCoding: "unknown_coding", NOT_IMPLEMENTED, "the only transfer coding taken here is `chunked`";
    BareLf: "bare_lf", BAD_REQUEST, "a line ends in LF without CR";
    BareCr: "bare_cr", BAD_REQUEST, "a CR stands alone";
    ObsFold: "obs_fold", BAD_REQUEST, "a line begins with a space or a tab";
    SpaceBeforeColon: "space_before_colon", BAD_REQUEST, "a space stands before a header's colon";
    BadName: "bad_name", BAD_REQUEST, "a header's name can't be read";
    Lookalike: "lookalike", BAD_REQUEST, "a header's name may be taken for Content-Length or Transfer-Encoding";
    BadValue: "bad_value", BAD_REQUEST, "a header's value has a control character";
    Nul: "nul", BAD_REQUEST, "there is a NUL in the head";
    BadRequestLine: "bad_request_line", BAD_REQUEST, "the request line can't be read";
    EmptyLines: "empty_lines", BAD_REQUEST, "empty lines stand before the request";
    BadMethod: "bad_method", BAD_REQUEST, "the method can't be read";
    Connect: "connect", NOT_IMPLEMENTED, "there is nothing to connect to behind this server";
    BadTarget: "bad_target", BAD_REQUEST, "the request's target can't be read";
    BadVersion: "bad_version", BAD_REQUEST, "the version of HTTP can't be read";
    OtherVersion: "other_version", HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1, 1.0 and 2 are spoken here";
    NoHost: "no_host", BAD_REQUEST, "there is no Host";
    RepeatedHost: "repeated_host", BAD_REQUEST, "Host is there more than once";
    BadHost: "bad_host", BAD_REQUEST, "Host is no host";
    HostMismatch: "host_mismatch", BAD_REQUEST, "the target and Host name two hosts";
    BodyUnexpected: "body_unexpected", BAD_REQUEST, "a request of this method has no body";
    ConnectionHides: "connection_hides", BAD_REQUEST, "Connection names a header that is not of one hop";
    BadChunk: "bad_chunk", BAD_REQUEST, "a chunk's size or end can't be read";
    BadTrailer: "bad_trailer", BAD_REQUEST, "a trailer is one that can't come after the body";
    LongTarget: "long_request_line", URI_TOO_LONG, "the request line is longer than 16 KiB";
    LongHeader: "long_header", REQUEST_HEADER_FIELDS_TOO_LARGE, "a header is longer than 16 KiB";
    LongHead: "long_head", REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too long";
    ManyHeaders: "many_headers", REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has more than 100 headers";
}

impl From<Refused> for Fault {
    fn from(Refused(finding): Refused) -> Self {
        let kind = match finding.reason.status() {
            StatusCode::URI_TOO_LONG => Kind::UriTooLong,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Kind::HeadTooLarge,
            StatusCode::NOT_IMPLEMENTED => Kind::NotImplemented,
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => Kind::VersionNotSupported,
            _ => Kind::BadRequest,
        };
        let why = format!("{}: {}", finding.class.as_str(), finding.reason.as_str());
        Self::new(kind, finding.reason.words()).because(why)
    }
}

impl Reason {
    pub(crate) fn ambiguous(self) -> Finding {
        Finding { class: Class::Ambiguous, reason: self }
    }

    pub(crate) fn severe(self) -> Finding {
        Finding { class: Class::Severe, reason: self }
    }

    pub(crate) fn acceptable(self) -> Finding {
        Finding { class: Class::Acceptable, reason: self }
    }
}

/// The worst of what is found, the first of equals.
#[derive(Debug, Default)]
struct Worst(Option<Finding>);

impl Worst {
    fn add(&mut self, finding: Finding) {
        if self.0.is_none_or(|worst| worst.class < finding.class) {
            self.0 = Some(finding);
        }
    }
}
