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
    let accepted = request.headers().get_all(header::ACCEPT_ENCODING).iter();
    Some(accepted.map(|coding| (header::ACCEPT_ENCODING, coding.clone())).collect())
}

/// The answer as the client takes it. What is small, a range, an image, a stream of events or
/// gRPC, or compressed already, stays as it is.
pub(super) async fn answer(response: Response<Body>, taken: Option<HeaderMap>) -> Response<Body> {
    let Some(headers) = taken.filter(|_| response.status() != StatusCode::SWITCHING_PROTOCOLS) else { return response };
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
