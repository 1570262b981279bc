//! Uploads in parts.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use http::{HeaderValue, StatusCode, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::{
    State,
    answers::{self, Answer, Fault, Refused, empty, escaped, xml},
    objects::{Condition, Kept, Object, is_tag, kept},
    pieces::Pieces,
    requests::{Query, taken},
};

/// The highest number of a part.
const MOST: u32 = 10_000;

/// Uploads under way, by their ids.
#[derive(Default)]
pub(crate) struct Uploads {
    begun: Mutex<HashMap<u64, Upload>>,
    ids: AtomicU64,
}

struct Upload {
    name: String,
    kept: Kept,
    begun: SystemTime,
    parts: BTreeMap<u32, Part>,
}

struct Part {
    etag: HeaderValue,
    body: Pieces,
}

impl Uploads {
    /// Forgets what was begun for names that begin with `prefix`.
    pub(crate) fn clear(&self, prefix: &str) {
        let removed: Vec<_> = self.lock().extract_if(|_, upload| upload.name.starts_with(prefix)).collect();
        // Without the lock, which the line above has given back.
        drop(removed);
    }

    /// Those for names that begin with `prefix`: name, id, and when they were begun.
    pub(crate) fn below(&self, prefix: &str) -> Vec<(String, String, SystemTime)> {
        let begun = self.lock();
        let found = begun.iter().filter(|(_, upload)| upload.name.starts_with(prefix));
        let mut found: Vec<_> =
            found.map(|(id, upload)| (upload.name.clone(), format!("{id:016x}"), upload.begun)).collect();
        found.sort_unstable();
        found
    }

    /// Keeps a part, in the place of an earlier one of its number.
    fn put(&self, name: &str, id: &str, number: u32, part: Part) -> Result<(), Refused> {
        let mut begun = self.lock();
        let replaced = named(&mut begun, name, id)?.parts.insert(number, part);
        drop(begun);
        drop(replaced);
        Ok(())
    }

