//! Calls about a bucket: any that is named is there. None of them is on a path that is measured.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    State,
    answers::{self, Answer, Fault, Refused, empty, escaped, xml},
    objects::Condition,
    parts::inside,
    requests::Query,
};

/// The most that a list has.
const MOST: usize = 1000;
/// What `encoding-type=url` leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A bucket's settings: those that Sealward's own look at a bucket finds nothing wrong with, but
/// that it keeps no versions.
const SETTINGS: [(&str, &str); 6] = [
    ("location", "<LocationConstraint></LocationConstraint>"),
    ("versioning", "<VersioningConfiguration></VersioningConfiguration>"),
    ("versions", "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"),
    (
        "encryption",
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
         <SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>\
         </ServerSideEncryptionConfiguration>",
    ),
    (
        "publicAccessBlock",
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>\
         <IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy>\
         <RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
    ),
    (
        "lifecycle",
        "<LifecycleConfiguration><Rule><ID>unfinished</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>\
         <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>\
         </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>",
    ),
];
/// Settings that there are none of.
const UNSET: [&str; 6] = ["acl", "cors", "object-lock", "policy", "replication", "tagging"];

pub(crate) async fn act(state: &State, head: &Parts, bucket: &str, body: Incoming) -> Result<Answer, Fault> {
    let query = Query::of(&head.uri);
    match head.method {
        Method::GET if bucket.is_empty() => {
            Ok(xml("<ListAllMyBucketsResult><Buckets></Buckets></ListAllMyBucketsResult>"))
        }
        Method::GET => get(state, bucket, query),
        Method::HEAD => Ok(empty(StatusCode::OK)),
        Method::DELETE => Ok(empty(StatusCode::NO_CONTENT)),
        Method::PUT => {
            body.collect().await?;
            Ok(empty(StatusCode::OK))
        }
        Method::POST if query.has("delete") => {
            let asked = body.collect().await?.to_bytes();
            Ok(remove(state, bucket, &String::from_utf8_lossy(&asked)))
        }
        _ => Err(Refused::UNKNOWN.into()),
    }
}

fn get(state: &State, bucket: &str, query: Query<'_>) -> Result<Answer, Fault> {
    if let Some((_, setting)) = SETTINGS.into_iter().find(|(name, _)| query.has(name)) {
        return Ok(xml(setting));
    }
    if UNSET.into_iter().any(|name| query.has(name)) {
        return Err(Refused::UNKNOWN.into());
    }
    Ok(if query.has("uploads") { uploads(state, bucket, query) } else { list(state, bucket, query) })
}

/// `DeleteObjects`.
fn remove(state: &State, bucket: &str, asked: &str) -> Answer {
    let mut told = "<DeleteResult>".to_owned();
    for key in asked.split("<Object>").skip(1).filter_map(|object| inside(object, "Key")) {
        let name = format!("{bucket}/{}", unescaped(key));
        // Without a condition nothing is refused.
        if state.objects.remove(&name, Condition::None).is_ok() {
            let _ = write!(told, "<Deleted><Key>{key}</Key></Deleted>");
        }
    }
    told.push_str("</DeleteResult>");
    xml(&told)
}

/// `ListObjectsV2`, and `ListObjects` for those that ask without `list-type`.
fn list(state: &State, bucket: &str, query: Query<'_>) -> Answer {
    let told = |text: &str| spelt(text, query);
    let (prefix, delimiter) = (query.text("prefix"), query.text("delimiter"));
    let most = query.raw("max-keys").and_then(|most| most.parse().ok()).unwrap_or(MOST).min(MOST);
    let token = URL_SAFE_NO_PAD.decode(query.text("continuation-token")).unwrap_or_default();
    let token = String::from_utf8_lossy(&token).into_owned();
    let after = token.max(query.text("start-after")).max(query.text("marker"));
    let (mut entries, mut count, mut last, mut more) = (String::new(), 0, String::new(), false);
    for (name, object) in state.objects.below(&format!("{bucket}/{prefix}")) {
        let key = &name[bucket.len() + 1..];
        let rolled = if delimiter.is_empty() { None } else { key[prefix.len()..].find(&delimiter) };
        let rolled = rolled.map(|at| &key[..prefix.len() + at + delimiter.len()]);
        let entry = rolled.unwrap_or(key);
        if entry <= after.as_str() || entry == last {
            continue;
        }
        if count == most {
            more = true;
            break;
        }
        if rolled.is_some() {
            let _ = write!(entries, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", told(entry));
        } else {
            let (etag, when, size) = (answers::tag(&object.etag), answers::when(object.modified), object.body.length());
            let _ = write!(
                entries,
                "<Contents><Key>{}</Key><LastModified>{when}</LastModified><ETag>{etag}</ETag><Size>{size}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                told(entry)
            );
        }
        count += 1;
        entry.clone_into(&mut last);
    }
    let next = match (more, query.has("list-type")) {
        (false, _) => String::new(),
        (true, true) => format!("<NextContinuationToken>{}</NextContinuationToken>", URL_SAFE_NO_PAD.encode(&last)),
        (true, false) => format!("<NextMarker>{}</NextMarker>", told(&last)),
    };
    xml(&format!(
        "<ListBucketResult><Name>{}</Name><Prefix>{}</Prefix><Delimiter>{}</Delimiter><MaxKeys>{most}</MaxKeys>\
         <KeyCount>{count}</KeyCount>{}<IsTruncated>{more}</IsTruncated>{next}{entries}</ListBucketResult>",
        escaped(bucket),
        told(&prefix),
        told(&delimiter),
        encoding(query)
    ))
}

/// `ListMultipartUploads`, all at once.
fn uploads(state: &State, bucket: &str, query: Query<'_>) -> Answer {
    let mut told = format!("<ListMultipartUploadsResult><Bucket>{}</Bucket>{}", escaped(bucket), encoding(query));
    for (name, id, begun) in state.uploads.below(&format!("{bucket}/{}", query.text("prefix"))) {
        let (key, when) = (spelt(&name[bucket.len() + 1..], query), answers::when(begun));
        let _ = write!(
            told,
            "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{when}</Initiated>\
             <StorageClass>STANDARD</StorageClass></Upload>"
        );
    }
    told.push_str("<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
    xml(&told)
}

/// A name as the one who asks wants it.
fn spelt(text: &str, query: Query<'_>) -> String {
    if is_url(query) { utf8_percent_encode(text, PLAIN).to_string() } else { escaped(text) }
}

fn encoding(query: Query<'_>) -> &'static str {
    if is_url(query) { "<EncodingType>url</EncodingType>" } else { "" }
}

fn is_url(query: Query<'_>) -> bool {
    query.raw("encoding-type") == Some("url")
}

/// The text of XML, as far as clients escape names.
fn unescaped(text: &str) -> String {
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        // Last: what it makes is no beginning of another.
        ("&amp;", "&"),
    ];
    pairs.into_iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
