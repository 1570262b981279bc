//! Signature Version 4 of a request in its headers, its body unsigned: what goes has a checksum
//! that is signed.
//!
//! The key of a day is kept: that is four of the five HMACs that a signature takes.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_lc_rs::{digest, hmac};
use time::OffsetDateTime;

use super::head::Fields;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// SHA-256 of no bytes.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DAY: Duration = Duration::from_secs(86_400);

/// Signs for S3 in one region.
pub(super) struct Signer {
    region: String,
    kept: Mutex<Option<Arc<Key>>>,
}

/// The key of a day.
struct Key {
    /// Since 1970.
    day: u64,
    /// As signatures have it.
    date: String,
    credentials: Credentials,
    of_day: hmac::Key,
}

impl Signer {
    pub(super) fn new(region: &str) -> Self {
        Self { region: region.to_owned(), kept: Mutex::default() }
    }

    /// The head of a call with `length` bytes of body, with what S3 goes by: the date, the session's
    /// token, and a signature over all of `fields`, `host` among them. `path` and `query` are as they
    /// go out, the query in order. `None` where something in it can't be sent.
    pub(super) fn head(
        &self,
        credentials: &Credentials,
        now: SystemTime,
        (method, path, query): (&str, &str, &str),
        fields: &mut Fields<'_>,
        length: usize,
    ) -> Option<Vec<u8>> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let key = self.key(since, credentials);
        let stamp = stamp(&key.date, since);
        fields.add("x-amz-date", stamp.clone());
        let payload = if length == 0 { EMPTY } else { UNSIGNED };
        fields.add("x-amz-content-sha256", payload);
        if let Some(token) = credentials.session_token() {
            fields.add("x-amz-security-token", token.to_owned());
        }
        fields.sort();
        if !fields.fit() {
            return None;
        }
        let (canonical, signed) = canonical((method, path, query), fields, payload);
        let (id, date, region) = (credentials.access_key_id(), &key.date, &self.region);
        let mut to_sign = Vec::with_capacity(256);
        for part in [ALGORITHM, "\n", &stamp, "\n", date, "/", region, "/s3/aws4_request\n"] {
            to_sign.extend_from_slice(part.as_bytes());
        }
        to_sign.extend_from_slice(hex::encode(digest::digest(&digest::SHA256, &canonical)).as_bytes());

