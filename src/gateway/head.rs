//! What a request's head says: conditions, ranges, digests, descriptions.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, header};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::{
    fault::{Fault, Kind},
    objects::{Algorithm, Description, ETagList, IfRange, Preconditions, Promise, Promises, RangeSpec, WriteCondition},
    store::ETag,
};

const CHECKSUM: &str = "x-amz-checksum-";

/// The conditions of a read.
///
/// # Errors
/// 400 for an entity tag that can't be read. A date that can't be is ignored, as
/// RFC 9110 wants it.
pub(super) fn preconditions(headers: &HeaderMap) -> Result<Preconditions, Fault> {
    Ok(Preconditions {
        if_match: tags(headers, &header::IF_MATCH)?,
        if_none_match: tags(headers, &header::IF_NONE_MATCH)?,
        modified_since: date(headers, &header::IF_MODIFIED_SINCE),
        unmodified_since: date(headers, &header::IF_UNMODIFIED_SINCE),
    })
}

/// The condition of a write or a delete.
///
/// # Errors
/// 400 for conditions that a write doesn't take; ignoring one would be worse.
pub(super) fn write_condition(headers: &HeaderMap) -> Result<WriteCondition, Fault> {
    for name in [header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE, header::IF_RANGE] {
        if headers.contains_key(&name) {
            return Err(Fault::bad_request(format!("{name} is not taken here; use If-Match with an entity tag")));
        }
    }
    match (tags(headers, &header::IF_MATCH)?, tags(headers, &header::IF_NONE_MATCH)?) {
        (None, None) => Ok(WriteCondition::None),
        (None, Some(ETagList::Any)) => Ok(WriteCondition::Absent),
        (Some(ETagList::Any), None) => Ok(WriteCondition::Present),
        // A weak tag never matches strongly.
        (Some(ETagList::These(tags)), None) => {
            Ok(WriteCondition::OneOf(tags.into_iter().filter(|(_, weak)| !weak).map(|(tag, _)| tag).collect()))
        }
        (_, Some(ETagList::These(_))) => {
            Err(Fault::bad_request("If-None-Match takes only * here: it creates, and never replaces"))
        }
        (Some(_), Some(_)) => Err(Fault::bad_request("If-Match and If-None-Match contradict each other")),
    }
}

/// The one range that is asked for. Several, another unit, or what can't be read
/// is no range: RFC 9110 lets a server answer with the whole.
pub(super) fn range(headers: &HeaderMap) -> Option<RangeSpec> {
    let mut values = headers.get_all(header::RANGE).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (unit, range) = value.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first.trim(), last.trim()) {
        ("", last) => Some(RangeSpec::Last(number(last)?)),
        (first, "") => Some(RangeSpec::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(RangeSpec::From(first, Some(last)))
        }
    }
}

/// `If-Range`: a strong tag or a date; anything else never holds.
pub(super) fn if_range(headers: &HeaderMap) -> Option<IfRange> {
    let value = headers.get(header::IF_RANGE)?;
    let text = value.to_str().unwrap_or_default().trim();
    Some(match parse_tag(text) {
        Some((tag, false)) => IfRange::Tag(tag),
        Some((_, true)) => IfRange::Date(None),
        None => IfRange::Date(httpdate::parse_http_date(text).ok()),
    })
}

/// What is said of an object that comes.
///
/// # Errors
/// 400 for labels that are ours, 415 for a coding this door doesn't take.
pub(super) fn description(headers: &HeaderMap, public_cache: bool) -> Result<Description, Fault> {
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| mentions(coding.as_bytes(), "aws-chunked")) {
        return Err(Fault::new(
            Kind::UnsupportedMediaType,
            "the content coding aws-chunked is not taken here: send the body as it is",
        ));
    }
    if !public_cache && headers.get_all(header::CACHE_CONTROL).iter().any(|control| is_shared(control.as_bytes())) {
        return Err(Fault::bad_request(
            "Cache-Control: public or s-maxage needs the class's leave (allow_public_cache); leave it out",
        ));
    }
    let mut description = Description::default();
    for (name, value) in headers {
        description.take(name.as_str(), value.as_bytes())?;
    }
    Ok(description)
}

