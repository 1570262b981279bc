//! Answers in fewer bytes, where the route says so and the client takes it.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt as _;
use tower_http::compression::Compression;

use super::routes::Route;
use crate::http::Body;

/// What a client takes, if its answer may be compressed at all.
pub(super) fn taken<B>(route: &Route, request: &Request<B>) -> Option<HeaderMap> {
    if !route.compress || *request.method() == http::Method::HEAD {
        return None;
    }
    let accepted = request.headers().get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    // Only what we would use goes on from here: whether anything else would do is not ours to say.
    let wants = accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().trim_start_matches(['q', 'Q']).trim_start().trim_start_matches('=').trim();
        let none = !weight.is_empty() && weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0);
        (name.trim().eq_ignore_ascii_case("gzip") || name.trim() == "*") && !none
    });
    let gzip = wants.then(|| (header::ACCEPT_ENCODING, HeaderValue::from_static("gzip")));
    Some(gzip.into_iter().collect())
}

/// Whether an answer may be changed at all: no part of one, nothing that is switched to, nothing
/// whose maker forbids it (RFC 9110, section 7.7), and no events, which go out one by one.
fn may_change(response: &Response<Body>) -> bool {
    let says = |name: header::HeaderName, what: &str| {
        let values = response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().to_ascii_lowercase().starts_with(what))
    };
    !matches!(response.status(), StatusCode::SWITCHING_PROTOCOLS | StatusCode::PARTIAL_CONTENT)
        && !says(header::CACHE_CONTROL, "no-transform")
        && !says(header::CONTENT_TYPE, "text/event-stream")
}

/// The answer as the client takes it. What is small, a range, an image, a stream of events or
/// gRPC, or compressed already, stays as it is.
pub(super) async fn answer(response: Response<Body>, taken: Option<HeaderMap>) -> Response<Body> {
    let Some(headers) = taken.filter(|_| may_change(&response)) else { return response };
    let before = response.headers().contains_key(header::CONTENT_ENCODING);
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    let mut once = Some(response);
    let answers = tower::service_fn(move |_: Request<()>| {
        let response = once.take().unwrap_or_default();
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let Ok(response) = Compression::new(answers).oneshot(request).await;
    let mut response = response.map(BodyExt::boxed_unsync);
    if !before && response.headers().contains_key(header::CONTENT_ENCODING) {
        weaken(response.headers_mut());
    }
    response
}

/// Other bytes can't go under a strong entity tag (RFC 9110, section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let weak = headers.get(header::ETAG).and_then(|tag| {
        let tag = tag.to_str().ok().filter(|tag| !tag.starts_with("W/"))?;
        HeaderValue::from_str(&format!("W/{tag}")).ok()
    });
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}
