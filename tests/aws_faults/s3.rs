//! A small S3: one bucket, its conditions, checksums, part sizes and encryption judged.

use std::{collections::HashMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use http::Method;

use crate::double::{Asked, BUCKET, Fault, OURS, Pending, Said, Version, World};

const LEAST_PART: usize = 5 << 20;
const CRC: &str = "x-amz-checksum-crc64nvme";
const WHEN: &str = "2026-01-02T03:04:05.000Z";

pub(crate) fn operation(method: &Method, key: &str, query: &HashMap<String, String>) -> &'static str {
    let has = |name: &str| query.contains_key(name);
    match (method.as_str(), key.is_empty()) {
        ("GET", true) if has("versions") => "ListObjectVersions",
        ("GET", true) if has("uploads") => "ListMultipartUploads",
        ("GET", true) if has("list-type") => "ListObjectsV2",
        ("GET", false) if has("uploadId") => "ListParts",
        // Background work's: no plan for what a client asks is used up by it.
        ("GET", false) if key.ends_with(".sealward/probe") => "Probe",
        ("GET", false) => "GetObject",
        ("HEAD", false) => "HeadObject",
        ("PUT", false) if has("partNumber") => "UploadPart",
        ("PUT", false) => "PutObject",
        ("POST", false) if has("uploads") => "CreateMultipartUpload",
        ("POST", false) if has("uploadId") => "CompleteMultipartUpload",
        ("DELETE", false) if has("uploadId") => "AbortMultipartUpload",
        ("DELETE", false) => "DeleteObject",
        _ => "OtherS3",
    }
}

pub(crate) fn refusal(status: u16, code: &str) -> Said {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>as planned</Message></Error>"
    );
    xml(status, body)
}

pub(crate) fn act(world: &mut World, asked: &Asked) -> Said {
    match decide(world, asked) {
        Ok(said) => said,
        Err((status, code)) => refusal(status, code),
    }
}

