//! HTTP to objects: the door through which uploads are sealed.
//!
//! One request, in order: a name for it, its route, its caller, what it wants of
//! which object, the answer, one line in the log. Whatever can refuse a request
//! does so before a byte of its body is asked for.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;

use crate::{
    config::{Config, LogObjectKeys},
    fault::{Fault, Kind},
    http::{Body, Connection, Pace, RequestId, problem},
    identity::{self, Action, Caller, Link, TokenStore},
    metrics::Metrics,
    objects::{ObjectKey, Objects, WriteCondition},
};

mod answer;
mod arriving;
mod bodies;
mod head;
mod line;
mod path;
mod query;
mod routes;
mod share;
mod upload;

use arriving::{Arriving, arriving};
use line::Line;
use query::Query;
use routes::{Matched, Route, Routes};

/// Methods of an object's own path.
const OBJECT_METHODS: &str = "GET, HEAD, PUT, DELETE, POST, OPTIONS";
/// Methods of the collection.
const COLLECTION_METHODS: &str = "GET, HEAD, POST, OPTIONS";

/// The gateway, as a service that each connection clones.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    routes: Routes,
    tokens: Option<Arc<dyn TokenStore>>,
    certified: identity::Certificates,
    pace: Pace,
    object_keys: LogObjectKeys,
    metrics: Metrics,
}

impl Gateway {
    /// A gateway over `classes`, by name, as `config` routes them.
    ///
    /// # Errors
    /// The name of a class that a route wants and that isn't there.
    pub fn new(
        config: &Config,
        classes: &HashMap<String, Arc<Objects>>,
        tokens: Option<Arc<dyn TokenStore>>,
        metrics: Metrics,
    ) -> Result<Self, String> {
        Ok(Self(Arc::new(Inner {
            routes: Routes::new(config, classes)?,
            tokens,
            certified: identity::Certificates::new(config.identity.certified.clone()),
            pace: Pace { idle: config.limits.body_idle_timeout, min_rate: config.limits.min_body_rate },
            object_keys: config.log.object_keys,
            metrics,
        })))
    }
}

impl tower::Service<Request<Incoming>> for Gateway {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let gateway = Arc::clone(&self.0);
        Box::pin(async move { Ok(gateway.serve(request).await) })
    }
}

