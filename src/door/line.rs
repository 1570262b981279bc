//! One line in the log for every request, written when its answer ended.
//!
//! Never a token, a key, a query or a byte of a body; an object's name as the
//! configuration wants it.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tracing::{Span, field};

use super::{
    Route,
    access::{Access, Entry},
};
use crate::{
    config::LogObjectKeys,
    fault::Fault,
    http::{Body, BodyError, Connection, RequestId},
    identity::Caller,
    objects::logged,
    quota::Admitted,
    trace::{self, request},
};

/// What is known of a request so far. Written when dropped.
pub(super) struct Line {
    id: RequestId,
    begun: Instant,
    method: &'static str,
    version: http::Version,
    peer: Option<std::net::SocketAddr>,
    tls: Option<&'static str>,
    /// The client's certificate, by the beginning of its fingerprint.
    certificate: Option<String>,
    trace: Option<String>,
    /// The whole request in a trace, to the end of its answer.
    span: Span,
    route: Option<Arc<Route>>,
    key: Option<String>,
    keys: LogObjectKeys,
    collection: bool,
    caller: Cow<'static, str>,
    status: u16,
    detail: Option<String>,
    sent: u64,
    ended: bool,
    /// The line of the access log, where there is one.
    entry: Option<(Arc<Access>, Box<Entry>)>,
    /// What counts the request while it is under way.
    admitted: Option<Arc<[Admitted]>>,
}

impl Line {
    pub(super) fn new<B>(
        id: RequestId,
        begun: Instant,
        request: &Request<B>,
        keys: LogObjectKeys,
        access: Option<&Arc<Access>>,
        span: Span,
    ) -> Self {
        let connection = request.extensions().get::<Arc<Connection>>();
        Self {
            id,
            begun,
            method: label(request.method()),
            version: request.version(),
            peer: connection.map(|connection| connection.peer),
            tls: connection.and_then(|connection| connection.tls.as_ref()).map(|tls| tls.version),
            certificate: connection
                .and_then(|connection| connection.tls.as_ref()?.client.as_ref())
                .map(|client| client.fingerprint.chars().take(16).collect()),
            trace: trace_id(request),
            span,
            route: None,
            key: None,
            keys,
            collection: false,
            caller: "".into(),
            status: 0,
            detail: None,
            sent: 0,
            ended: false,
            entry: access.map(|access| (Arc::clone(access), Box::new(Entry::of(request, id, access.query)))),
            admitted: None,
        }
    }

    /// The bytes that came, where anybody asks for them.
    pub(super) fn received(&self) -> Option<Arc<AtomicU64>> {
        self.entry.as_ref().map(|(_, entry)| Arc::clone(&entry.received))
    }

    /// Counts the request as under way, to its end.
    pub(super) fn admitted(&mut self, admitted: Arc<[Admitted]>) {
        self.admitted = Some(admitted);
    }

