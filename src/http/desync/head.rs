//! A request's head as it came over the wire (RFC 9112, sections 2 to 6).

use http::{Method, Version};

use super::{
    Class, Finding, Reason, Worst,
    fields::{HEADER, LINE, Tally},
    text,
};

/// The longest method.
const METHOD: usize = 32;
/// Header fields of one request: as many as hyper reads without asking for memory.
pub(super) const FIELDS: usize = 100;

/// How the end of a request's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// By its chunks.
    Chunked,
    /// Nobody can tell.
    Unknown,
}

/// What a head came to.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The worst that is wrong with it.
    pub finding: Option<Finding>,
    /// How its body ends.
    pub framing: Framing,
    /// Whether it asks for another protocol behind it.
    pub upgrade: bool,
    /// Its method, as far as it is one.
    pub method: Option<Method>,
}

/// Where the head in `bytes` ends, if it does, behind its empty line. Lines that end in LF
/// alone count too: some reader takes them. Looks from `from` on: no end was found before it.
fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let next = at + found + 1;
        match &bytes[next..] {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => at = next,
        }
    }
    None
}

/// Judges the head at the beginning of `bytes`: how long it is, and what it came to. `None`
/// while it isn't whole, and no longer than `most` bytes; `scanned` then says from where to look on.
pub fn judge(bytes: &[u8], scanned: &mut usize, most: usize) -> Option<(usize, Judged)> {
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let too_long = |reason: Reason| {
        let judged = Judged { finding: Some(reason.severe()), framing: Framing::Unknown, upgrade: false, method: None };
        Some((bytes.len(), judged))
    };
    if empty > 64 {
        return too_long(Reason::EmptyLines);
    }
    let Some(length) = end(&bytes[empty..], scanned.saturating_sub(empty)).map(|end| empty + end) else {
        if let Some(judged) = hopeless(&bytes[empty..]) {
            return Some((bytes.len(), judged));
        }
        // The last bytes may be the beginning of the end.
        *scanned = bytes.len().saturating_sub(3).max(empty);
        return if bytes.len() > most {
            let long = bytes[empty..].iter().take(LINE).all(|byte| *byte != b'\n');
            too_long(if long { Reason::LongTarget } else { Reason::LongHead })
        } else if bytes.len() > empty + LINE && bytes[empty..=empty + LINE].iter().all(|byte| *byte != b'\n') {
            too_long(Reason::LongTarget)
        } else {
            None
        };
    };
    let mut judged = whole(&bytes[empty..length]);
    let mut worst = Worst(judged.finding);
    match empty {
        0 => {}
        // A server should ignore at least one (RFC 9112, section 2.2).
        2 if bytes.starts_with(b"\r\n") => worst.add(Reason::EmptyLines.acceptable()),
        _ => worst.add(Reason::EmptyLines.ambiguous()),
    }
    if length > most {
        worst.add(Reason::LongHead.severe());
    }
    judged.finding = worst.0.filter(|finding| finding.class > Class::Compliant);
    Some((length, judged))
}

/// Whether what has come is the beginning of no request: then nobody waits for its end.
fn hopeless(bytes: &[u8]) -> Option<Judged> {
    let method = bytes.iter().take(METHOD).take_while(|byte| **byte != b' ').count();
    let good = bytes[..method].iter().all(|byte| text::is_token(*byte)) && method < METHOD;
    let finding = (!good).then(|| Reason::BadMethod.severe());
    finding.map(|finding| Judged { finding: Some(finding), framing: Framing::Unknown, upgrade: false, method: None })
}

/// A head with its empty line.
fn whole(head: &[u8]) -> Judged {
    let mut tally = Tally::default();
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    let first = line(lines.next().unwrap_or_default(), &mut tally.worst);
    if first.len() > LINE {
        tally.worst.add(Reason::LongTarget.severe());
    }
    let request = request_line(first, &mut tally.worst);
    let mut fields = 0;
    for raw in lines {
        let text = line(raw, &mut tally.worst);
        if text.is_empty() {
            break;
        }
        fields += 1;
        if text.len() > HEADER {
            tally.worst.add(Reason::LongHeader.severe());
        }
        field(text, &mut tally);
    }
    if fields > FIELDS {
        tally.worst.add(Reason::ManyHeaders.severe());
    }
    let (method, version, authority) = request.unwrap_or((b"", Version::HTTP_11, None));
    tally.finish(method, version, authority);
    let framing = if tally.chunked {
        Framing::Chunked
    } else if let Some(length) = tally.length.filter(|length| *length > 0) {
        Framing::Length(length)
    } else {
        Framing::None
    };
    let finding = tally.worst.0;
    let severe = finding.is_some_and(|finding| finding.class == Class::Severe);
    Judged {
        finding,
        framing: if severe { Framing::Unknown } else { framing },
        upgrade: tally.upgrade || method == b"CONNECT",
        method: Method::from_bytes(method).ok(),
    }
}

