//! HTTP to the apps behind: a request goes on as it comes, and its answer comes back as it is.
//!
//! Nothing is kept in between: a body's next piece is asked for when the other side has
//! taken the last.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::{
    config::Forward,
    fault::{Fault, Kind, chain},
    http::{Arriving, Body, BodyError, Broken, Connection, Held, Onwards, Pace, PaceError, Paced, RequestId},
    upstream::{Answer, Failure, InFlight, Upstream},
};

mod headers;
mod tunnel;

/// What is known of a request besides itself.
pub struct Known<'a> {
    /// Its id.
    pub id: &'a RequestId,
    /// The caller's name, unless the route is public.
    pub caller: Option<&'a str>,
}

/// Sends `request` on to `upstream`, as `forward` says.
///
/// # Errors
/// 502 where no target answers, 504 where one doesn't go on, 400 where the client's own body
/// ends early or comes too slowly.
pub async fn forward(
    upstream: &Arc<Upstream>,
    forward: &Forward,
    mut request: Request<Arriving>,
    known: &Known<'_>,
    pace: Pace,
) -> Result<Response<Body>, Fault> {
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let upgrade = headers::upgrade(request.method(), request.version(), request.headers());
    let theirs = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let host = match request.uri().authority() {
        // What the target names goes before what Host says (RFC 9112, section 3.2.2).
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => None,
    };
    let (mut head, body) = request.into_parts();
    let about = headers::About { connection: connection.as_deref(), id: known.id, caller: known.caller, upgrade, host };
    headers::onward(&mut head.headers, &about, forward);
    forward.request.apply(&mut head.headers);
    if let Some((pattern, to)) = &forward.rewrite {
        head.uri = rewritten(&head.uri, pattern, to)?;
    }
    let body = Paced::new(body, pace);
    let held = head.extensions.remove::<Held>();
    let sent = Instant::now();
    let Answer { mut response, in_flight, cookie } =
        upstream.send(head, body).await.map_err(|failure| fault(upstream, failure))?;
    let (target, status) = (in_flight.target().to_owned(), response.status().as_u16());
    let (sent, answered) = (sent.into_std(), Instant::now().into_std());
    response.extensions_mut().insert(Onwards { target, status, sent, answered });
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let protocol = response.headers().get(header::UPGRADE).cloned();
        let (Some(client), Some(protocol), Some(connection)) = (theirs, protocol, connection) else {
            return Err(Fault::new(Kind::BadGateway, "the app behind answered what makes no sense")
                .because("it switches protocols unasked"));
        };
        let certificate = connection.tls.as_ref().and_then(|tls| tls.client.clone());
        let app = hyper::upgrade::on(&mut response);
        let sides = tunnel::Sides { client, app, idle: upstream.idle(), certificate };
        tokio::spawn(tunnel::run(sides, connection.tunnel(), in_flight, held));
        let (mut head, _) = response.into_parts();
        headers::without_hop(&mut head.headers);
        head.headers.insert(header::UPGRADE, protocol);
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return Ok(Response::from_parts(head, crate::http::empty()));
    }
    let idle = upstream.idle();
    headers::without_hop(response.headers_mut());
    forward.response.apply(response.headers_mut());
    Ok(response.map(|body| Answered { body, idle, waiting: None, in_flight: Some(in_flight) }.boxed_unsync()))
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

/// An app's body on its way back, which has to go on.
struct Answered {
    body: Incoming,
    idle: Duration,
    /// There once the body was waited for: most are there at once.
    waiting: Option<Waiting>,
    in_flight: Option<InFlight>,
}

struct Waiting {
    timer: Pin<Box<Sleep>>,
    /// Whether the timer runs.
    on: bool,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(waiting) = &mut this.waiting {
                waiting.on = false;
            }
            if frame.is_none() || this.body.is_end_stream() {
                this.in_flight = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let due = Instant::now() + this.idle;
        let in_flight = &this.in_flight;
        let waiting = this.waiting.get_or_insert_with(|| {
            let cut: Pin<Box<dyn Future<Output = ()> + Send>> = match in_flight {
                Some(in_flight) => Box::pin(in_flight.cut()),
                None => Box::pin(std::future::pending()),
            };
            Waiting { timer: Box::pin(tokio::time::sleep_until(due)), on: true, cut }
        });
        if !waiting.on {
            waiting.on = true;
            waiting.timer.as_mut().reset(due);
        }
        if waiting.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err("the app behind is gone, and its time over".into())));
        }
        ready!(waiting.timer.as_mut().poll(cx));
        Poll::Ready(Some(Err("the app behind stopped in the middle of its answer".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