    /// Ends an upload of the parts `wanted`, each with its tag, that is `size` bytes long if
    /// anybody said so.
    fn finish(
        &self,
        name: &str,
        id: &str,
        wanted: &[(u32, String)],
        size: Option<usize>,
    ) -> Result<(Kept, Pieces), Refused> {
        let mut begun = self.lock();
        let upload = named(&mut begun, name, id)?;
        let mut length = 0;
        for (number, tag) in wanted {
            let part = upload.parts.get(number).filter(|part| is_tag(tag.as_bytes(), &part.etag));
            length += part.ok_or(Refused::PART)?.body.length();
        }
        if wanted.is_empty() || !wanted.is_sorted_by(|one, next| one.0 < next.0) {
            return Err(Refused::PART);
        }
        if size.is_some_and(|size| size != length) {
            return Err(Refused::REQUEST);
        }
        let mut upload = begun.remove(&number(id)?).ok_or(Refused::UPLOAD)?;
        drop(begun);
        let mut body = Pieces::default();
        for part in wanted.iter().filter_map(|(number, _)| upload.parts.remove(number)) {
            body.append(part.body);
        }
        Ok((upload.kept, body))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Upload>> {
        self.begun.lock().expect("nothing panics while it is held")
    }
}

/// `CreateMultipartUpload`.
pub(crate) fn begin(state: &State, head: &Parts, name: &str) -> Answer {
    let id = state.uploads.ids.fetch_add(1, Ordering::Relaxed);
    let upload =
        Upload { name: name.to_owned(), kept: kept(&head.headers), begun: SystemTime::now(), parts: BTreeMap::new() };
    state.uploads.lock().insert(id, upload);
    let named = bucket_and_key(name);
    let mut answer = xml(&format!(
        "<InitiateMultipartUploadResult>{named}<UploadId>{id:016x}</UploadId></InitiateMultipartUploadResult>"
    ));
    answers::echo(&mut answer, &head.headers);
    answer
}

/// `UploadPart`.
pub(crate) async fn put(state: &State, head: &Parts, name: &str, id: &str, body: Incoming) -> Result<Answer, Fault> {
    let body = taken(&head.headers, body).await?;
    let number = Query::of(&head.uri).raw("partNumber").and_then(|number| number.parse().ok());
    let number = number.filter(|number| (1..=MOST).contains(number)).ok_or(Refused::ARGUMENT)?;
    let length = body.length();
    let etag = state.objects.tag(head.headers.get("content-md5"), 1);
    state.uploads.put(name, id, number, Part { etag: etag.clone(), body })?;
    state.counts.parts.add(1);
    state.counts.part_bytes.add(length);
    Ok(answers::stored(&head.headers, etag))
}

/// `CompleteMultipartUpload`.
pub(crate) async fn complete(
    state: &State,
    head: &Parts,
    name: &str,
    id: &str,
    body: Incoming,
) -> Result<Answer, Fault> {
    let body = body.collect().await?.to_bytes();
    let wanted = wanted(&String::from_utf8_lossy(&body)).ok_or(Refused::REQUEST)?;
    let condition = Condition::of(&head.headers);
    // The upload stays where it can't become an object.
    condition.judge(state.objects.find(name).as_deref())?;
    let size = head.headers.get("x-amz-mp-object-size").and_then(|size| size.to_str().ok()?.parse().ok());
    let (kept, body) = state.uploads.finish(name, id, &wanted, size)?;
    let etag = state.objects.tag(None, wanted.len());
    let (named, told) = (bucket_and_key(name), answers::tag(&etag));
    let mut answer = xml(&format!(
        "<CompleteMultipartUploadResult><Location>/{}</Location>{named}<ETag>{told}</ETag>\
         </CompleteMultipartUploadResult>",
        escaped(name)
    ));
    answers::echo(&mut answer, kept.iter().map(|(name, value)| (name, value)));
    state.objects.put(name.to_owned(), Object::new(body, etag, kept), condition)?;
    state.counts.completed.add(1);
    Ok(answer)
}

/// `AbortMultipartUpload`.
pub(crate) fn abort(state: &State, name: &str, id: &str) -> Result<Answer, Fault> {
    let mut begun = state.uploads.lock();
    named(&mut begun, name, id)?;
    let removed = begun.remove(&number(id)?);
    drop(begun);
    drop(removed);
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `ListParts`.
pub(crate) fn list(state: &State, name: &str, id: &str) -> Result<Answer, Fault> {
    let mut begun = state.uploads.lock();
    let upload = named(&mut begun, name, id)?;
    let mut told = format!("<ListPartsResult>{}<UploadId>{id}</UploadId>", bucket_and_key(name));
    for (number, part) in &upload.parts {
        let (etag, when, size) = (answers::tag(&part.etag), answers::when(upload.begun), part.body.length());
        let _ = write!(
            told,
            "<Part><PartNumber>{number}</PartNumber><LastModified>{when}</LastModified><ETag>{etag}</ETag>\
             <Size>{size}</Size></Part>"
        );
    }
    drop(begun);
    told.push_str("<IsTruncated>false</IsTruncated></ListPartsResult>");
    Ok(xml(&told))
}

/// What lies between the tags `name` of a text whose XML is simple.
pub(crate) fn inside<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(format!("<{name}>").as_str())?;
    rest.split_once("</").map(|(value, _)| value.trim())
}

fn bucket_and_key(name: &str) -> String {
    let (bucket, key) = name.split_once('/').unwrap_or((name, ""));
    format!("<Bucket>{}</Bucket><Key>{}</Key>", escaped(bucket), escaped(key))
}

/// The parts that an object is to be made of: their numbers, and their tags without quotes.
fn wanted(text: &str) -> Option<Vec<(u32, String)>> {
    let parts = text.split("<Part>").skip(1);
    let part = |part: &str| {
        let tag = inside(part, "ETag")?.replace("&quot;", "").replace("&#34;", "").replace('"', "");
        Some((inside(part, "PartNumber")?.parse().ok()?, tag))
    };
    parts.map(part).collect()
}

fn named<'a>(begun: &'a mut HashMap<u64, Upload>, name: &str, id: &str) -> Result<&'a mut Upload, Refused> {
    begun.get_mut(&number(id)?).filter(|upload| upload.name == name).ok_or(Refused::UPLOAD)
}

fn number(id: &str) -> Result<u64, Refused> {
    u64::from_str_radix(id, 16).map_err(|_| Refused::UPLOAD)
}
