//! The answer to `?share`: a link that opens one object for a while.

use http::{HeaderValue, Request, Response, header};
use serde::Serialize;

use super::answer;
use crate::{
    http::{Body, path},
    identity::Link,
    objects::ObjectKey,
};

#[derive(Serialize)]
struct Shared {
    url: String,
    expires: String,
}

/// The link to `key`, under the name by which the client called us.
pub(super) fn link<B>(request: &Request<B>, route: &str, key: &ObjectKey, link: &Link) -> Response<Body> {
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    let path = path::encode(&format!("{}{}", route, key.as_str()));
    let url = format!("https://{}{path}?{}", host.unwrap_or_default(), link.query());
    let expires = std::time::UNIX_EPOCH + std::time::Duration::from_secs(link.expires);
    let mut response = answer::json(&Shared { url, expires: httpdate_rfc3339(expires) });
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn httpdate_rfc3339(time: std::time::SystemTime) -> String {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}
