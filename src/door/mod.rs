//! The way of a request: its name, its route, its caller, the room that answers, its line.
//!
//! Whatever can refuse a request does so before a byte of its body is asked for.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use arc_swap::ArcSwap;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use tracing::Instrument as _;

use crate::{
    config::{Config, LogObjectKeys},
    fault::{Fault, Kind},
    gateway::{self, Gateway},
    http::{Arriving, Body, Connection, Held, Meter, Pace, RequestId, arriving, desync::Refused, full, problem},
    identity::{self, Caller, TokenStore},
    metrics::Metrics,
    objects::Objects,
    proxy,
    quota::{Admitted, Quota},
    trace::{self, hop},
    upstream::Upstream,
};

mod access;
mod compress;
mod line;
mod routes;

pub use access::Access;
use line::Line;
use routes::{Does, Matched, Route, Routes};

/// What routes lead to, by name, and what every request meets.
pub struct Behind<'a> {
    /// The classes.
    pub classes: &'a HashMap<String, Arc<Objects>>,
    /// The upstreams.
    pub upstreams: &'a HashMap<String, Arc<Upstream>>,
    /// The quotas.
    pub quotas: &'a HashMap<String, Arc<Quota>>,
    /// Who callers are.
    pub tokens: Option<Arc<dyn TokenStore>>,
    /// The access log, if there is one.
    pub access: Option<Arc<Access>>,
}

/// The door, as a service that each connection clones. What is behind it may be replaced:
/// each request goes by what is there when it comes.
#[derive(Clone)]
pub struct Door(Arc<ArcSwap<Inner>>);

struct Inner {
    routes: Routes,
    gateway: Gateway,
    tokens: Option<Arc<dyn TokenStore>>,
    certified: identity::Certificates,
    pace: Pace,
    /// Whether a request's own trace is taken up.
    follows: bool,
    object_keys: LogObjectKeys,
    access: Option<Arc<Access>>,
    metrics: Metrics,
}

impl Door {
    /// A door before what is `behind` it, as `config` routes to that.
    ///
    /// # Errors
    /// The name of what a route wants and that isn't there.
    pub fn new(config: &Config, behind: Behind<'_>, metrics: Metrics) -> Result<Self, String> {
        let Behind { classes, upstreams, quotas, tokens, access } = behind;
        let pace = Pace { idle: config.limits.body_idle_timeout, min_rate: config.limits.min_body_rate };
        Ok(Self(Arc::new(ArcSwap::from_pointee(Inner {
            routes: Routes::new(config, classes, upstreams, quotas)?,
            gateway: Gateway::new(tokens.clone(), pace),
            tokens,
            certified: identity::Certificates::new(config.identity.certified.clone()),
            pace,
            follows: config.traces.as_ref().is_some_and(|traces| traces.follow),
            object_keys: config.log.object_keys,
            access,
            metrics,
        }))))
    }

    /// Has every clone of this door do from now on as `other` does.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }
}

impl hyper::service::Service<Request<Incoming>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let door = self.0.load_full();
        Box::pin(async move { Ok(door.serve(request).await) })
    }
}