/// A line without its end.
fn line<'a>(raw: &'a [u8], worst: &mut Worst) -> &'a [u8] {
    let text = match raw {
        [text @ .., b'\r', b'\n'] => text,
        [text @ .., b'\n'] => {
            worst.add(Reason::BareLf.acceptable());
            text
        }
        text => text,
    };
    // One pass for what stands nowhere in a head.
    if text.iter().any(|byte| matches!(byte, 0 | b'\r')) {
        worst.add(if text.contains(&0) { Reason::Nul.severe() } else { Reason::BareCr.severe() });
    }
    text
}

type RequestLine<'a> = (&'a [u8], Version, Option<&'a [u8]>);

/// Method, version, and the authority of a target that names one.
fn request_line<'a>(line: &'a [u8], worst: &mut Worst) -> Option<RequestLine<'a>> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        worst.add(Reason::BadRequestLine.severe());
        return None;
    };
    if method.is_empty() || method.len() >= METHOD || !method.iter().all(|byte| text::is_token(*byte)) {
        worst.add(Reason::BadMethod.severe());
    }
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            worst.add(Reason::OtherVersion.severe());
            Version::HTTP_11
        }
        _ => {
            worst.add(Reason::BadVersion.severe());
            Version::HTTP_11
        }
    };
    Some((method, version, self::target(method, target, worst)))
}

/// Judges the target; the authority of one in absolute form (RFC 9112, section 3.2).
fn target<'a>(method: &[u8], target: &'a [u8], worst: &mut Worst) -> Option<&'a [u8]> {
    if target.is_empty() || target.iter().any(u8::is_ascii_control) {
        worst.add(Reason::BadTarget.severe());
        return None;
    }
    if !target.iter().all(|byte| text::is_target(*byte)) {
        // A fragment is never sent, and a backslash is a slash to some; the rest is taken as it is.
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let never = target.contains(&b'#') || path.contains(&b'\\');
        worst.add(if never { Reason::BadTarget.severe() } else { Reason::BadTarget.ambiguous() });
    }
    match target {
        [b'/', ..] => {
            if method == b"CONNECT" {
                worst.add(Reason::Connect.severe());
            }
            None
        }
        b"*" if method == b"OPTIONS" => None,
        // There is nothing to connect to behind us.
        _ if method == b"CONNECT" => {
            worst.add(Reason::Connect.severe());
            None
        }
        _ => {
            let lower: Vec<u8> = target.iter().take(8).map(u8::to_ascii_lowercase).collect();
            let scheme = if lower.starts_with(b"https://") {
                8
            } else if lower.starts_with(b"http://") {
                7
            } else {
                worst.add(Reason::BadTarget.severe());
                return None;
            };
            let rest = &target[scheme..];
            let authority = rest.split(|byte| matches!(byte, b'/' | b'?')).next().unwrap_or_default();
            if !text::is_host(authority) {
                worst.add(Reason::BadHost.severe());
            }
            Some(authority)
        }
    }
}

