//! Sends finished spans to a collector, by OTLP over HTTP.
//!
//! A request never waits for it: spans go into a queue, whose length is bounded, and what finds it
//! full is counted and gone.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, RetryPolicy, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use crate::{config::Traces, fault::chain, metrics::Metrics, secret::SecretText};

/// Spans that wait; some KiB each at most, since what clients say of a trace is bounded.
const QUEUE: usize = 4096;
/// Spans in one request to the collector.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the process waits for it.
pub const END: Duration = Duration::from_secs(3);
/// What is read of its answer, in bytes.
const MOST: usize = 64 << 10;
/// The same trouble is logged this often at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What sends the spans.
pub struct Collector {
    provider: SdkTracerProvider,
    stop: oneshot::Sender<()>,
    sending: JoinHandle<()>,
}

impl Collector {
    /// One for what `config` names; within a Tokio runtime.
    ///
    /// # Errors
    /// In words, when nothing could ever be sent.
    pub fn start(config: &Traces, metrics: Metrics) -> Result<Self, String> {
        // The environment goes before what we would say, and the configuration before that.
        let mut resource = Resource::builder_empty()
            .with_service_name("sealward")
            .with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))])
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_detector(Box::new(EnvResourceDetector::new()));
        if let Some(service) = config.service.clone().or_else(|| std::env::var("OTEL_SERVICE_NAME").ok()) {
            resource = resource.with_service_name(service);
        }
        let resource = resource.build();
        let http = Http::new(config)?;
        let cause = Arc::clone(&http.cause);
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(http)
            .with_endpoint(&config.endpoint)
            .with_timeout(PATIENCE)
            // Its pauses would hold up the thread that they are made on.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| error.to_string())?;
        exporter.set_resource(&resource);
        for outcome in ["sent", "failed", "dropped"] {
            metrics.trace_spans.with_label_values(&[outcome]);
        }

        let (queue, spans) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample)));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler)
            .with_span_processor(Queue { queue, metrics: metrics.clone() })
            .build();
        let sending = tokio::spawn(send(exporter, spans, stopped, metrics, cause));
        Ok(Self { provider, stop, sending })
    }

    /// What makes spans that end up here.
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer("sealward")
    }

    /// Sends what has come by now.
    pub async fn end(self) {
        let _ = self.stop.send(());
        if tokio::time::timeout(END, self.sending).await.is_err() {
            tracing::warn!("the collector of traces took too long for the last spans; they are lost");
        }
    }
}

/// Where spans wait.
#[derive(Debug)]
struct Queue {
    queue: mpsc::Sender<SpanData>,
    metrics: Metrics,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.queue.try_send(span).is_err() {
            self.metrics.trace_spans.with_label_values(&["dropped"]).inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

async fn send(
    exporter: impl SpanExporter,
    mut spans: mpsc::Receiver<SpanData>,
    mut stopped: oneshot::Receiver<()>,
    metrics: Metrics,
    cause: Cause,
) {
    let mut told: Option<Instant> = None;
    let mut ending = false;
    loop {
        let mut batch = Vec::new();
        if !ending {
            tokio::select! {
                _ = &mut stopped => ending = true,
                came = spans.recv_many(&mut batch, BATCH) => ending = came == 0,
            }
        }
        let gathered = Instant::now() + GATHER;
        while !ending && batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                _ = &mut stopped => ending = true,
                came = spans.recv_many(&mut batch, room) => ending = came == 0,
                () = tokio::time::sleep_until(gathered) => break,
            }
        }
        while batch.len() < BATCH
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        if batch.is_empty() {
            // Told to end, and nothing is left.
            return;
        }
        let count = batch.len() as u64;
        // Bounded by `Http`, which is all of it that waits.
        let outcome = match exporter.export(batch).await {
            Ok(()) => "sent",
            Err(error) => {
                let why = cause.lock().unwrap_or_else(PoisonError::into_inner).take();
                let why = why.unwrap_or_else(|| error.to_string());
                if told.is_none_or(|told| told.elapsed() >= LOG_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(
                        why,
                        spans = count,
                        "the collector of traces doesn't take them, and they are lost: look at [traces] endpoint"
                    );
                }
                "failed"
            }
        };
        metrics.trace_spans.with_label_values(&[outcome]).inc_by(count);
    }
}

/// Why the last request came to nothing, which the exporter doesn't say.
type Cause = Arc<Mutex<Option<String>>>;

/// HTTP as the rest of the product has it: hyper, and rustls on AWS-LC.
struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// What the configuration says, and nobody else's: a token of the environment's may be for another.
    headers: Vec<(HeaderName, SecretText)>,
    cause: Cause,
}

impl Http {
    fn new(config: &Traces) -> Result<Self, String> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = HttpsConnectorBuilder::new();
        let connector = if config.endpoint.starts_with("https:") {
            connector
                .with_provider_and_native_roots(provider)
                .map_err(|error| format!("the system's root certificates can't be read: {error}"))?
        } else {
            let tls =
                rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
            let tls = tls.map_err(|error| error.to_string())?;
            connector.with_tls_config(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
        };
        let client = Client::builder(TokioExecutor::new()).build(connector.https_or_http().enable_http1().build());
        Ok(Self { client, headers: config.headers.clone(), cause: Cause::default() })
    }

    async fn send(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let ours = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::USER_AGENT];
        let others: Vec<_> = request.headers().keys().filter(|name| !ours.contains(name)).cloned().collect();
        for name in others {
            request.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            let mut value = HeaderValue::from_str(value.expose())?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        let answer = self.client.request(request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST).collect().await?.to_bytes();
        Ok(http::Response::from_parts(head, body))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let answer = match tokio::time::timeout(PATIENCE, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer in {PATIENCE:?}").into()),
        };
        let why = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(chain(error.as_ref())),
        };
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = why;
        answer
    }
}
