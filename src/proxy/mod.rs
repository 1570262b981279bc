//! HTTP to the apps behind: a request goes on as it comes, and its answer comes back as it is.
//!
//! Nothing is kept in between: a body's next piece is asked for when the other side has
//! taken the last.

use std::{error::Error, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tracing::{Instrument as _, field};

use crate::{
    config::Forward,
    fault::{Fault, Kind, chain},
    http::{Arriving, Body, Broken, Connection, Held, Onwards, Pace, PaceError, Paced, RequestId},
    trace::{self, hop},
    upstream::{Answer, Failure, Upstream},
};

mod headers;
mod tunnel;

/// When a request is worth another try that there was no connection for.
const RETRY: Duration = Duration::from_secs(2);

/// What is known of a request besides itself.
pub struct Known<'a> {
    /// Its id.
    pub id: &'a RequestId,
    /// The caller's name, unless the route is public.
    pub caller: Option<&'a str>,
    /// Whether anybody wants to know of the way: [`Onwards`].
    pub told: bool,
}

/// Sends `request` on to `upstream`, as `forward` says.
///
/// # Errors
/// 502 where no target answers, 503 where one refuses or there are too many connections, 504 where
/// one doesn't go on, 400 where the client's own body ends early, 408 where it comes too slowly.
pub async fn forward(
    upstream: &Arc<Upstream>,
    forward: &Forward,
    mut request: Request<Arriving>,
    known: &Known<'_>,
    pace: Pace,
) -> Result<Response<Body>, Fault> {
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let http2 = request.version() == Version::HTTP_2;
    let upgrade = headers::upgrade(request.method(), request.version(), request.headers());
    let theirs = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let host = match request.uri().authority() {
        // What the target names goes before what Host says (RFC 9112, section 3.2.2).
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => None,
    };
    let (mut head, body) = request.into_parts();
    let about = headers::About {
        connection: connection.as_deref(),
        id: known.id,
        caller: known.caller,
        upgrade: upgrade.clone(),
        host,
    };
    headers::onward(&mut head.headers, &about, forward);
    let hop = hop!(
        "forward",
        otel.kind = "client",
        sealward.upstream = upstream.name(),
        server.address = field::Empty,
        http.response.status_code = field::Empty
    );
    hop.in_scope(|| trace::hand_on(&mut head.headers));
    forward.request.apply(&mut head.headers);
    if let Some((pattern, to)) = &forward.rewrite {
        head.uri = rewritten(&head.uri, pattern, to)?;
    }
    let body = Paced::new(body, pace).map_frame(|mut frame| {
        if let Some(trailers) = frame.trailers_mut() {
            headers::onward_behind(trailers);
        }
        frame
    });
    let held = head.extensions.remove::<Held>();
    let begun = known.told.then(|| (Instant::now(), head.headers.get("x-amzn-trace-id").cloned()));
    let answer = upstream.send(head, body).instrument(hop.clone()).await.map_err(|failure| fault(upstream, failure));
    match &answer {
        Ok(answer) => {
            hop.record("server.address", answer.target());
            hop.record("http.response.status_code", i64::from(answer.response.status().as_u16()));
            if answer.response.status().is_server_error() {
                trace::failed(&hop);
            }
        }
        Err(fault) if fault.is_ours() => trace::failed(&hop),
        Err(_) => {}
    }
    let answer = answer?;
    let on = begun.map(|(sent, trace)| {
        let (target, status) = (answer.target().to_owned(), answer.response.status().as_u16());
        Onwards { target, status, trace, sent: sent.into_std(), answered: Instant::now().into_std() }
    });
    let Answer { mut response, cookie, early, .. } = answer;
    if let Some(on) = on {
        response.extensions_mut().insert(on);
    }
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // To what was asked for, and nothing else.
        let asked = |protocol: &HeaderValue| {
            upgrade.as_ref().is_some_and(|asked| asked.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
        };
        let protocol = response.headers().get(header::UPGRADE).cloned().filter(asked);
        let (Some(client), Some(protocol), Some(connection)) = (theirs, protocol, connection) else {
            return Err(Fault::new(Kind::BadGateway, "the app behind answered what makes no sense")
                .because("it switches protocols unasked"));
        };
        let certificate = connection.tls.as_ref().and_then(|tls| tls.client.clone());
        let app = hyper::upgrade::on(&mut response);
        let in_flight = response.body_mut().switched();
        let sides = tunnel::Sides { client, app, idle: upstream.idle(), certificate };
        tokio::spawn(tunnel::run(sides, connection.tunnel(), in_flight, held));
        let (mut head, _) = response.into_parts();
        headers::without_hop(&mut head.headers);
        head.headers.insert(header::UPGRADE, protocol);
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return Ok(Response::from_parts(head, crate::http::empty()));
    }
    if http2 && early {
        response.body_mut().gather().await;
    }
    // Whatever the app speaks, this is our answer.
    *response.version_mut() = Version::HTTP_11;
    headers::without_hop(response.headers_mut());
    forward.response.apply(response.headers_mut());
    Ok(response.map(BodyExt::boxed_unsync))
}

/// The same address with another path.
fn rewritten(uri: &Uri, pattern: &regex::Regex, to: &str) -> Result<Uri, Fault> {
    let path = pattern.replace(uri.path(), to);
    let path = if path.starts_with('/') { path } else { format!("/{path}").into() };
    let whole = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    whole.parse().map_err(|_| Fault::internal("a route rewrites a path to what is none"))
}

fn fault(upstream: &Upstream, failure: Failure) -> Fault {
    let name = upstream.name();
    match failure {
        Failure::Unreachable(words) => {
            Fault::new(Kind::BadGateway, "the app behind can't be reached").because(format!("upstream {name}: {words}"))
        }
        Failure::Ours(words) => {
            let words = format!("upstream {name}: {words}");
            Fault::unavailable("too much is under way here; try again", RETRY).because(words)
        }
        Failure::Refused { words, .. } => {
            let words = format!("upstream {name}: {words}");
            Fault::unavailable("the app behind takes no more now; try again", RETRY).because(words)
        }
        Failure::Broken(words) => Fault::new(Kind::BadGateway, "the app behind ended without an answer")
            .because(format!("upstream {name}: {words}")),
        Failure::Client(error) => {
            client_fault(error.as_ref()).because(format!("upstream {name}: {}", chain(error.as_ref())))
        }
        Failure::Idle(idle) => Fault::new(Kind::GatewayTimeout, "the app behind doesn't answer")
            .because(format!("upstream {name}: nothing went or came for {} s", idle.as_secs())),
    }
}

/// What a client did to its own body: too slow, or it broke off.
fn client_fault(error: &(dyn Error + 'static)) -> Fault {
    let mut cause = Some(error);
    let mut slow = false;
    while let Some(error) = cause {
        slow |= matches!(error.downcast_ref(), Some(PaceError::<Broken>::Idle | PaceError::Slow));
        cause = error.source();
    }
    if slow {
        Fault::new(Kind::RequestTimeout, "the body came too slowly")
    } else {
        Fault::bad_request("the body broke off, or can't be read")
    }
}
