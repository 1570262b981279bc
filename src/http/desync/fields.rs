//! What the headers of a request say together: how its body ends, and for whom it is.

use http::{Method, Request, Version, header};

use super::{Class, Finding, Reason, Worst, text};

/// Headers that a `Connection` header must not take away: they frame the message, or others
/// vouch by them.
const NOT_OF_ONE_HOP: [&[u8]; 8] = [
    b"content-length",
    b"host",
    b"authorization",
    b"cookie",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"forwarded",
];
/// One header, name and value; bytes. As a load balancer's.
pub(super) const HEADER: usize = 16 << 10;
/// The request line; bytes.
pub(super) const LINE: usize = 16 << 10;

/// What was seen of the headers that matter.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    pub(super) worst: Worst,
    pub(super) length: Option<u64>,
    lengths: usize,
    codings: usize,
    pub(super) chunked: bool,
    hosts: usize,
    host: &'a [u8],
    pub(super) upgrade: bool,
}

impl<'a> Tally<'a> {
    /// Looks at one header; `value` without the blanks around it.
    pub(super) fn field(&mut self, name: &[u8], value: &'a [u8]) {
        // By length first: few headers are looked at twice.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 {
                    self.worst.add(Reason::RepeatedHost.severe());
                } else {
                    self.host = value;
                }
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            14 | 17 if alike(name) => self.worst.add(Reason::Lookalike.ambiguous()),
            _ => {}
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for name in value.split(|byte| *byte == b',').map(text::trimmed) {
            if NOT_OF_ONE_HOP.iter().any(|hidden| name.eq_ignore_ascii_case(hidden)) {
                self.worst.add(Reason::ConnectionHides.ambiguous());
            }
        }
    }

    fn content_length(&mut self, value: &[u8]) {
        if value.contains(&b',')
            && value.split(|byte| *byte == b',').map(text::trimmed).all(|one| number(one).is_some())
        {
            // RFC 9110, section 8.6, lets us choose; not everybody takes a list.
            self.worst.add(Reason::RepeatedLength.severe());
        }
        for value in value.split(|byte| *byte == b',').map(text::trimmed) {
            let Some(length) = number(value) else { return self.worst.add(Reason::BadLength.severe()) };
            self.lengths += 1;
            match self.length {
                Some(other) if other != length => self.worst.add(Reason::RepeatedLength.severe()),
                Some(_) => self.worst.add(Reason::RepeatedLength.ambiguous()),
                None => self.length = Some(length),
            }
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) {
        self.codings += 1;
        if self.codings > 1 {
            self.worst.add(Reason::BadTransferEncoding.severe());
        } else if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
        } else {
            // A body whose end `chunked` marks, in codings that we don't undo; any other has
            // no end that is known (RFC 9112, section 6.3).
            let coding = |coding: &[u8]| !coding.is_empty() && coding.iter().all(|byte| text::is_token(*byte));
            let codings: Vec<_> = value.split(|byte| *byte == b',').map(text::trimmed).collect();
            let chunked = codings.iter().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
            let last = codings.last().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
            let known = codings.iter().all(|found| coding(found)) && chunked == 1 && last;
            let reason = if known { Reason::UnknownCoding } else { Reason::BadTransferEncoding };
            self.worst.add(reason.severe());
        }
    }

    /// What follows from all of them. `authority` is the target's own, where it names one.
    pub(super) fn finish(&mut self, method: &[u8], version: Version, authority: Option<&[u8]>) {
        match (self.hosts, version) {
            (0, Version::HTTP_11) => self.worst.add(Reason::NoHost.severe()),
            (0, _) => {}
            _ if !text::is_host(self.host) => self.worst.add(Reason::BadHost.severe()),
            _ => {
                if authority.is_some_and(|authority| !same_host(authority, self.host)) {
                    self.worst.add(Reason::HostMismatch.ambiguous());
                }
            }
        }
        if self.codings > 0 && version == Version::HTTP_10 {
            self.worst.add(Reason::BadTransferEncoding.severe());
        }
        if self.codings > 0 && self.lengths > 0 {
            self.worst.add(Reason::BothLengths.ambiguous());
        }
        if self.has_body() && expects_none(method) {
            self.worst.add(Reason::BodyUnexpected.ambiguous());
        }
        if self.has_body() && self.upgrade {
            self.worst.add(Reason::BodyUnexpected.ambiguous());
        }
    }

    fn has_body(&self) -> bool {
        self.chunked || self.length.is_some_and(|length| length > 0)
    }
}

/// Judges a request that came by HTTP/2, whose own rules its library has kept: lengths of
/// its parts, and what its headers say together.
pub fn judge_parts<B: http_body::Body>(request: &Request<B>, head_bytes: usize) -> Option<Finding> {
    let mut tally = Tally::default();
    let (mut total, mut fields) = (0, 0);
    for (name, value) in request.headers() {
        let length = name.as_str().len() + value.len() + 4;
        total += length;
        fields += 1;
        if length > HEADER {
            tally.worst.add(Reason::LongHeader.severe());
        }
        tally.field(name.as_str().as_bytes(), value.as_bytes());
    }
    let target = request.uri().path_and_query().map_or("", |path| path.as_str());
    if !target.bytes().all(text::is_target) {
        tally.worst.add(Reason::BadTarget.ambiguous());
    }
    let target = target.len();
    if request.method().as_str().len() + target + 11 > LINE {
        tally.worst.add(Reason::LongTarget.severe());
    }
    if total + target > head_bytes {
        tally.worst.add(Reason::LongHead.severe());
    }
    if fields > super::head::FIELDS {
        tally.worst.add(Reason::ManyHeaders.severe());
    }
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    if authority.is_none() && !request.headers().contains_key(header::HOST) {
        tally.worst.add(Reason::NoHost.severe());
    }
    if authority.is_some_and(|authority| !text::is_host(authority)) {
        tally.worst.add(Reason::BadHost.severe());
    }
    tally.finish(request.method().as_str().as_bytes(), request.version(), authority);
    // HTTP/2 says by itself that there is a body; the app's HTTP/1 may not expect one.
    if matches!(*request.method(), Method::GET | Method::HEAD) && !request.body().is_end_stream() {
        tally.worst.add(Reason::BodyUnexpected.ambiguous());
    }
    tally.worst.0.filter(|finding| finding.class > Class::Compliant)
}

/// Methods whose content has no meaning (RFC 9110, section 9.3), so that some don't read it.
fn expects_none(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"TRACE" | b"CONNECT")
}

fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether a name is one of the two that frame a body, but for its punctuation.
fn alike(name: &[u8]) -> bool {
    let plain = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    let plain: Vec<u8> = name.iter().map(plain).collect();
    plain == b"content-length" || plain == b"transfer-encoding"
}

/// Two spellings of one host; the default port may be left out.
fn same_host(one: &[u8], other: &[u8]) -> bool {
    let plain = |host: &[u8]| {
        let host = host.to_ascii_lowercase();
        host.strip_suffix(b":443").map_or(host.clone(), <[u8]>::to_vec)
    };
    plain(one) == plain(other)
}
