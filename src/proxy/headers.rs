//! Which headers go on to an app, and which come back.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{self, Entry},
};

use crate::{
    config::{Forward, Forwarded},
    http::{Connection, RequestId},
};

/// What we say of a client, and nobody else: taken away when a client says it.
const VOUCHED: [&str; 5] =
    ["x-forwarded-proto", "x-forwarded-port", "x-forwarded-host", "x-real-ip", "x-sealward-caller"];
/// What begins so is vouched for too.
const VOUCHED_PREFIX: &str = "x-amzn-mtls-";

/// What behind a body would be about whose request it is (RFC 9110, section 6.5.1).
const NEVER_BEHIND: [&str; 7] =
    ["authorization", "cookie", "host", "forwarded", "x-forwarded-for", "x-request-id", "x-amzn-trace-id"];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_SEALWARD_CALLER: HeaderName = HeaderName::from_static("x-sealward-caller");

/// What the client says of proto, port and host, where it is believed.
type Theirs = [Option<HeaderValue>; 3];

/// What of a request's head decides about its headers.
pub(super) struct About<'a> {
    pub(super) connection: Option<&'a Connection>,
    pub(super) id: &'a RequestId,
    /// The caller's name, where a token or certificate told it.
    pub(super) caller: Option<&'a str>,
    /// The protocol that both sides are to switch to.
    pub(super) upgrade: Option<HeaderValue>,
    pub(super) host: Option<HeaderValue>,
}