type Refused = (u16, &'static str);

fn decide(world: &mut World, asked: &Asked) -> Result<Said, Refused> {
    let header = |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok());
    let key = asked.key.as_str();
    if header("content-encoding").is_some_and(|coding| coding.contains("aws-chunked")) {
        return Err((400, "PayloadWasNotToBeChunked"));
    }
    if world.gone {
        return Err((404, "NoSuchBucket"));
    }
    let upload = || asked.query["uploadId"].clone();
    match asked.op {
        "PutObject" => {
            let sse = encryption(world, asked)?;
            judge_crc(asked, &asked.body)?;
            judge_conditions(world, asked)?;
            let version = version(world, asked.body.clone(), kept(asked), sse);
            let mut headers = encrypted(&version.sse);
            headers.push(("etag".into(), version.etag.clone()));
            if world.versioned {
                headers.push(("x-amz-version-id".into(), version.id.clone()));
            }
            world.store(key, version);
            Ok(Said { status: 200, headers, body: Bytes::new() })
        }
        "CreateMultipartUpload" => {
            let sse = encryption(world, asked)?;
            if header("x-amz-checksum-algorithm") != Some("CRC64NVME")
                || header("x-amz-checksum-type") != Some("FULL_OBJECT")
            {
                return Err((400, "InvalidRequest"));
            }
            let id = format!("upload-{}", world.number());
            let headers = encrypted(&sse);
            let pending = Pending { key: key.into(), headers: kept(asked), sse, ..Pending::default() };
            world.uploads.insert(id.clone(), pending);
            let body = format!(
                "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            );
            let mut said = xml(200, body);
            said.headers.extend(headers);
            Ok(said)
        }
        "UploadPart" => {
            let crc = if world.unchecked { String::new() } else { judge_crc(asked, &asked.body)? };
            let number: u32 = asked.query["partNumber"].parse().map_err(|_| (400, "InvalidArgument"))?;
            let etag = format!("\"{:032x}\"", world.number());
            let pending = world.uploads.get_mut(&upload()).filter(|pending| pending.key == key);
            let pending = pending.ok_or((404, "NoSuchUpload"))?;
            pending.parts.insert(number, (asked.body.clone(), etag.clone()));
            let mut headers = encrypted(&pending.sse);
            headers.extend([("etag".into(), etag), (CRC.into(), crc)]);
            Ok(Said { status: 200, headers, body: Bytes::new() })
        }
        "CompleteMultipartUpload" => complete(world, asked, &upload()),
        "AbortMultipartUpload" => match world.uploads.remove(&upload()) {
            Some(_) => Ok(Said { status: 204, headers: vec![], body: Bytes::new() }),
            None => Err((404, "NoSuchUpload")),
        },
        "ListParts" => {
            let pending = world.uploads.get(&upload()).ok_or((404, "NoSuchUpload"))?;
            let mut body = format!("<ListPartsResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key>");
            for (number, (bytes, etag)) in &pending.parts {
                let size = bytes.len();
                let etag = etag.replace('"', "&quot;");
                let _ = write!(
                    body,
                    "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><Size>{size}</Size></Part>"
                );
            }
            Ok(xml(200, body + "<IsTruncated>false</IsTruncated></ListPartsResult>"))
        }
        "GetObject" | "HeadObject" => get(world, asked),
        "Probe" => Err((404, "NoSuchKey")),
        "DeleteObject" => delete(world, asked),
        "ListObjectsV2" => Ok(list(world, asked)),
        "ListObjectVersions" => Ok(versions(world, asked)),
        "ListMultipartUploads" => Ok(uploads(world, asked)),
        _ => Err((501, "NotImplemented")),
    }
}

fn complete(world: &mut World, asked: &Asked, id: &str) -> Result<Said, Refused> {
    let pending = world.uploads.get(id).filter(|pending| pending.key == asked.key).cloned();
    let pending = pending.ok_or((404, "NoSuchUpload"))?;
    let text = String::from_utf8_lossy(&asked.body).into_owned();
    let (mut whole, mut last) = (Vec::new(), 0);
    let parts: Vec<&str> = text.split("<Part>").skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        let number: u32 = inside(part, "PartNumber").parse().map_err(|_| (400, "MalformedXML"))?;
        let (bytes, etag) = pending.parts.get(&number).ok_or((400, "InvalidPart"))?;
        if number <= last {
            return Err((400, "InvalidPartOrder"));
        }
        if inside(part, "ETag").replace("&quot;", "\"") != *etag {
            return Err((400, "InvalidPart"));
        }
        if index + 1 < parts.len() && bytes.len() < LEAST_PART {
            return Err((400, "EntityTooSmall"));
        }
        last = number;
        whole.extend_from_slice(bytes);
    }
    let size = asked.headers.get("x-amz-mp-object-size").and_then(|size| size.to_str().ok()?.parse().ok());
    if parts.is_empty() || size != Some(whole.len()) {
        return Err((400, "InvalidRequest"));
    }
    judge_crc(asked, &whole)?;
    judge_conditions(world, asked)?;
    world.uploads.remove(id);
    let version = version(world, whole.into(), pending.headers, pending.sse);
    let (etag, sse) = (version.etag.replace('"', "&quot;"), encrypted(&version.sse));
    world.store(&asked.key, version);
    let mut said = xml(
        200,
        format!(
            "<CompleteMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{}</Key><ETag>{etag}</ETag>\
             </CompleteMultipartUploadResult>",
            asked.key
        ),
    );
    said.headers.extend(sse);
    Ok(said)
}