    pub(super) fn method(&self) -> &'static str {
        self.method
    }

    pub(super) fn route(&self) -> &str {
        self.route.as_ref().map_or("none", |route| &route.label)
    }

    pub(super) fn is_collection(&self) -> bool {
        self.collection
    }

    pub(super) fn routed(&mut self, route: Arc<Route>, rest: &str) {
        self.collection = rest.is_empty();
        let key = logged(rest, self.keys);
        if let Some((_, entry)) = &mut self.entry {
            entry.routed(&route, key.as_deref());
        }
        self.span.record("otel.name", format_args!("{} {}", self.method, route.label));
        self.span.record("http.route", &*route.label);
        if !route.class().is_empty() {
            self.span.record("sealward.class", route.class());
        }
        // What comes behind a path that isn't sealed may be anything.
        if !rest.is_empty() && !route.class().is_empty() {
            self.named(rest);
        }
        self.route = Some(route);
    }

    pub(super) fn named(&mut self, key: &str) {
        self.key = logged(key, self.keys);
    }

    pub(super) fn called_by(&mut self, caller: &Caller) {
        self.caller.clone_from(&caller.name);
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        self.detail = Some(fault.to_string());
        if let Some((_, entry)) = &mut self.entry {
            entry.error = Some(fault.kind().as_str());
        }
    }

    /// Where a request that is sent on goes.
    pub(super) fn sent_to(&mut self, upstream: &str) {
        if let Some((_, entry)) = &mut self.entry {
            entry.group = Some(upstream.to_owned());
        }
    }

    /// No route was found: its path is no object's, if those may be written at all.
    pub(super) fn unrouted(&mut self) {
        if self.keys == LogObjectKeys::Plain
            && let Some((_, entry)) = &mut self.entry
        {
            entry.unrouted();
        }
    }

    /// Lets the line go with the answer, to its end.
    pub(super) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        self.status = response.status().as_u16();
        if let Some((_, entry)) = &mut self.entry {
            entry.answered(&response, self.begun);
        }
        // A body that has nothing to say is not polled: it has ended already.
        self.ended = response.body().is_end_stream();
        response.map(|body| Followed { body, line: self }.boxed_unsync())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some((access, mut entry)) = self.entry.take() {
            (entry.status, entry.sent) = (self.status, self.sent);
            entry.end(self.begun);
            access.write(&entry);
        }
        let (route, class) = (self.route(), self.route.as_ref().map_or("", |route| route.class()));
        let Self { id, method, status, sent, .. } = &*self;
        let caller = &*self.caller;
        let (version, peer, key, detail) = (&self.version, &self.peer, &self.key, &self.detail);
        let milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let trace = trace::id(&self.span);
        let trace = trace.as_ref().or(self.trace.as_ref());
        let outcome = if self.ended { "complete" } else { "cut" };
        if *status != 0 {
            self.span.record("http.response.status_code", i64::from(*status));
        }
        self.span.record("http.response.body.size", i64::try_from(*sent).unwrap_or(i64::MAX));
        self.span.record("sealward.outcome", outcome);
        if let Some(key) = key {
            self.span.record("sealward.key", &**key);
        }
        if *status >= 500 {
            trace::failed(&self.span);
        }
        // Its end is when it was last in use, which is now.
        self.span.in_scope(|| ());
        macro_rules! write {
            ($level:ident) => {
                tracing::$level!(
                    target: "sealward::request",
                    request_id = %id, method, status, route, class, key, caller, outcome, sent,
                    milliseconds, peer = peer.map(tracing::field::display), http = ?version, tls = self.tls, certificate = self.certificate,
                    trace_id = trace, detail, "request"
                )
            };
        }
        // A handler that panicked, and one whose client left, both never said a status.
        if *status >= 500 || std::thread::panicking() {
            write!(error);
        } else {
            write!(info);
        }
    }
}

/// A body with its line.
struct Followed {
    body: Body,
    line: Line,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.line.sent += bytes as u64;
                for admitted in self.line.admitted.iter().flat_map(|admitted| &**admitted) {
                    admitted.passed(bytes);
                }
            }
            Some(Err(error)) => self.line.detail = Some(error.to_string()),
            None => self.line.ended = true,
        }
        // With a known length the last frame is the end; nobody asks again.
        if self.body.is_end_stream() {
            self.line.ended = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The whole of a request, as a span; a part of the trace that it names where it is to `follow` that.
pub(super) fn span<B>(request: &Request<B>, id: RequestId, follow: bool) -> Span {
    let tls = request.extensions().get::<Arc<Connection>>().and_then(|connection| connection.tls.as_ref());
    let method = label(request.method());
    let span = request!(
        otel.name = method,
        otel.kind = "server",
        http.request.method = if method == "OTHER" { "_OTHER" } else { method },
        http.route = field::Empty,
        http.response.status_code = field::Empty,
        http.response.body.size = field::Empty,
        network.protocol.version = if request.version() == http::Version::HTTP_2 { "2" } else { "1.1" },
        tls.protocol.version = tls.map(|tls| tls.version),
        sealward.request_id = %id,
        sealward.class = field::Empty,
        sealward.key = field::Empty,
        sealward.outcome = field::Empty,
    );
    if follow {
        trace::follow(&span, request.headers());
    }
    span
}

/// The trace id of a W3C `traceparent`, if it is one.
fn trace_id<B>(request: &Request<B>) -> Option<String> {
    trace::parent(request.headers()).map(|parent| parent[3..35].to_owned())
}

/// A method as a label: bounded, whatever clients make up.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