/// The digests that are promised now, and those announced for the trailer.
///
/// # Errors
/// 400 for a digest that can't be read, or by no algorithm we know: what a
/// client asked to have checked is checked, or refused.
pub(super) fn promises(headers: &HeaderMap) -> Result<Promises, Fault> {
    let mut late = Vec::new();
    for announcing in ["trailer", "x-amz-trailer"] {
        for value in headers.get_all(announcing) {
            for name in value.to_str().unwrap_or_default().split(',') {
                let name = name.trim().to_ascii_lowercase();
                if let Some(algorithms) = algorithms_of(&name)? {
                    late.push(algorithms);
                }
            }
        }
    }
    Ok(Promises { now: promised(headers)?, late })
}

/// Every digest in `headers`, be they before or after the body.
///
/// # Errors
/// As [`promises`].
pub(super) fn promised(headers: &HeaderMap) -> Result<Vec<Promise>, Fault> {
    let mut promises = Vec::new();
    for (name, value) in headers {
        let Some(algorithms) = algorithms_of(name.as_str())? else { continue };
        let text = value.to_str().map_err(|_| unreadable(name))?;
        if matches!(name.as_str(), "content-digest" | "repr-digest") {
            promises.extend(dictionary(name, text)?);
        } else if let [algorithm] = algorithms[..] {
            let value = STANDARD.decode(text.trim()).map_err(|_| unreadable(name))?;
            if value.len() != algorithm.size() {
                return Err(unreadable(name));
            }
            promises.push(Promise { algorithm, value });
        }
    }
    Ok(promises)
}

/// The algorithms that the field `name` can bring, if it is a digest at all.
fn algorithms_of(name: &str) -> Result<Option<Vec<Algorithm>>, Fault> {
    Ok(Some(match name {
        "content-md5" => vec![Algorithm::Md5],
        "content-digest" | "repr-digest" => vec![Algorithm::Sha256, Algorithm::Sha512],
        _ => match name.strip_prefix(CHECKSUM) {
            // Says how, not what.
            None | Some("algorithm" | "type" | "mode") => return Ok(None),
            Some("crc32") => vec![Algorithm::Crc32],
            Some("crc32c") => vec![Algorithm::Crc32c],
            Some("crc64nvme") => vec![Algorithm::Crc64Nvme],
            Some("sha256") => vec![Algorithm::Sha256],
            Some(_) => {
                return Err(Fault::bad_request(
                    "that x-amz-checksum is not one we check: crc32, crc32c, crc64nvme and sha256 are",
                ));
            }
        },
    }))
}

/// RFC 9530: a dictionary of byte sequences by algorithm. Unknown ones are passed
/// over as long as one is known.
fn dictionary(name: &HeaderName, text: &str) -> Result<Vec<Promise>, Fault> {
    let dictionary: Dictionary = Parser::new(text).parse().map_err(|_| unreadable(name))?;
    let mut promises = Vec::new();
    for (key, entry) in &dictionary {
        let algorithm = match key.as_str() {
            "sha-256" => Algorithm::Sha256,
            "sha-512" => Algorithm::Sha512,
            _ => continue,
        };
        let ListEntry::Item(item) = entry else { return Err(unreadable(name)) };
        let BareItem::ByteSequence(value) = &item.bare_item else { return Err(unreadable(name)) };
        if value.len() != algorithm.size() {
            return Err(unreadable(name));
        }
        promises.push(Promise { algorithm, value: value.clone() });
    }
    if promises.is_empty() {
        return Err(Fault::bad_request(format!("{name} has no algorithm that we check: sha-256 and sha-512 are")));
    }
    Ok(promises)
}

fn unreadable(name: &HeaderName) -> Fault {
    Fault::bad_request(format!("the header {name} can't be read as a digest"))
}

