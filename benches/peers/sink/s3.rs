//! S3: which call it is, and those that are about one object.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use crate::{
    State,
    answers::{self, Answer, Body, Fault, Refused, empty, xml},
    buckets,
    objects::{Condition, Object, kept},
    parts,
    requests::{Query, name, taken},
};

/// What an object has beside its bytes, and isn't kept here.
const BESIDE: [&str; 6] = ["acl", "attributes", "legal-hold", "retention", "tagging", "torrent"];

/// Answers one request.
///
/// # Errors
/// When its body ended early, which ends the connection.
pub(crate) async fn answer(state: &'static State, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = request.into_parts();
    match act(state, &head, body).await {
        Ok(answer) => Ok(answer),
        Err(Fault::Refused(refused)) => {
            if !is_expected(&head, refused.0) {
                state.counts.failed.add(1);
            }
            Ok(refused.answer())
        }
        Err(Fault::Broken(error)) => {
            state.counts.failed.add(1);
            Err(error)
        }
    }
}

/// Whether a refusal is an answer to a question.
fn is_expected(head: &Parts, status: StatusCode) -> bool {
    match status {
        StatusCode::NOT_FOUND => matches!(head.method, Method::GET | Method::HEAD),
        StatusCode::PRECONDITION_FAILED => head.headers.contains_key(header::IF_NONE_MATCH),
        _ => false,
    }
}

async fn act(state: &'static State, head: &Parts, body: Incoming) -> Result<Answer, Fault> {
    let name = name(head.uri.path());
    let query = Query::of(&head.uri);
    let (bucket, key) = name.split_once('/').unwrap_or((&name, ""));
    if key.is_empty() {
        return buckets::act(state, head, bucket, body).await;
    }
    if head.uri.query().is_some() && BESIDE.into_iter().any(|beside| query.has(beside)) {
        return Err(Refused::UNKNOWN.into());
    }
    let copied = head.headers.get("x-amz-copy-source");
    match (&head.method, query.raw("uploadId"), copied) {
        (&Method::PUT, None, None) => put(state, head, name.into_owned(), body).await,
        (&Method::PUT, Some(id), None) => parts::put(state, head, &name, id, body).await,
        (&Method::PUT, None, Some(source)) => copy(state, head, name.into_owned(), source),
        (&(Method::GET | Method::HEAD), None, _) => read(state, head, &name),
        (&Method::GET, Some(id), _) => parts::list(state, &name, id),
        (&Method::POST, None, _) if query.has("uploads") => Ok(parts::begin(state, head, &name)),
        (&Method::POST, Some(id), _) => parts::complete(state, head, &name, id, body).await,
        (&Method::DELETE, None, _) => {
            state.objects.remove(&name, Condition::of(&head.headers))?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (&Method::DELETE, Some(id), _) => parts::abort(state, &name, id),
        _ => Err(Refused::UNKNOWN.into()),
    }
}

async fn put(state: &'static State, head: &Parts, name: String, body: Incoming) -> Result<Answer, Fault> {
    let body = taken(&head.headers, body).await?;
    let length = body.length();
    let etag = state.objects.tag(head.headers.get("content-md5"), 1);
    let object = Object::new(body, etag.clone(), kept(&head.headers));
    state.objects.put(name, object, Condition::of(&head.headers))?;
    state.counts.puts.add(1);
    state.counts.put_bytes.add(length);
    Ok(answers::stored(&head.headers, etag))
}

fn read(state: &'static State, head: &Parts, name: &str) -> Result<Answer, Fault> {
    let object = state.objects.find(name).ok_or(Refused::KEY)?;
    if let Some(tag) = head.headers.get(header::IF_MATCH) {
        Condition::Matches(tag.as_bytes()).judge(Some(&object))?;
    }
    let length = object.body.length();
    let mut answer = Answer::default();
    let headers = answer.headers_mut();
    headers.reserve(object.kept.len() + 6);
    headers.extend(object.kept.iter().cloned());
    headers.insert(header::ETAG, object.etag.clone());
    let modified = httpdate::fmt_http_date(object.modified);
    headers.insert(header::LAST_MODIFIED, HeaderValue::try_from(modified).expect("is ASCII"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if head.method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, length.into());
        return Ok(answer);
    }
    let span = match span(&head.headers, length)? {
        Some(span) => {
            let told = format!("bytes {}-{}/{length}", span.start, span.end - 1);
            headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(told).expect("is ASCII"));
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            span
        }
        None => 0..length,
    };
    state.counts.gets.add(1);
    *answer.body_mut() = Body::kept(object, span, &state.counts.get_bytes);
    Ok(answer)
}

/// The bytes that `Range` asks for. `None`: it asks for none, or in a way that S3 overlooks.
fn span(headers: &HeaderMap, length: usize) -> Result<Option<Range<usize>>, Refused> {
    let asked = || {
        let (first, last) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        let first: Option<usize> = if first.is_empty() { None } else { Some(first.parse().ok()?) };
        let last: Option<usize> = if last.is_empty() { None } else { Some(last.parse().ok()?) };
        match (first, last) {
            (Some(first), Some(last)) => Some(first..last.saturating_add(1).min(length)),
            (Some(first), None) => Some(first..length),
            (None, Some(last)) => Some(length.saturating_sub(last)..length),
            (None, None) => None,
        }
    };
    match asked() {
        Some(span) if span.is_empty() => Err(Refused::RANGE),
        span => Ok(span),
    }
}

/// Keeps under `name` what stands under another.
fn copy(state: &State, head: &Parts, to: String, source: &HeaderValue) -> Result<Answer, Fault> {
    let source = source.to_str().map_err(|_| Refused::ARGUMENT)?;
    let source = source.split_once('?').map_or(source, |(path, _)| path);
    let source = state.objects.find(&name(source)).ok_or(Refused::KEY)?;
    let replaced = head.headers.get("x-amz-metadata-directive").is_some_and(|said| said == "REPLACE");
    let headers = if replaced { kept(&head.headers) } else { source.kept.clone() };
    // As the bytes are, so is their tag.
    let object = Object::new(source.body.clone(), source.etag.clone(), headers);
    let (etag, when) = (answers::tag(&object.etag), answers::when(object.modified));
    state.objects.put(to, object, Condition::of(&head.headers))?;
    let told = format!("<CopyObjectResult><ETag>{etag}</ETag><LastModified>{when}</LastModified></CopyObjectResult>");
    let mut answer = xml(&told);
    answers::echo(&mut answer, &head.headers);
    Ok(answer)
}
