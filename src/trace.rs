//! The hops of a request as spans: what they are called, and what is written of them.
//!
//! Nothing here knows whether anybody listens. Without a collector in the configuration each
//! `hop` is one look at a flag of its own, and what it says is never put together. Names and
//! attributes are `OpenTelemetry`'s semantic conventions where it has one. Of an object there is its
//! class and its name as the log has it; never a token, a key, a query or a byte of a body.

use futures_util::TryFutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{propagation::TextMapPropagator as _, trace::TraceContextExt as _};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// What all of these spans are recorded under. The log never shows it.
pub const TARGET: &str = "sealward::trace";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// What of a client's `tracestate` is kept; bytes.
const STATE: usize = 512;

/// A whole request.
macro_rules! request {
    ($($fields:tt)*) => {
        ::tracing::info_span!(target: $crate::trace::TARGET, "request", otel.status_code = ::tracing::field::Empty, $($fields)*)
    };
}
pub(crate) use request;

/// A hop of a request, below the one that it is made in. Nothing outside of any: what is done by the
/// clock is in the metrics.
macro_rules! hop {
    ($name:literal $(, $($fields:tt)*)?) => {
        if $crate::trace::in_request() {
            ::tracing::info_span!(target: $crate::trace::TARGET, $name, otel.status_code = ::tracing::field::Empty $(, $($fields)*)?)
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

/// Does `work` as the hop `span`, marked where it ends in an error that is `ours` rather than the client's.
pub fn within<T, E>(
    span: Span,
    ours: impl FnOnce(&E) -> bool,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    let hop = span.clone();
    // An `async` block would hold `work` twice: as what it was given, and as what it waits for.
    work.inspect_err(move |error| {
        if ours(error) {
            failed(&hop);
        }
    })
    .instrument(span)
}

/// Marks a hop that came to nothing.
pub fn failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
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

/// Notes the service's own id of a call, and the code of what it said instead of doing it.
pub fn answered(span: &Span, request_id: Option<&str>, wrong: Option<&str>) {
    if let Some(id) = request_id {
        span.record("aws.request_id", id);
    }
    if let Some(wrong) = wrong {
        span.record("error.type", wrong);
    }
}

/// Says of a call's span that the call was left to another way.
pub fn left(span: &Span) {
    span.record("otel.name", "left to the SDK");
}

/// The `traceparent` of `headers`, if there is one and it is one (W3C Trace Context, section 3.2.2).
pub fn parent(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all("traceparent").iter();
    let value = all.next().filter(|_| all.next().is_none())?.to_str().ok()?;
    let mut fields = value.split('-');
    let mut field = |length: usize| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        fields.next().filter(|field| field.len() == length && field.bytes().all(hex))
    };
    let (version, trace, span, _flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    let zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let known = version == "00" && fields.next().is_none();
    // A later version may say more behind these.
    let later = version != "00" && version != "ff";
    ((known || later) && !zero(trace) && !zero(span)).then_some(value)
}

/// Makes `span` a part of the trace that `headers` name, if they do.
pub fn follow(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let Some(parent) = parent(headers) else { return };
    let mut theirs = HeaderMap::new();
    theirs.extend(HeaderValue::from_str(parent).ok().map(|parent| (TRACEPARENT, parent)));
    // It may come in several; what goes beyond what everybody must take is dropped (section 3.3.1.5).
    let state: Vec<_> = headers.get_all(TRACESTATE).iter().filter_map(|state| state.to_str().ok()).collect();
    let state = state.join(",");
    if state.len() <= STATE {
        theirs.extend(HeaderValue::from_str(&state).ok().map(|state| (TRACESTATE, state)));
    }
    // It fails for a span that has begun, which this one hasn't.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&HeaderExtractor(&theirs)));
}

/// Has `headers` name the hop at hand as that in which the request was sent on; without one they
/// stay as they came.
pub fn hand_on(headers: &mut HeaderMap) {
    let span = Span::current();
    if span.is_none() || id(&span).is_none() {
        return;
    }
    headers.remove(TRACESTATE);
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(headers));
    if headers.get(TRACESTATE).is_some_and(HeaderValue::is_empty) {
        headers.remove(TRACESTATE);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_holds_its_work_once() {
        let work = async {
            let bytes = [1_u8; 4096];
            std::future::ready(()).await;
            if bytes.iter().all(|byte| *byte == 1) { Ok(()) } else { Err(()) }
        };
        let alone = std::mem::size_of_val(&work);
        let hop = std::mem::size_of_val(&within(Span::none(), |()| true, work));
        assert!(alone >= 4096 && hop < alone + 512, "{hop} for {alone}");
    }

    #[test]
    fn only_one_whole_traceparent_is_one() {
        const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACEPARENT, HeaderValue::from_str(value).expect("a value"));
            }
            parent(&headers).map(str::to_owned)
        };
        assert_eq!(read(&[GOOD]).as_deref(), Some(GOOD));
        let later = GOOD.replacen("00", "cc", 1) + "-more";
        assert_eq!(read(&[&later]).as_deref(), Some(&*later));
        for bad in [
            "",
            "00-1-1-01",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &format!("{GOOD}-"),
            &GOOD.replace("4b", "+b"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[GOOD, GOOD]), None, "two are none");
    }
}
