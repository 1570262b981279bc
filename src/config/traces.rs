//! `[traces]`: where spans go, and of which requests.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Uri};

use super::{
    document::{Found, Section},
    report::{Fault, quoted},
};
use crate::secret::SecretText;

/// Where OTLP's spans go below a collector's address (OTLP 1.x, section "OTLP/HTTP Request").
const PATH: &str = "v1/traces";

/// `[traces]`
#[derive(Clone, Debug)]
pub struct Traces {
    /// `endpoint`: the collector's address for spans, its path included.
    pub endpoint: String,
    /// `headers`: what a collector wants with each request.
    pub headers: Vec<(HeaderName, SecretText)>,
    /// `one_in`: of the requests that come without a trace, one of so many begins one. Default 1.
    pub sample: f64,
    /// `follow`: whether a request's `traceparent` is taken up. Default true.
    pub follow: bool,
    /// `service`: what we are called there; `OTEL_SERVICE_NAME`, or `sealward`, when absent.
    pub service: Option<String>,
}

pub(super) fn read(section: &Section<'_>) -> Option<Traces> {
    section.require("endpoint", "\"http://127.0.0.1:4318\"");
    let found = section.string("endpoint");
    let headers = section.entries("headers").unwrap_or_default();
    if let (Some(found), Some((_, first))) = (&found, headers.first())
        && let Some(uri) = found.value.parse::<Uri>().ok().filter(|uri| is_plain(uri) && in_clear(uri))
    {
        let title = format!("`headers` would go to {} in clear", uri.host().unwrap_or_default());
        let help = "they are a collector's tokens: write its address with `https`, or have a collector on this machine \
                    pass spans on";
        section.fault(Fault::new(title, help).at(&first.span, "readable on the way"));
    }
    let endpoint = found.and_then(|found| whole(section, &found));
    let headers = headers.into_iter().filter_map(|(name, value)| header(section, name, value)).collect();
    let one_in = section.integer("one_in", 1..=1_000_000).unwrap_or(1);
    let follow = section.boolean("follow").unwrap_or(true);
    let service = section.string("service");
    if let Some(found) = service.as_ref().filter(|found| found.value.is_empty()) {
        section.fault(Fault::new("`service` is empty", "write a name, or leave it out").at(&found.span, "no name"));
    }
    let service = service.map(|service| service.value);
    section.finish();
    // At most a million: exact.
    #[allow(clippy::cast_precision_loss)]
    let sample = 1.0 / one_in as f64;
    endpoint.map(|endpoint| Traces { endpoint, headers, sample, follow, service })
}

/// The address that spans go to: a collector's own, unless one below it is named.
fn whole(section: &Section<'_>, endpoint: &Found<String>) -> Option<String> {
    let uri = endpoint.value.parse::<Uri>().ok();
    let Some(uri) = uri.filter(is_plain) else {
        let help = "write a collector's address for OTLP over HTTP, without a query or a password (that is for \
                    `headers`): `endpoint = \"http://127.0.0.1:4318\"`";
        let fault = Fault::new(format!("`endpoint` cannot be {}", quoted(&endpoint.raw)), help);
        section.fault(fault.at(&endpoint.span, "not such an address"));
        return None;
    };
    Some(match uri.path() {
        "" | "/" => format!("{}/{PATH}", endpoint.value.trim_end_matches('/')),
        _ => endpoint.value.clone(),
    })
}

/// Whether it is http or https, a host and perhaps a port and a path, and nothing else.
fn is_plain(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else { return false };
    let port = authority.as_str().len() == authority.host().len() || authority.port_u16().is_some();
    matches!(uri.scheme_str(), Some("http" | "https"))
        && !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && port
        && uri.query().is_none()
}

/// Whether what goes there can be read on its way.
fn in_clear(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("http") && !here
}

fn header(section: &Section<'_>, name: String, value: Found<String>) -> Option<(HeaderName, SecretText)> {
    const OURS: [&str; 7] = ["host", "connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent"];
    let found = name.parse::<HeaderName>().ok();
    let found = found.filter(|name| !OURS.contains(&name.as_str()) && !name.as_str().starts_with("content-"));
    let Some(found) = found.filter(|_| HeaderValue::from_str(&value.value).is_ok()) else {
        let title = format!("{} and its value can't stand here", quoted(&name));
        let help = "write the name of a header that a collector wants, and visible text; those of the request itself \
                    are ours";
        section.fault(Fault::new(title, help).at(&value.span, "this value"));
        return None;
    };
    Some((found, SecretText::new(value.value)))
}

impl Traces {
    /// The headers, for comparison alone.
    pub fn exposed(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect()
    }
}
