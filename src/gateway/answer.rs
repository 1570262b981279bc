//! Answers: objects, lists, and the headers that belong to them.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde::Serialize;

use super::{bodies::Outgoing, head, query::Query};
use crate::{
    config::Metadata,
    fault::Fault,
    http::{Body, empty, full},
    objects::{Answer, Found, ObjectKey, Objects, Wanted},
};

/// The most names in one answer.
const MAX_LIST: u64 = 1000;

/// Reads the object `key` for `GET` or `HEAD`.
///
/// # Errors
/// Whatever keeps the object from being served.
pub(super) async fn read(
    objects: &Arc<Objects>,
    key: &ObjectKey,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response<Body>, Fault> {
    let head_only = *method == Method::HEAD;
    let wanted = Wanted {
        preconditions: head::preconditions(headers)?,
        // A range is for GET alone (RFC 9110, section 14.2).
        range: if head_only { None } else { head::range(headers) },
        if_range: head::if_range(headers),
        head_only,
    };
    let how =
        How { plain: objects.class().metadata == Metadata::Plain, public_cache: objects.class().allow_public_cache };
    Ok(match objects.read(key, &wanted).await? {
        Answer::Whole(found) => {
            let length = found.length;
            let mut response = described(found, StatusCode::OK, how, head_only);
            set(&mut response, header::CONTENT_LENGTH, &length.to_string());
            response
        }
        Answer::Part { found, first, last } => {
            let range = format!("bytes {first}-{last}/{}", found.length);
            let mut response = described(found, StatusCode::PARTIAL_CONTENT, how, false);
            set(&mut response, header::CONTENT_RANGE, &range);
            set(&mut response, header::CONTENT_LENGTH, &(last - first + 1).to_string());
            response
        }
        Answer::NotModified(found) => described(found, StatusCode::NOT_MODIFIED, how, true),
        Answer::Unsatisfiable { length } => return Err(Fault::outside(length)),
    })
}

/// One page of what the class holds.
///
/// # Errors
/// 400 for a limit out of bounds, 503 when the store is away.
pub(super) async fn list(objects: &Arc<Objects>, query: &Query) -> Result<Response<Body>, Fault> {
    let limit = query.number("limit")?.unwrap_or(MAX_LIST);
    if limit == 0 || limit > MAX_LIST {
        return Err(Fault::bad_request(format!("the parameter limit is 1 to {MAX_LIST}")));
    }
    let prefix = query.value("prefix").unwrap_or_default();
    let after = query.value("after").filter(|after| !after.is_empty());
    let limit = usize::try_from(limit).unwrap_or(1);
    let listing = match query.value("order") {
        None | Some("name") => objects.list(prefix, after, limit).await?,
        Some("newest") if prefix.is_empty() => objects.newest_first(after, limit).await?,
        Some("newest") => return Err(Fault::bad_request("a list by `order=newest` takes no `prefix`")),
        Some(_) => return Err(Fault::bad_request("the parameter order is `name` or `newest`")),
    };
    let mut response = json(&listing);
    set(&mut response, header::CACHE_CONTROL, "private, no-store");
    Ok(response)
}

/// 200 with `value` as JSON.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    // Structs of text and numbers always serialise.
    let mut response = Response::new(full(serde_json::to_vec(value).unwrap_or_default()));
    set(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

/// 204
pub(super) fn no_content() -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 204 with `Allow`.
pub(super) fn allow(methods: &'static str) -> Response<Body> {
    let mut response = no_content();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// `response` as a `HEAD` gets it: nothing but its head, with the length its body had.
pub fn without_body(mut response: Response<Body>) -> Response<Body> {
    let length = response.body().size_hint().exact().filter(|length| *length > 0);
    if let Some(length) = length.filter(|_| !response.headers().contains_key(header::CONTENT_LENGTH)) {
        set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    }
    *response.body_mut() = empty();
    response
}

/// Sets a header whose value is ours.
pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Whatever was stored, only the caller's own cache may keep the answer.
fn keep_private(headers: &mut HeaderMap) {
    let stored = headers.get(header::CACHE_CONTROL).map(HeaderValue::as_bytes).unwrap_or_default();
    let value = match std::str::from_utf8(stored) {
        Ok(stored) if head::is_private(stored.as_bytes()) => return,
        Ok(stored) if !stored.is_empty() && !head::is_shared(stored.as_bytes()) => format!("private, {stored}"),
        _ => "private".to_owned(),
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(header::CACHE_CONTROL, value);
    }
}

/// What a class lets its answers say.
#[derive(Clone, Copy)]
struct How {
    /// Metadata is the store's, and so a bucket writer's to change.
    plain: bool,
    /// Shared caches may keep what its uploader said they may.
    public_cache: bool,
}

fn described(found: Found, status: StatusCode, how: How, without_body: bool) -> Response<Body> {
    let body = if without_body {
        empty()
    } else {
        Outgoing(found.chunks).map_err(|fault| fault.to_string().into()).boxed_unsync()
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status != StatusCode::NOT_MODIFIED {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    for (name, value) in found.description.iter() {
        // What was stored came in as headers; a store that changed plain ones may
        // have made something else of them, which is left out.
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        else {
            continue;
        };
        if status != StatusCode::NOT_MODIFIED || name == header::CACHE_CONTROL || name == header::EXPIRES {
            headers.insert(name, value);
        }
    }
    if !how.public_cache {
        keep_private(headers);
    }
    if how.plain && status != StatusCode::NOT_MODIFIED {
        // Anybody who writes to the bucket can change them: never rendered in place.
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
    set(&mut response, header::ETAG, &found.etag.to_string());
    set(
        &mut response,
        header::LAST_MODIFIED,
        &httpdate::fmt_http_date(found.modified.clamp(SystemTime::UNIX_EPOCH, SystemTime::now())),
    );
    response
}