/// Whether a comma-separated value has `token` among its members.
fn mentions(value: &[u8], token: &str) -> bool {
    value.split(|byte| *byte == b',').any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether a `Cache-Control` keeps shared caches out.
pub(super) fn is_private(value: &[u8]) -> bool {
    (mentions(value, "private") || mentions(value, "no-store")) && !is_shared(value)
}

/// Whether a `Cache-Control` lets shared caches keep what needed a token.
pub(super) fn is_shared(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let mut members = lower.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    members.any(|member| member == b"public" || member.starts_with(b"s-maxage"))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<ETagList>, Fault> {
    let bad = || Fault::bad_request(format!("the header {name} can't be read as entity tags"));
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        let mut rest = value.to_str().map_err(|_| bad())?.trim();
        if rest == "*" {
            return Ok(Some(ETagList::Any));
        }
        // A tag may hold a comma: it ends at its quote.
        while !rest.is_empty() {
            let opening = rest.find('"').ok_or_else(bad)?;
            let closing = opening + 1 + rest[opening + 1..].find('"').ok_or_else(bad)?;
            tags.push(parse_tag(rest[..=closing].trim()).ok_or_else(bad)?);
            rest = rest[closing + 1..].trim_start();
            match rest.strip_prefix(',') {
                Some(next) => rest = next.trim_start(),
                None if rest.is_empty() => {}
                None => return Err(bad()),
            }
        }
    }
    Ok(headers.contains_key(name).then_some(ETagList::These(tags)))
}

/// A tag and whether it is weak.
fn parse_tag(text: &str) -> Option<(ETag, bool)> {
    let (text, weak) = text.strip_prefix("W/").map_or((text, false), |text| (text, true));
    let opaque = text.strip_prefix('"')?.strip_suffix('"')?;
    (!opaque.contains('"')).then(|| (ETag(opaque.to_owned()), weak))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a header value")))
            .collect()
    }

    #[test]
    fn ranges_are_read_or_ignored() {
        for (text, expected) in [
            ("bytes=0-0", Some(RangeSpec::From(0, Some(0)))),
            ("bytes=5-", Some(RangeSpec::From(5, None))),
            ("bytes=-5", Some(RangeSpec::Last(5))),
            ("Bytes = 1-2", Some(RangeSpec::From(1, Some(2)))),
            ("bytes=0-99999999999999999999", Some(RangeSpec::From(0, Some(u64::MAX)))),
            ("bytes=2-1", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes", None),
        ] {
            assert_eq!(range(&headers(&[("range", text)])), expected, "{text}");
        }
    }

    #[test]
    fn conditions_of_writes() {
        let tag = |text: &str| ETag(text.to_owned());
        for (pairs, expected) in [
            (&[][..], Ok(WriteCondition::None)),
            (&[("if-none-match", "*")], Ok(WriteCondition::Absent)),
            (&[("if-match", "*")], Ok(WriteCondition::Present)),
            (&[("if-match", "\"a\", W/\"b\",\"c,d\"")], Ok(WriteCondition::OneOf(vec![tag("a"), tag("c,d")]))),
            (&[("if-none-match", "\"a\"")], Err(400)),
            (&[("if-match", "*"), ("if-none-match", "*")], Err(400)),
            (&[("if-match", "a")], Err(400)),
            (&[("if-match", "\"a\" \"b\"")], Err(400)),
            (&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], Err(400)),
        ] {
            let found = write_condition(&headers(pairs)).map_err(|fault| fault.status().as_u16());
            assert_eq!(found, expected, "{pairs:?}");
        }
    }

    #[test]
    fn digests_are_read_or_refused() {
        let good = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        let read = |name, value: &str| promised(&headers(&[(name, value)])).map(|promises| promises.len());
        assert_eq!(read("content-digest", good).expect("reads"), 1);
        assert_eq!(read("repr-digest", &format!("unixsum=:AAAA:, {good}")).expect("reads"), 1);
        assert_eq!(read("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==").expect("reads"), 1);
        assert_eq!(read("x-amz-checksum-crc32", "AAAAAA==").expect("reads"), 1);
        assert_eq!(read("x-amz-checksum-algorithm", "CRC32").expect("is none"), 0);
        for (name, value) in [
            ("content-digest", "unixsum=:AAAA:"),
            ("content-digest", "sha-256=:AAAA:"),
            ("content-digest", "sha-256=abc"),
            ("content-digest", "=="),
            ("content-md5", "AAAA"),
            ("content-md5", "?"),
            ("x-amz-checksum-sha1", "AAAA"),
            ("x-amz-checksum-crc64nvme", "AAAA"),
        ] {
            assert_eq!(read(name, value).expect_err(value).status(), 400, "{name}: {value}");
        }
        let announced =
            promises(&headers(&[("trailer", "Content-Digest, X-Other"), ("x-amz-trailer", "x-amz-checksum-crc32c")]));
        assert_eq!(announced.expect("reads").late.len(), 2);
    }

    #[test]
    fn descriptions_have_their_bounds() {
        let read =
            |name, value: &str| description(&headers(&[(name, value)]), false).map_err(|fault| fault.status().as_u16());
        assert!(read("content-type", "text/plain").is_ok());
        assert_eq!(read("content-encoding", "gzip, AWS-Chunked"), Err(415));
        assert_eq!(read("cache-control", "max-age=1, Public"), Err(400));
        assert_eq!(read("cache-control", "S-MaxAge=9"), Err(400));
        assert!(read("cache-control", "max-age=1").is_ok());
        assert_eq!(read("x-amz-meta-sealward-x", "1"), Err(400));
    }
}
