//! The admin side, plain HTTP/1: metrics, health, readiness, version, and nothing else.
//!
//! It shows nothing about objects or callers, and never waits for another
//! system: readiness is what background probes last found.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{BindError, FIRST_PAUSE, Passed, listen, nodelay, of_the_peer, stall::Stall};
use crate::{config::Limits, metrics::Metrics};

/// Scrapers and probes at once.
const CONNECTIONS: usize = 64;
/// hyper's smallest buffer would do; heads here are short. Bytes.
const BUFFER: usize = 16 << 10;

/// Whether this process should be sent requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes; what is listed doesn't work fully, though requests are still served.
    Ready {
        /// Short names of what is impaired, such as `keys`.
        degraded: Vec<String>,
    },
    /// No, and why.
    NotReady {
        /// Short sentences.
        reasons: Vec<String>,
    },
    /// No: it was told to stop, and nothing is wrong.
    Stopping,
}

/// A bound admin listener.
pub struct Admin {
    listener: TcpListener,
    local: SocketAddr,
    limits: Limits,
    sources: Arc<Sources>,
}

/// What the answers are made of.
struct Sources {
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
    refresh: Box<dyn Fn(&Metrics) + Send + Sync>,
}

impl Admin {
    /// Binds `bind`, unless a socket there was `passed`. `refresh` is called before metrics are written, to set gauges
    /// that nobody keeps up to date; it must not block. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] when the address can't be had.
    pub fn bind(
        bind: SocketAddr,
        passed: &mut Passed,
        limits: Limits,
        metrics: Metrics,
        readiness: watch::Receiver<Readiness>,
        refresh: impl Fn(&Metrics) + Send + Sync + 'static,
    ) -> Result<Self, BindError> {
        let (listener, local) = listen(bind, passed)?;
        let sources = Arc::new(Sources { metrics, readiness, refresh: Box::new(refresh) });
        Ok(Self { listener, local, limits, sources })
    }

    /// The address bound; where port 0 was asked for, the port given.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until dropped, connections included: probes should see a draining process to its end.
    pub async fn serve(self) -> Infallible {
        let Self { listener, limits, sources, .. } = self;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let stalled = sources.metrics.connections_refused.with_label_values(&["admin_send_stall"]);
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // Bounds idle connections too: scrapers come again anyway.
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(BUFFER);
        let mut connections = JoinSet::new();
        loop {
            // As many as there are slots, and those that ended are forgotten.
            let Ok(slot) = slots.clone().acquire_owned().await else { continue };
            let socket = tokio::select! {
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => socket,
                    Err(error) => {
                        if !of_the_peer(&error) {
                            tokio::time::sleep(FIRST_PAUSE).await;
                        }
                        continue;
                    }
                },
            };
            nodelay(&socket);
            let io = TokioIo::new(Stall::new(socket, limits.send_idle_timeout, stalled.clone()));
            let sources = sources.clone();
            let service = service_fn(move |request| {
                let answer = answer(&request, &sources);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = builder.serve_connection(io, service);
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "admin connection");
                }
                drop(slot);
            });
        }
    }
}

fn answer(request: &Request<Incoming>, sources: &Sources) -> Response<Full<Bytes>> {
    const JSON: &str = "application/json";
    const TEXT: &str = "text/plain; charset=utf-8";
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz" | "/readyz" | "/version") {
        return respond(StatusCode::NOT_FOUND, TEXT, "only /metrics, /healthz, /readyz and /version are here\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/metrics" => {
            (sources.refresh)(&sources.metrics);
            let (ready, words, stopping) = match &*sources.readiness.borrow() {
                Readiness::Ready { degraded } => (1, degraded.len(), 0),
                Readiness::NotReady { reasons } => (0, reasons.len(), 0),
                Readiness::Stopping => (0, 0, 1),
            };
            sources.metrics.ready.set(ready);
            sources.metrics.stopping.set(stopping);
            sources.metrics.impairments.set(i64::try_from(words).unwrap_or(i64::MAX));
            match sources.metrics.render() {
                Ok(text) => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
                Err(error) => {
                    tracing::error!(%error, "metrics can't be written");
                    respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "metrics can't be written\n")
                }
            }
        }
        "/readyz" => {
            let (status, body) = match &*sources.readiness.borrow() {
                Readiness::Ready { degraded } => (StatusCode::OK, json!({ "ready": true, "degraded": degraded })),
                Readiness::NotReady { reasons } => {
                    (StatusCode::SERVICE_UNAVAILABLE, json!({ "ready": false, "reasons": reasons }))
                }
                Readiness::Stopping => {
                    (StatusCode::SERVICE_UNAVAILABLE, json!({ "ready": false, "reasons": ["stopping"] }))
                }
            };
            respond(status, JSON, body.to_string())
        }
        "/version" => {
            let body = json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
            respond(StatusCode::OK, JSON, body.to_string())
        }
        _ => respond(StatusCode::OK, TEXT, "ok\n"),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
