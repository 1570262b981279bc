//! The hops of a request as spans: what they are called, and what is written of them.
//!
//! Nothing here knows whether anybody listens. Without a collector in the configuration each
//! [`hop`] is one look at a flag of its own, and what it says is never put together. Names and
//! attributes are `OpenTelemetry`'s semantic conventions where it has one. Of an object there is its
//! class and its name as the log has it; never a token, a key, a query or a byte of a body.

use http::HeaderMap;
use opentelemetry::{propagation::TextMapPropagator as _, trace::TraceContextExt as _};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// What all of these spans are recorded under. The log never shows it.
pub const TARGET: &str = "sealward::trace";

/// A whole request.
macro_rules! request {
    ($($fields:tt)*) => {
        ::tracing::info_span!(target: "sealward::trace", "request", otel.status_code = ::tracing::field::Empty, $($fields)*)
    };
}
pub(crate) use request;

/// A hop of a request, below the one that it is made in. Nothing outside of any: what is done by the
/// clock is in the metrics.
macro_rules! hop {
    ($name:literal $(, $($fields:tt)*)?) => {
        if $crate::trace::in_request() {
            ::tracing::info_span!(target: "sealward::trace", $name, otel.status_code = ::tracing::field::Empty $(, $($fields)*)?)
        } else {
            ::tracing::Span::none()
        }
    };
}
pub(crate) use hop;

/// Whether what is done here is done for a request that is traced.
pub fn in_request() -> bool {
    ::tracing::enabled!(target: TARGET, ::tracing::Level::INFO) && !Span::current().is_none()
}

/// A call to AWS, as a hop.
pub fn aws(service: &'static str, method: &'static str) -> Span {
    hop!(
        "aws",
        otel.name = %format_args!("{service}.{method}"),
        otel.kind = "client",
        rpc.system = "aws-api",
        rpc.service = service,
        rpc.method = method,
        aws.request_id = field::Empty,
        error.type = field::Empty,
    )
}

/// Notes the service's own id of a call, and what went wrong with it if anything did.
pub fn answered(span: &Span, request_id: Option<&str>, wrong: Option<&str>) {
    if let Some(id) = request_id {
        span.record("aws.request_id", id);
    }
    if let Some(wrong) = wrong {
        span.record("error.type", wrong).record("otel.status_code", "ERROR");
    }
}

/// Makes `span` a part of the trace that `headers` name (W3C Trace Context, section 3.2), if they do.
pub fn follow(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() || !headers.contains_key("traceparent") {
        return;
    }
    let theirs = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    if theirs.span().span_context().is_valid() {
        // It fails where nobody listens, and for a span that has begun.
        let _ = span.set_parent(theirs);
    }
}

/// Has `headers` name the hop at hand as that in which the request was sent on; without one they
/// stay as they came.
pub fn hand_on(headers: &mut HeaderMap) {
    let span = Span::current();
    if span.is_none() || id(&span).is_none() {
        return;
    }
    headers.remove("tracestate");
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(headers));
}

/// The trace that `span` belongs to. Its name is what it is from now on.
pub fn id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let id = context.span().span_context().trace_id();
    (id != opentelemetry::trace::TraceId::INVALID).then(|| id.to_string())
}