/// Makes a client's headers those that an app is to see.
pub(super) fn onward(headers: &mut HeaderMap, about: &About<'_>, forward: &Forward) {
    let trailers = headers.get(header::TE).is_some_and(|te| {
        te.to_str().is_ok_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    });
    without_hop(headers);
    // It was met at our door.
    headers.remove(header::EXPECT);
    let theirs = match forward.x_forwarded_others {
        Forwarded::Preserve => {
            [X_FORWARDED_PROTO, X_FORWARDED_PORT, X_FORWARDED_HOST].map(|name| headers.get(name).cloned())
        }
        Forwarded::Append | Forwarded::Remove => Theirs::default(),
    };
    without_vouched(headers);
    if about.caller.is_some() {
        // The token was for us.
        headers.remove(header::AUTHORIZATION);
    }
    if trailers {
        // The one that goes on: gRPC doesn't do without.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = &about.upgrade {
        headers.insert(header::UPGRADE, protocol.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if let Some(host) = &about.host {
        headers.insert(header::HOST, host.clone());
    }
    // HTTP/2 lets a client write cookies apart (RFC 9113, section 8.2.3).
    join_cookies(headers);
    if let Some(connection) = about.connection {
        say_whence(headers, connection, forward, theirs);
    }
    if let Some((pattern, to)) = &forward.rewrite_host
        && let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok())
    {
        let host = pattern.replace(host, to).into_owned();
        set(headers, header::HOST, &host);
    }
    // The client's own is in x-forwarded-host by now.
    if let Some(host) = &forward.host {
        headers.insert(header::HOST, host.clone());
    }
    headers.insert(X_REQUEST_ID, about.id.to_header());
    if let Some(name) = about.caller {
        set(headers, X_SEALWARD_CALLER, name);
    }
    if !headers.contains_key(&X_AMZN_TRACE_ID) {
        headers.insert(X_AMZN_TRACE_ID, about.id.to_trace());
    }
}

/// Makes a client's trailers those that an app is to see: whoever merges them with the headers
/// must not believe more of them.
pub(super) fn onward_behind(trailers: &mut HeaderMap) {
    without_hop(trailers);
    without_vouched(trailers);
    for name in NEVER_BEHIND {
        trailers.remove(name);
    }
}

/// Takes away what only we may say.
fn without_vouched(headers: &mut HeaderMap) {
    without(headers, is_vouched);
}

fn is_vouched(name: &str) -> bool {
    if !name.starts_with('x') {
        return false;
    }
    let vouched = |name: &str| VOUCHED.contains(&name) || name.starts_with(VOUCHED_PREFIX);
    if !name.contains('_') {
        return vouched(name);
    }
    // Many an app reads `x_y` and `x-y` as one name.
    let plain = name.replace('_', "-");
    vouched(&plain) || plain == "x-forwarded-for" || plain == "x-request-id"
}

/// Takes away what is of one hop; an answer's too.
pub(super) fn without_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // That is what it was read by (RFC 9112, section 6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Whom a request is for is of every hop, whatever a client says.
            .filter(|name| *name != header::HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    without(headers, is_of_one_hop);
}

/// Takes away every header that is `such`.
fn without(headers: &mut HeaderMap, such: impl Fn(&str) -> bool) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| such(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Headers of one hop (RFC 9110, section 7.6.1), besides those that `Connection` names.
fn is_of_one_hop(name: &str) -> bool {
    // By its length first, which spares most of them a comparison.
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The protocol that a request asks to switch to, if it does.
pub(super) fn upgrade(method: &Method, version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade")));
    let mut all = headers.get_all(header::UPGRADE).iter();
    let wanted = all.next().filter(|_| all.next().is_none())?;
    // One protocol, so that it is known what is switched to; and no HTTP, in which a client
    // would speak to the app past us.
    let name = wanted.as_bytes();
    let one = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    let http = [&b"h2c"[..], b"h2", b"http"].iter().any(|http| name.eq_ignore_ascii_case(http));
    (asks && version == Version::HTTP_11 && *method == Method::GET && one && !http).then(|| wanted.clone())
}

fn say_whence(headers: &mut HeaderMap, connection: &Connection, forward: &Forward, theirs: Theirs) {
    match forward.x_forwarded_for {
        Forwarded::Append => {
            let all = headers.get_all(&X_FORWARDED_FOR).iter().chain([connection.peer_told()]);
            let all: Vec<_> = all.filter_map(|value| value.to_str().ok()).collect();
            match all[..] {
                [_] => drop(headers.insert(X_FORWARDED_FOR, connection.peer_told().clone())),
                _ => set(headers, X_FORWARDED_FOR, &all.join(", ")),
            }
        }
        Forwarded::Preserve => {}
        Forwarded::Remove => {
            headers.remove(&X_FORWARDED_FOR);
        }
    }
    let (proto, port, host) = (X_FORWARDED_PROTO, X_FORWARDED_PORT, X_FORWARDED_HOST);
    match forward.x_forwarded_others {
        Forwarded::Append => say_how(headers, connection),
        Forwarded::Preserve => {
            for (name, theirs) in [proto, port, host].into_iter().zip(theirs) {
                if let Some(theirs) = theirs {
                    headers.insert(name, theirs);
                }
            }
        }
        Forwarded::Remove => {}
    }
    if forward.forwarded {
        let of = node(connection.peer);
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.replace(['"', '\\'], "");
        let element = format!("for={of};host=\"{host}\";proto=https");
        let before: Vec<_> =
            headers.get_all(header::FORWARDED).iter().filter_map(|value| value.to_str().ok()).collect();
        let all = if before.is_empty() { element } else { format!("{}, {element}", before.join(", ")) };
        set(headers, header::FORWARDED, &all);
    } else {
        headers.remove(header::FORWARDED);
    }
    if let Some(client) = connection.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
        certificate(headers, client);
    }
}

/// How the client came to us.
fn say_how(headers: &mut HeaderMap, connection: &Connection) {
    let proto = if connection.tls.is_some() { "https" } else { "http" };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers.insert(X_FORWARDED_PORT, HeaderValue::from(connection.local.port()));
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// The client's certificate, as an AWS load balancer hands it on.
fn certificate(headers: &mut HeaderMap, client: &crate::tls::clients::Presented) {
    if !client.is_verified() {
        let chain: String = client.chain.iter().map(|cert| pem(cert)).collect();
        return set(headers, HeaderName::from_static("x-amzn-mtls-clientcert"), &percent(&chain));
    }
    set(headers, HeaderName::from_static("x-amzn-mtls-clientcert-serial-number"), &client.serial.replace(':', ""));
    set(headers, HeaderName::from_static("x-amzn-mtls-clientcert-issuer"), &client.issuer);
    set(headers, HeaderName::from_static("x-amzn-mtls-clientcert-subject"), &client.subject);
    let (from, to) = client.validity;
    let date = |at: i64| crate::tls::prove::date(at);
    set(
        headers,
        HeaderName::from_static("x-amzn-mtls-clientcert-validity"),
        &format!("NotBefore={};NotAfter={}", date(from), date(to)),
    );
    if let Some(leaf) = client.chain.first() {
        set(headers, HeaderName::from_static("x-amzn-mtls-clientcert-leaf"), &percent(&pem(leaf)));
    }
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines + "-----END CERTIFICATE-----\n"
}

/// URL-encoded, with `+`, `=` and `/` as they are.
fn percent(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const PLAIN: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'+').remove(b'=').remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A node of RFC 7239, section 6.
fn node(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(cookies) = headers.entry(header::COOKIE) else { return };
    let mut all = cookies.iter();
    let (Some(first), Some(second)) = (all.next(), all.next()) else { return };
    let rest = all.flat_map(|cookie| [b"; ".as_slice(), cookie.as_bytes()].concat());
    let joined: Vec<u8> =
        first.as_bytes().iter().copied().chain(*b"; ").chain(second.as_bytes().iter().copied()).chain(rest).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Sets what can stand in a header; what can't is left away.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let set = if value.chars().any(char::is_control) {
        let plain: String = value.chars().filter(|c| !c.is_control()).collect();
        HeaderValue::from_bytes(plain.as_bytes())
    } else {
        HeaderValue::from_bytes(value.as_bytes())
    };
    match set {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    }
}