fn get(world: &World, asked: &Asked) -> Result<Said, Refused> {
    let object = world.current(&asked.key).ok_or((404, "NoSuchKey"))?;
    let header = |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok());
    if header("if-match").is_some_and(|tag| tag != object.etag) {
        return Err((412, "PreconditionFailed"));
    }
    let mut headers = object.headers.clone();
    headers.extend(encrypted(&object.sse));
    headers.push(("etag".into(), object.etag.clone()));
    headers.push(("last-modified".into(), "Fri, 02 Jan 2026 03:04:05 GMT".into()));
    headers.push(("accept-ranges".into(), "bytes".into()));
    if world.versioned {
        headers.push(("x-amz-version-id".into(), object.id.clone()));
    }
    let length = object.body.len();
    if asked.op == "HeadObject" {
        headers.push(("content-length".into(), length.to_string()));
        return Ok(Said { status: 200, headers, body: Bytes::new() });
    }
    let range = header("range").filter(|_| !matches!(asked.fault, Some(Fault::NoRange)));
    let Some(range) = range else { return Ok(Said { status: 200, headers, body: object.body.clone() }) };
    let (first, end) =
        range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or((400, "InvalidRange"))?;
    let mut first: usize = first.parse().map_err(|_| (400, "InvalidRange"))?;
    let end: usize = end.parse::<usize>().map_or(length, |end| (end + 1).min(length));
    if first >= length {
        return Err((416, "InvalidRange"));
    }
    if matches!(asked.fault, Some(Fault::OtherRange)) {
        first += 1;
    }
    headers.push(("content-range".into(), format!("bytes {first}-{}/{length}", end - 1)));
    Ok(Said { status: 206, headers, body: object.body.slice(first..end) })
}

fn delete(world: &mut World, asked: &Asked) -> Result<Said, Refused> {
    let done = Said { status: 204, headers: vec![], body: Bytes::new() };
    if let Some(id) = asked.query.get("versionId") {
        if let Some(versions) = world.objects.get_mut(&asked.key) {
            versions.retain(|version| version.id != *id);
        }
        world.objects.retain(|_, versions| !versions.is_empty());
        return Ok(done);
    }
    let tag = asked.headers.get("if-match").and_then(|tag| tag.to_str().ok());
    match (tag, world.current(&asked.key)) {
        (Some(_), None) => return Err((404, "NoSuchKey")),
        (Some(tag), Some(object)) if object.etag != tag => return Err((412, "PreconditionFailed")),
        _ => {}
    }
    if world.versioned {
        let marker = version(world, Bytes::new(), vec![], (String::new(), None));
        let headers =
            vec![("x-amz-version-id".to_owned(), marker.id.clone()), ("x-amz-delete-marker".into(), "true".into())];
        world.store(&asked.key, Version { marker: true, ..marker });
        return Ok(Said { headers, ..done });
    }
    world.objects.remove(&asked.key);
    Ok(done)
}

fn list(world: &World, asked: &Asked) -> Said {
    let param = |name: &str| asked.query.get(name).map_or("", String::as_str);
    let most: usize = param("max-keys").parse().unwrap_or(1000);
    let mut names = world
        .objects
        .keys()
        .filter(|key| key.starts_with(param("prefix")) && key.as_str() > param("start-after"))
        .filter_map(|key| Some((key, world.current(key)?)));
    let mut body = format!("<ListBucketResult><Name>{BUCKET}</Name><EncodingType>url</EncodingType>");
    for (key, object) in names.by_ref().take(most) {
        let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let (etag, size) = (object.etag.replace('"', "&quot;"), object.body.len());
        let _ = write!(
            body,
            "<Contents><Key>{key}</Key><LastModified>{WHEN}</LastModified><ETag>{etag}</ETag><Size>{size}</Size>\
             </Contents>"
        );
    }
    let more = names.next().is_some();
    xml(200, format!("{body}<IsTruncated>{more}</IsTruncated></ListBucketResult>"))
}

fn versions(world: &World, asked: &Asked) -> Said {
    let prefix = asked.query.get("prefix").map_or("", String::as_str);
    let mut body = format!("<ListVersionsResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>");
    for (key, versions) in world.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        for (at, version) in versions.iter().enumerate().rev() {
            let name = if version.marker { "DeleteMarker" } else { "Version" };
            let latest = at + 1 == versions.len();
            let when = 10 + at;
            let _ = write!(
                body,
                "<{name}><Key>{key}</Key><VersionId>{}</VersionId><IsLatest>{latest}</IsLatest>\
                 <LastModified>2026-01-02T03:04:{when}.000Z</LastModified></{name}>",
                version.id
            );
        }
    }
    xml(200, body + "</ListVersionsResult>")
}