impl Inner {
    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let begun = Instant::now();
        let id = RequestId::new();
        let span = line::span(&request, id, self.follows);
        let mut line = Line::new(id, begun, &request, self.object_keys, self.access.as_ref(), span.clone());
        let method = line.method();
        let head_only = request.method() == Method::HEAD;
        let mut response = match self.handle(arriving(request), &id, &mut line).instrument(span).await {
            Ok(response) => response,
            Err(fault) => {
                line.fault(&fault);
                let mut response = problem(&fault, &id.to_string());
                if fault.kind() == Kind::MethodNotAllowed {
                    let allow = HeaderValue::from_static(gateway::methods(line.is_collection()));
                    response.headers_mut().insert(header::ALLOW, allow);
                }
                response
            }
        };
        if head_only {
            response = gateway::without_body(response);
        }
        if let Some(gateway::Named(key)) = response.extensions_mut().remove() {
            line.named(&key);
        }
        response.headers_mut().insert("x-request-id", id.to_header());
        let status = response.status();
        self.metrics.http_requests.with_label_values(&[line.route(), method, status.as_str()]).inc();
        self.metrics.http_seconds.with_label_values(&[line.route(), method]).observe(begun.elapsed().as_secs_f64());
        line.follow(response)
    }

    async fn handle(
        &self,
        mut request: Request<Arriving>,
        id: &RequestId,
        line: &mut Line,
    ) -> Result<Response<Body>, Fault> {
        if let Some(refused) = request.extensions().get::<Refused>() {
            return Err((*refused).into());
        }
        still_trusted(&request)?;
        let Matched { route, rest } = self.routes.find(&request).inspect_err(|_| line.unrouted())?;
        line.routed(Arc::clone(&route), &rest);
        if let Some(expect) = request.headers().get(header::EXPECT)
            && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
        {
            return Err(Fault::new(Kind::ExpectationFailed, "the only expectation met here is 100-continue"));
        }
        // Who counts by address or certificate counts before a caller is looked up.
        let mut admitted = Vec::new();
        admit(&route, &request, Asked::Nobody, &mut admitted)?;
        match &route.does {
            Does::Seal(objects) => {
                let query = gateway::Query::parse(request.uri().query())?;
                let caller = match query.link()? {
                    _ if route.public => Caller::anonymous(),
                    // Who follows a link means that.
                    Some(link) => {
                        let known = self.follow(&request, &link, &objects.class().name, &rest);
                        trace::within(hop!("identify"), Fault::is_ours, known).await?
                    }
                    None => trace::within(hop!("identify"), Fault::is_ours, self.caller(&request)).await?,
                };
                line.called_by(&caller);
                admit(&route, &request, Asked::of(&route, &caller), &mut admitted)?;
                metered(&mut request, line, admitted);
                let at = gateway::Place { path: &route.label, objects, rest: &rest };
                // Boxed, so that a request that goes on isn't moved about in the room this takes.
                let answering = self.gateway.answer(request, &at, &query, &caller);
                Box::pin(trace::within(hop!("gateway"), Fault::is_ours, answering)).await
            }
            Does::Forward(onward) => {
                let caller = if route.public {
                    Caller::anonymous()
                } else {
                    trace::within(hop!("identify"), Fault::is_ours, self.caller(&request)).await?
                };
                line.called_by(&caller);
                // What a token may do to objects says nothing of an app's own doings.
                if !caller.may_all() {
                    let words = "your access is for objects alone";
                    return Err(Fault::new(Kind::Forbidden, words).because(format!("caller `{}`", caller.name)));
                }
                admit(&route, &request, Asked::of(&route, &caller), &mut admitted)?;
                metered(&mut request, line, admitted);
                let (upstream, cookie) = onward.group(&request);
                line.sent_to(upstream.name());
                let known =
                    proxy::Known { id, caller: (!route.public).then_some(&*caller.name), told: self.access.is_some() };
                let taken = compress::taken(&route, &request);
                let mut response = proxy::forward(upstream, &onward.forward, request, &known, self.pace).await?;
                if let Some(cookie) = cookie {
                    response.headers_mut().append(header::SET_COOKIE, cookie);
                }
                Ok(compress::answer(response, taken).await)
            }
            Does::Redirect(redirect) => {
                admit(&route, &request, Asked::Known(None), &mut admitted)?;
                line.admitted(admitted.into());
                Ok(elsewhere(&request, redirect))
            }
            Does::Respond(respond) => {
                let mut response = Response::new(full(respond.body.clone()));
                *response.status_mut() = respond.status;
                if let Ok(kind) = HeaderValue::from_str(&respond.content_type) {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
                admit(&route, &request, Asked::Known(None), &mut admitted)?;
                line.admitted(admitted.into());
                Ok(compress::answer(response, compress::taken(&route, &request)).await)
            }
        }
    }

    /// Who is calling, by the token that is sent, or else by the connection's certificate.
    async fn caller(&self, request: &Request<Arriving>) -> Result<Caller, Fault> {
        let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        // Who says a token means that.
        if authorization.is_none()
            && let Some(caller) = self.certified(request)
        {
            return Ok(caller);
        }
        let tokens = self.tokens.as_deref().ok_or_else(|| {
            Fault::new(Kind::Unauthorized, "a valid client certificate is needed")
                .because("no [identity] tokens, and no [[identity.mtls]] that fits")
        })?;
        identity::authenticate(tokens, authorization).await
    }

    async fn follow(
        &self,
        request: &Request<Arriving>,
        link: &identity::Link,
        class: &str,
        rest: &str,
    ) -> Result<Caller, Fault> {
        let tokens = self.tokens.as_deref().ok_or_else(|| {
            Fault::new(Kind::Unauthorized, "this link is not valid, or no longer").because("no [identity] tokens")
        })?;
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            identity::follow(tokens, link, class, rest).await
        } else {
            Err(Fault::new(Kind::Forbidden, "a link is for reading alone"))
        }
    }

    /// The caller whose certificate the connection came with.
    fn certified(&self, request: &Request<Arriving>) -> Option<Caller> {
        let connection = request.extensions().get::<Arc<Connection>>()?;
        let client = connection.tls.as_ref()?.client.as_ref()?;
        self.certified.caller(client)
    }
}