impl Inner {
    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let begun = Instant::now();
        let id = RequestId::new();
        let mut line = Line::new(id, &request, self.object_keys);
        let method = line.method();
        let head_only = request.method() == Method::HEAD;
        let mut response = match self.handle(arriving(request), &mut line).await {
            Ok(response) => response,
            Err(fault) => {
                line.fault(&fault);
                let mut response = problem(&fault, &id.to_string());
                if fault.kind() == Kind::MethodNotAllowed {
                    let allow = if line.is_collection() { COLLECTION_METHODS } else { OBJECT_METHODS };
                    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
                }
                response
            }
        };
        if head_only {
            response = answer::without_body(response);
        }
        response.headers_mut().insert("x-request-id", id.to_header());
        let status = response.status().as_u16().to_string();
        self.metrics.http_requests.with_label_values(&[line.route(), method, &status]).inc();
        self.metrics.http_seconds.with_label_values(&[line.route(), method]).observe(begun.elapsed().as_secs_f64());
        line.follow(response)
    }

    async fn handle(&self, request: Request<Arriving>, line: &mut Line) -> Result<Response<Body>, Fault> {
        still_trusted(&request)?;
        let Matched { route, rest } = self.routes.find(&request)?;
        line.routed(&route.path, &route.objects.class().name, &rest);
        if let Some(expect) = request.headers().get(header::EXPECT)
            && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
        {
            return Err(Fault::new(Kind::ExpectationFailed, "the only expectation met here is 100-continue"));
        }
        let query = Query::parse(request.uri().query())?;
        let caller = self.caller(&request, &route, &rest, &query).await?;
        line.called_by(&caller);
        if request.method() == Method::OPTIONS {
            let allow = if rest.is_empty() { COLLECTION_METHODS } else { OBJECT_METHODS };
            return Ok(answer::allow(allow));
        }
        if rest.is_empty() {
            self.collection(request, &route, &query, &caller, line).await
        } else {
            let key = ObjectKey::new(&rest, &route.objects.class().prefix)?;
            self.object(request, &route, &key, &query, &caller).await
        }
    }

    /// Who is calling: anybody on a public route, else the bearer of a link or a token.
    async fn caller(
        &self,
        request: &Request<Arriving>,
        route: &Route,
        rest: &str,
        query: &Query,
    ) -> Result<Caller, Fault> {
        if route.public {
            return Ok(Caller::anonymous());
        }
        let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let linked = query.link()?;
        // Who says a token, or follows a link, means that.
        if authorization.is_none()
            && linked.is_none()
            && let Some(caller) = self.certified(request)
        {
            return Ok(caller);
        }
        let tokens = self.tokens.as_deref().ok_or_else(|| {
            Fault::new(Kind::Unauthorized, "a valid client certificate is needed")
                .because("no [identity] tokens, and no [[identity.mtls]] that fits")
        })?;
        match linked {
            Some(link) if matches!(*request.method(), Method::GET | Method::HEAD) => {
                identity::follow(tokens, &link, &route.objects.class().name, rest).await
            }
            Some(_) => Err(Fault::new(Kind::Forbidden, "a link is for reading alone")),
            None => identity::authenticate(tokens, authorization).await,
        }
    }

    /// The caller whose certificate the connection came with.
    fn certified(&self, request: &Request<Arriving>) -> Option<Caller> {
        let connection = request.extensions().get::<Arc<Connection>>()?;
        let client = connection.tls.as_ref()?.client.as_ref()?;
        self.certified.caller(client, connection.local)
    }

    async fn object(
        &self,
        request: Request<Arriving>,
        route: &Route,
        key: &ObjectKey,
        query: &Query,
        caller: &Caller,
    ) -> Result<Response<Body>, Fault> {
        let objects = &route.objects;
        let class = objects.class().name.as_str();
        match *request.method() {
            Method::GET | Method::HEAD => {
                query.allow(&["expires", "by", "signature"])?;
                caller.require(Action::Read, class)?;
                answer::read(objects, key, request.method(), request.headers()).await
            }
            Method::PUT => {
                query.allow(&[])?;
                caller.require(Action::Write, class)?;
                upload::put(objects, key, request, caller, self.pace).await
            }
            Method::DELETE => {
                query.allow(&[])?;
                caller.require(Action::Delete, class)?;
                let condition = head::write_condition(request.headers())?;
                match &condition {
                    WriteCondition::None => {}
                    WriteCondition::Absent => {
                        return Err(Fault::bad_request("If-None-Match makes no sense of a removal; use If-Match"));
                    }
                    // Whether a condition holds tells what stands there.
                    _ => caller.require(Action::Read, class)?,
                }
                objects.delete(key, &condition).await?;
                Ok(answer::no_content())
            }
            Method::POST if query.has("share") => {
                query.allow(&["share", "expires"])?;
                caller.require(Action::Share, class)?;
                caller.require(Action::Read, class)?;
                let age = Duration::from_secs(query.number("expires")?.unwrap_or(3600));
                let tokens = self
                    .tokens
                    .as_deref()
                    .ok_or_else(|| Fault::new(Kind::Forbidden, "links are signed on behalf of an access token"))?;
                let link = Link::sign(tokens.key(), caller, class, key.as_str(), age)?;
                Ok(share::link(&request, route, key, &link))
            }
            _ => Err(Fault::new(Kind::MethodNotAllowed, "an object takes GET, HEAD, PUT, DELETE, and POST ?share")),
        }
    }

    async fn collection(
        &self,
        request: Request<Arriving>,
        route: &Route,
        query: &Query,
        caller: &Caller,
        line: &mut Line,
    ) -> Result<Response<Body>, Fault> {
        let objects = &route.objects;
        let class = objects.class().name.as_str();
        match *request.method() {
            Method::GET | Method::HEAD if query.has("list") => {
                query.allow(&["list", "prefix", "after", "limit"])?;
                caller.require(Action::List, class)?;
                answer::list(objects, query).await
            }
            Method::POST => {
                query.allow(&[])?;
                caller.require(Action::Write, class)?;
                upload::post(route, request, caller, self.pace, line).await
            }
            Method::PUT => Err(Fault::bad_request(
                "the object has no name: put one behind the path (`curl -T -` needs a full URL), or use POST",
            )),
            Method::GET | Method::HEAD => {
                Err(Fault::bad_request("name an object, or add ?list to see which there are"))
            }
            _ => Err(Fault::new(Kind::MethodNotAllowed, "the collection takes GET ?list and POST")),
        }
    }
}

/// The connection a request came on, where the server said.
fn connection(extensions: &http::Extensions) -> Option<&Arc<Connection>> {
    extensions.get::<Arc<Connection>>()
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