fn uploads(world: &World, asked: &Asked) -> Said {
    let prefix = asked.query.get("prefix").map_or("", String::as_str);
    let mut body = format!("<ListMultipartUploadsResult><Bucket>{BUCKET}</Bucket><EncodingType>url</EncodingType>");
    for (id, pending) in world.uploads.iter().filter(|(_, pending)| pending.key.starts_with(prefix)) {
        let key = percent_encoding::utf8_percent_encode(&pending.key, percent_encoding::NON_ALPHANUMERIC);
        let when = match pending.begun.as_str() {
            "" => String::new(),
            begun => format!("<Initiated>{begun}</Initiated>"),
        };
        let _ = write!(body, "<Upload><Key>{key}</Key><UploadId>{id}</UploadId>{when}</Upload>");
    }
    xml(200, body + "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
}

/// What an object is stored under: what the policy lets pass, or what the plan says.
fn encryption(world: &World, asked: &Asked) -> Result<(String, Option<String>), Refused> {
    let header = |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok());
    let kind = header("x-amz-server-side-encryption");
    let key = header("x-amz-server-side-encryption-aws-kms-key-id");
    if world.policy && (kind != Some("aws:kms") || key != Some(OURS)) {
        return Err((403, "AccessDenied"));
    }
    let bucket_key = header("x-amz-server-side-encryption-bucket-key-enabled");
    if kind == Some("aws:kms:dsse") && bucket_key.is_some() {
        return Err((400, "InvalidArgument"));
    }
    Ok(asked.sse.clone().unwrap_or_else(|| (kind.unwrap_or("AES256").into(), key.map(str::to_owned))))
}

fn encrypted((kind, key): &(String, Option<String>)) -> Vec<(String, String)> {
    let mut headers = vec![("x-amz-server-side-encryption".to_owned(), kind.clone())];
    headers.extend(key.clone().map(|key| ("x-amz-server-side-encryption-aws-kms-key-id".to_owned(), key)));
    headers
}

/// The headers that stay with an object.
fn kept(asked: &Asked) -> Vec<(String, String)> {
    let stays = |name: &str| name.starts_with("x-amz-meta-") || name == "content-type";
    let headers = asked.headers.iter().filter(|(name, _)| stays(name.as_str()));
    headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned())).collect()
}

fn judge_crc(asked: &Asked, bytes: &[u8]) -> Result<String, Refused> {
    let crc = STANDARD.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes());
    match asked.headers.get(CRC).and_then(|crc| crc.to_str().ok()) {
        Some(said) if said == crc => Ok(crc),
        Some(_) => Err((400, "BadDigest")),
        None => Err((400, "InvalidRequest")),
    }
}

fn judge_conditions(world: &World, asked: &Asked) -> Result<(), Refused> {
    let there = world.current(&asked.key);
    let tag = asked.headers.get("if-match").and_then(|tag| tag.to_str().ok()).filter(|_| !world.no_if_match);
    match (tag, there) {
        (Some(_), None) => return Err((404, "NoSuchKey")),
        (Some(tag), Some(there)) if there.etag != tag => return Err((412, "PreconditionFailed")),
        _ => {}
    }
    if asked.headers.contains_key("if-none-match") && there.is_some() {
        return Err((412, "PreconditionFailed"));
    }
    Ok(())
}

fn version(world: &mut World, body: Bytes, headers: Vec<(String, String)>, sse: (String, Option<String>)) -> Version {
    let number = world.number();
    Version { id: format!("version-{number}"), marker: false, body, etag: format!("\"{number:032x}\""), headers, sse }
}

fn inside<'a>(text: &'a str, name: &str) -> &'a str {
    let text = text.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    text.split_once("</").map_or("", |(value, _)| value)
}

/// The answer to `CompleteMultipartUpload` without its `ETag`.
pub(crate) fn without_tag(body: Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(&body) else { return body };
    let Some((before, rest)) = text.split_once("<ETag>") else { return body };
    let (_, after) = rest.split_once("</ETag>").expect("is closed");
    format!("{before}{after}").into()
}

fn xml(status: u16, body: String) -> Said {
    Said { status, headers: vec![("content-type".into(), "application/xml".into())], body: body.into() }
}