        let mut head = Vec::with_capacity(canonical.len() + 512);
        for part in [method, " ", path, if query.is_empty() { "" } else { "?" }, query, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        for (name, value) in fields.iter() {
            for part in [name, ": ", value, "\r\n"] {
                head.extend_from_slice(part.as_bytes());
            }
        }
        // Unsigned, as the SDK's: what stands between may add to it.
        head.extend_from_slice(concat!("user-agent: sealward/", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes());
        let credential = [id, "/", date, "/", region, "/s3/aws4_request"];
        let before = ["authorization: ", ALGORITHM, " Credential="];
        for part in before.iter().chain(&credential).chain(&[", SignedHeaders=", &signed, ", Signature="]) {
            head.extend_from_slice(part.as_bytes());
        }
        head.extend_from_slice(hex::encode(hmac::sign(&key.of_day, &to_sign)).as_bytes());
        head.extend_from_slice(b"\r\n");
        if length > 0 || method == "PUT" {
            head.extend_from_slice(b"content-length: ");
            head.extend_from_slice(length.to_string().as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Some(head)
    }

    fn key(&self, since: Duration, credentials: &Credentials) -> Arc<Key> {
        let day = since.as_secs() / DAY.as_secs();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = kept.as_ref().filter(|key| {
            key.day == day
                && key.credentials.access_key_id() == credentials.access_key_id()
                && key.credentials.secret_access_key() == credentials.secret_access_key()
        }) {
            return Arc::clone(key);
        }
        let date = OffsetDateTime::from(SystemTime::UNIX_EPOCH + since).date();
        let date = format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day());
        let first = format!("AWS4{}", credentials.secret_access_key());
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
        for part in [&date, &self.region, "s3", "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        let key = Arc::new(Key { day, date, credentials: credentials.clone(), of_day: key });
        *kept = Some(Arc::clone(&key));
        key
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("region", &self.region).finish_non_exhaustive()
    }
}

/// `20260102T030405Z`
fn stamp(date: &str, since: Duration) -> String {
    let seconds = since.as_secs() % DAY.as_secs();
    let mut stamp = String::with_capacity(16);
    stamp.push_str(date);
    stamp.push('T');
    for two in [seconds / 3600, seconds / 60 % 60, seconds % 60] {
        for digit in [two / 10, two % 10] {
            stamp.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
        }
    }
    stamp.push('Z');
    stamp
}

/// What is signed, and the names of the fields in it.
fn canonical((method, path, query): (&str, &str, &str), fields: &Fields<'_>, payload: &str) -> (Vec<u8>, String) {
    let mut canonical = Vec::with_capacity(1024);
    for line in [method, path, query] {
        canonical.extend_from_slice(line.as_bytes());
        canonical.push(b'\n');
    }
    let mut signed = String::with_capacity(256);
    for (name, value) in fields.iter() {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(b':');
        trimmed(&mut canonical, value.as_bytes());
        canonical.push(b'\n');
        if !signed.is_empty() {
            signed.push(';');
        }
        signed.push_str(name);
    }
    canonical.push(b'\n');
    canonical.extend_from_slice(signed.as_bytes());
    canonical.push(b'\n');
    canonical.extend_from_slice(payload.as_bytes());
    (canonical, signed)
}

/// Spaces in a row count as one, and none at either end.
fn trimmed(into: &mut Vec<u8>, value: &[u8]) {
    let value = value.trim_ascii();
    if !value.windows(2).any(|two| two == b"  ") {
        return into.extend_from_slice(value);
    }
    for (at, &byte) in value.iter().enumerate() {
        if byte != b' ' || value[at - 1] != b' ' {
            into.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sigv4::{
        http_request::{
            PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
            UriPathNormalizationMode, sign,
        },
        sign::v4,
    };
    use proptest::prelude::*;

    use super::*;

    /// As AWS's own crate has it.
    fn theirs(
        credentials: &Credentials,
        now: SystemTime,
        uri: &str,
        headers: &[(String, String)],
        body: SignableBody<'_>,
    ) -> String {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder().identity(&identity).region("eu-central-1").name("s3");
        let parameters = parameters.time(now).settings(settings).build().expect("whole").into();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new("PUT", uri, headers, body).expect("can be signed");
        let (told, _) = sign(request, &parameters).expect("is signed").into_parts();
        let (headers, _) = told.into_parts();
        headers.iter().find(|header| header.name() == "authorization").expect("is there").value().to_owned()
    }

    proptest! {
        #[test]
        fn signatures_are_those_of_the_sdk(
            path in "[A-Za-z0-9._~/-]{0,40}(%20|%C3%A4){0,2}",
            query in prop_oneof!["", "partNumber=[1-9]&uploadId=[A-Za-z0-9]{4}"],
            entries in proptest::collection::btree_map("x-amz-meta-[a-z]{1,6}", "[!-~]{1,8}( {1,3}[!-~]{1,4}){0,2}", 0..4),
            token in proptest::option::of("[A-Za-z0-9]{8}"),
            seconds in 1_000_000_000_u64..2_000_000_000,
            length in prop_oneof![Just(0_usize), 1..9_usize],
        ) {
            let credentials = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token, None, "test");
            let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let mut given: Vec<(String, String)> = entries.into_iter().collect();
            given.push(("host".into(), "bucket.example.com".into()));
            let mut fields = Fields::default();
            for (name, value) in &given {
                fields.add(name.as_str(), value.as_str());
            }
            let signer = Signer::new("eu-central-1");
            let path = format!("/{path}");
            let head = signer.head(&credentials, now, ("PUT", &path, &query), &mut fields, length).expect("is signed");
            let mark = if query.is_empty() { "" } else { "?" };
            let uri = format!("https://bucket.example.com{path}{mark}{query}");
            let head = String::from_utf8(head).expect("is text");
            let body = if length == 0 { SignableBody::Bytes(b"") } else { SignableBody::UnsignedPayload };
            let theirs = theirs(&credentials, now, &uri, &given, body);
            let expected = format!("\r\nauthorization: {theirs}\r\ncontent-length: {length}\r\n\r\n");
            prop_assert!(head.ends_with(&expected), "{head} {expected}");
            prop_assert!(head.starts_with(&format!("PUT {path}{mark}{query} HTTP/1.1\r\n")), "{head}");
        }
    }
}