/// Who was asked for.
#[derive(Clone, Copy)]
enum Asked<'a> {
    /// Nobody yet.
    Nobody,
    /// A caller, if there is one by name: whoever may come unnamed is nobody in particular.
    Known(Option<&'a str>),
}

impl<'a> Asked<'a> {
    fn of(route: &Route, caller: &'a Caller) -> Self {
        Self::Known((!route.public).then_some(&*caller.name))
    }
}

/// Asks the quotas of `route` to let a request in: those by caller once one is known, and the
/// others before.
fn admit<B>(route: &Route, request: &Request<B>, asked: Asked<'_>, admitted: &mut Vec<Admitted>) -> Result<(), Fault> {
    let connection = request.extensions().get::<Arc<Connection>>().map(|connection| &**connection);
    let (known, name) = match asked {
        Asked::Nobody => (false, None),
        Asked::Known(name) => (true, name),
    };
    for quota in route.quotas.iter().filter(|quota| quota.is_by_caller() == known) {
        admitted.push(quota.admit(connection, name)?);
    }
    Ok(())
}

/// Has the bytes of a request's body counted by whoever does.
fn metered(request: &mut Request<Arriving>, line: &mut Line, admitted: Vec<Admitted>) {
    let received = line.received();
    if admitted.is_empty() && received.is_none() {
        return;
    }
    let admitted: Arc<[Admitted]> = admitted.into();
    line.admitted(Arc::clone(&admitted));
    if !admitted.is_empty() {
        let admitted = Arc::clone(&admitted);
        // A tunnel outlives its request, and counts as one as long as it is there.
        let passed: Meter = Arc::new(move |bytes| admitted.iter().for_each(|admitted| admitted.passed(bytes)));
        request.extensions_mut().insert(Held(passed));
    }
    request.body_mut().metered(Arc::new(move |bytes| {
        if let Some(received) = &received {
            received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        for admitted in &*admitted {
            admitted.passed(bytes);
        }
    }));
}

/// Whether the certificate that the connection came with would let it in today: one that
/// was revoked, or whose time is over, ends it.
fn still_trusted(request: &Request<Arriving>) -> Result<(), Fault> {
    let Some(connection) = request.extensions().get::<Arc<Connection>>() else { return Ok(()) };
    let client = connection.tls.as_ref().and_then(|tls| tls.client.as_ref());
    if client.is_none_or(|client| client.holds()) {
        return Ok(());
    }
    connection.close();
    Err(Fault::new(Kind::Unauthorized, "your certificate is no longer trusted")
        .because("revoked, expired, or its authority is gone"))
}

/// A redirect, with the request's own host, path and query where it says so.
fn elsewhere(request: &Request<Arriving>, redirect: &crate::config::Redirect) -> Response<Body> {
    let host = routes::host_of(request).unwrap_or_default();
    // A host is what a client says: nothing of it that could end the address's host.
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(*c)).collect();
    let to = redirect
        .to
        .replace("{host}", &host)
        .replace("{path}", request.uri().path())
        .replace("{query}", request.uri().query().unwrap_or_default());
    let mut response = Response::new(full(""));
    *response.status_mut() = redirect.status;
    if let Ok(to) = HeaderValue::from_str(&to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

impl Route {
    /// The class, for the log; empty where none is.
    fn class(&self) -> &str {
        match &self.does {
            Does::Seal(objects) => &objects.class().name,
            _ => "",
        }
    }
}
