//! Sends finished spans to a collector, by OTLP over HTTP.
//!
//! A request never waits for it: spans go into a queue, whose length is bounded, and what finds it
//! full is counted and gone.

use std::{collections::HashMap, fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use crate::{config::Traces, metrics::Metrics};

/// Spans that wait; some hundred bytes each.
const QUEUE: usize = 4096;
/// Spans in one request to the collector.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
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
        let mut resource = Resource::builder()
            // The environment's `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` go before these.
            .with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))]);
        if let Some(service) = &config.service {
            resource = resource.with_service_name(service.clone());
        } else if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("sealward");
        }
        let resource = resource.build();
        let headers: HashMap<String, String> =
            config.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Http::new()?)
            .with_endpoint(&config.endpoint)
            .with_timeout(PATIENCE)
            .with_headers(headers)
            .build()
            .map_err(|error| error.to_string())?;
        exporter.set_resource(&resource);

        let (queue, spans) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample)));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler)
            .with_span_processor(Queue { queue, metrics: metrics.clone() })
            .build();
        let sending = tokio::spawn(send(exporter, spans, stopped, metrics));
        Ok(Self { provider, stop, sending })
    }

    /// What makes spans that end up here.
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer("sealward")
    }

    /// Sends what has come by now.
    pub async fn end(self) {
        let _ = self.stop.send(());
        if tokio::time::timeout(PATIENCE * 2, self.sending).await.is_err() {
            tracing::warn!("the collector of traces took too long for the last spans");
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
) {
    let mut told: Option<Instant> = None;
    let mut ending = false;
    loop {
        let mut batch = Vec::new();
        if !ending {
            tokio::select! {
                _ = &mut stopped => ending = true,
                _ = spans.recv_many(&mut batch, BATCH) => {}
            }
        }
        let gathered = Instant::now() + GATHER;
        while !ending && batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                _ = &mut stopped => ending = true,
                _ = spans.recv_many(&mut batch, room) => {}
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
        let outcome = match exporter.export(batch).await {
            Ok(()) => "sent",
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() >= LOG_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, spans = count, "the collector of traces doesn't take them; they are lost");
                }
                "failed"
            }
        };
        metrics.trace_spans.with_label_values(&[outcome]).inc_by(count);
    }
}

/// HTTP as the rest of the product has it: hyper, and rustls on AWS-LC.
struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Http {
    fn new() -> Result<Self, String> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        let connector = connector
            .map_err(|error| format!("the system's root certificates can't be read: {error}"))?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
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
        let answer = async {
            let answer = self.0.request(request.map(Full::new)).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MOST).collect().await?.to_bytes();
            Ok::<_, HttpError>(http::Response::from_parts(head, body))
        };
        tokio::time::timeout(PATIENCE, answer).await?
    }
}