fn field<'a>(line: &'a [u8], tally: &mut Tally<'a>) {
    if let [b' ' | b'\t', ..] = line {
        return tally.worst.add(Reason::ObsFold.severe());
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return tally.worst.add(Reason::BadName.severe());
    };
    let (name, value) = (&line[..colon], text::trimmed(&line[colon + 1..]));
    if !name.iter().all(|byte| text::is_token(*byte)) || name.is_empty() {
        let spaced = matches!(name, [.., b' ' | b'\t']);
        tally.worst.add(if spaced { Reason::SpaceBeforeColon.severe() } else { Reason::BadName.severe() });
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        tally.worst.add(Reason::BadValue.severe());
    }
    // What frames the message is looked for behind odd spellings as well.
    tally.field(text::trimmed(name), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 64 << 10;

    fn of(head: &[u8]) -> (Option<(Class, Reason)>, Framing) {
        let (length, judged) = judge(head, &mut 0, MOST).expect("a whole head");
        assert!(length <= head.len());
        (judged.finding.map(|finding| (finding.class, finding.reason)), judged.framing)
    }

    #[test]
    fn what_the_rfcs_want_is_compliant() {
        for (head, framing) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Framing::None),
            (b"GET / HTTP/1.0\r\n\r\n", Framing::None),
            (b"OPTIONS * HTTP/1.1\r\nhost: a:8443\r\n\r\n", Framing::None),
            (b"GET https://a/b HTTP/1.1\r\nhost: A\r\n\r\n", Framing::None),
            (b"PUT /a?b={c}|d HTTP/1.1\r\nhost: [::1]:1\r\ncontent-length:\t5 \r\n\r\nhello", Framing::Length(5)),
            (b"POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked),
            (b"DELETE /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nx-empty:\r\nx-text: \xe4\r\n\r\n", Framing::None),
        ] {
            assert_eq!(of(head), (None, framing), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_head_that_is_not_whole_is_waited_for_and_found_from_where_one_left_off() {
        let whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST";
        let mut scanned = 0;
        for length in 0..27 {
            assert!(judge(&whole[..length], &mut scanned, MOST).is_none(), "{length}");
            assert!(scanned <= length);
        }
        let (length, judged) = judge(whole, &mut scanned, MOST).expect("whole");
        assert_eq!((length, judged.finding), (27, None));
    }

    #[test]
    fn what_is_too_long_is_known_before_its_end() {
        let reason = |head: &[u8]| judge(head, &mut 0, MOST).and_then(|(_, judged)| judged.finding).map(|f| f.reason);
        let line = [b"GET /".as_slice(), &vec![b'a'; LINE]].concat();
        assert_eq!(reason(&line), Some(Reason::LongTarget));
        assert_eq!(reason(&line[..LINE]), None);
        let endless = [b"GET / HTTP/1.1\r\nhost: a\r\n".as_slice(), &b"x: 1234567890123456\r\n".repeat(4000)].concat();
        assert_eq!(reason(&endless), Some(Reason::LongHead));
        let header = [b"GET / HTTP/1.1\r\nhost: a\r\nx: ".as_slice(), &vec![b'a'; HEADER], b"\r\n\r\n"].concat();
        assert_eq!(reason(&header), Some(Reason::LongHeader));
        let many = [b"GET / HTTP/1.1\r\nhost: a\r\n".as_slice(), &b"x: 1\r\n".repeat(FIELDS), b"\r\n"].concat();
        assert_eq!(reason(&many), Some(Reason::ManyHeaders));
        assert_eq!(reason(&b"\r\n".repeat(40)), Some(Reason::EmptyLines));
    }

    proptest::proptest! {
        /// However a head comes in, it is judged alike, and nothing makes it panic.
        #[test]
        fn pieces_make_no_difference(bytes in proptest::collection::vec(
            proptest::sample::select(b"GET / HTTP/1.1\r\n\r\n\nhost:a content-length:5transfer-encoding: chunked\t\0\x80;,".to_vec()), 0..200),
            cut in 0_usize..200) {
            let cut = cut.min(bytes.len());
            let mut scanned = 0;
            let first = judge(&bytes[..cut], &mut scanned, MOST);
            let pieces = first.or_else(|| judge(&bytes, &mut scanned, MOST));
            let whole = judge(&bytes, &mut 0, MOST);
            let Some((length, judged)) = pieces else {
                proptest::prop_assert!(whole.is_none());
                return Ok(());
            };
            // What is hopeless is known before it is whole.
            if length == cut && judged.method.is_none() && judged.finding.is_some() {
                let severe = |(_, judged): (usize, Judged)| judged.finding.is_some_and(|finding| finding.class == Class::Severe);
                proptest::prop_assert!(whole.is_some_and(severe));
                return Ok(());
            }
            let told = |(length, judged): (usize, Judged)| (length, judged.finding, judged.framing);
            proptest::prop_assert_eq!(Some(told((length, judged))), whole.map(told));
        }
    }
}
