//! Where a bucket is, by the SDK's own rules: learnt from one of its signatures.

use std::time::Duration;

use aws_sdk_s3::{Client, presigning::PresigningConfig};
use http::{Uri, uri::Scheme};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::sign::Signer;

/// What goes as it is in a path (RFC 3986, section 2.3), and what parts one.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// A name that means nothing, and its path.
const NAME: &str = "-";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// There was no signature to learn from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unlearnt;

/// A bucket's address.
#[derive(Debug)]
pub(super) struct Place {
    /// What is connected to: scheme and authority.
    pub(super) uri: Uri,
    pub(super) host: String,
    /// What stands before a name: `/`, or the bucket.
    base: String,
    pub(super) signer: Signer,
}

impl Place {
    /// That of `bucket`, where a plain signature does: access points of several regions and
    /// directory buckets have others, and none.
    ///
    /// # Errors
    /// Where there is no signature to learn from.
    pub(super) async fn of(client: &Client, bucket: &str) -> Result<Option<Self>, Unlearnt> {
        let config = PresigningConfig::expires_in(Duration::from_secs(60)).map_err(|_| Unlearnt)?;
        let signed = client.get_object().bucket(bucket).key(NAME).presigned(config).await.map_err(|_| Unlearnt)?;
        Ok(Self::by(signed.uri()))
    }

    fn by(signed: &str) -> Option<Self> {
        let uri: Uri = signed.parse().ok()?;
        let query = |name: &str| {
            form_urlencoded::parse(uri.query()?.as_bytes())
                .find(|(found, _)| found == name)
                .map(|(_, value)| value.into_owned())
        };
        if query("X-Amz-Algorithm").as_deref() != Some(ALGORITHM) || query("X-Amz-S3session-Token").is_some() {
            return None;
        }
        // `ID/day/region/service/aws4_request`
        let scope = query("X-Amz-Credential")?;
        let mut scope = scope.rsplit('/');
        let (_, service, region) = (scope.next()?, scope.next()?, scope.next()?);
        let base = uri.path().strip_suffix(NAME)?.to_owned();
        if service != "s3" || !matches!(uri.scheme(), Some(scheme) if [Scheme::HTTP, Scheme::HTTPS].contains(scheme)) {
            return None;
        }
        let host = uri.authority()?.as_str().to_owned();
        let signer = Signer::new(region);
        let uri =
            Uri::builder().scheme(uri.scheme()?.as_str()).authority(uri.authority()?.as_str()).path_and_query("/");
        Some(Self { uri: uri.build().ok()?, host, base, signer })
    }

    /// The path of an object.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{}", self.base, percent_encode(name.as_bytes(), PATH))
    }
}

/// As a query has it.
pub(in crate::store::s3) fn in_query(text: &str) -> String {
    percent_encode(text.as_bytes(), QUERY).to_string()
}
