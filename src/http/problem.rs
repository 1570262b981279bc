//! A fault as a client sees it: `application/problem+json` (RFC 9457).

use http::{HeaderValue, Response, header};
use serde::Serialize;

use super::{Body, full};
use crate::fault::{Fault, Kind};

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
}

/// The answer for `fault`. Its words only, never its detail.
pub fn problem(fault: &Fault, request_id: &str) -> Response<Body> {
    let status = fault.status();
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("error"),
        status: status.as_u16(),
        detail: fault.words(),
        request_id,
    };
    // A struct of text always serialises; an empty body would still have its status.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = fault.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if let Some(length) = fault.length()
        && let Ok(range) = HeaderValue::from_str(&format!("bytes */{length}"))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    if fault.kind() == Kind::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sealward\""));
    }
    response
}
