//! A collector of ours: takes spans by OTLP over HTTP, as its specification's own messages, and
//! shows them. It answers anything else with 200 and keeps the headers, so that it serves as an app.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message as _;

use crate::support::SOON;

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

#[derive(Default)]
struct Seen {
    spans: Vec<Span>,
    raw: Vec<u8>,
    /// What batches are answered, from the first on; 200 after these.
    answers: Vec<&'static str>,
    /// Of the last request.
    headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for one that begins a trace.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) kind: i32,
    pub(crate) status: i32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    attributes: Vec<(String, String)>,
}

impl Span {
    /// Its value as text; empty when it isn't there.
    pub(crate) fn attribute(&self, name: &str) -> String {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it");
        let seen: Arc<(Mutex<Seen>, Condvar)> = Arc::default();
        let noted = Arc::clone(&seen);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let noted = Arc::clone(&noted);
                thread::spawn(move || while answer(&socket, &noted).is_some() {});
            }
        });
        Self { address, seen }
    }

    /// Answers the first batch so.
    pub(crate) fn answering(self, answer: &'static str) -> Self {
        self.seen.0.lock().expect("not poisoned").answers.push(answer);
        self
    }

    /// All spans of the trace, once `last` is among them.
    pub(crate) fn trace(&self, trace: &str, last: impl Fn(&Span) -> bool) -> Vec<Span> {
        let until = Instant::now() + SOON;
        let (seen, more) = &*self.seen;
        let mut seen = seen.lock().expect("not poisoned");
        loop {
            let spans: Vec<Span> = seen.spans.iter().filter(|span| span.trace == trace).cloned().collect();
            if spans.iter().any(&last) {
                return spans;
            }
            let left = until.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("it never came; there are {:#?}", seen.spans));
            seen = more.wait_timeout(seen, left).expect("not poisoned").0;
        }
    }

    /// What has come so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.seen.0.lock().expect("not poisoned").spans.clone()
    }

    /// A header of the last request; empty when it isn't there.
    pub(crate) fn header(&self, name: &str) -> String {
        let seen = self.seen.0.lock().expect("not poisoned");
        seen.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// Whether these bytes came in any request.
    pub(crate) fn has_seen(&self, bytes: &[u8]) -> bool {
        self.seen.0.lock().expect("not poisoned").raw.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// Takes one request and answers it; `None` at the end.
fn answer(socket: &TcpStream, noted: &(Mutex<Seen>, Condvar)) -> Option<()> {
    let mut reader = BufReader::new(socket);
    let (mut line, mut headers) = (String::new(), Vec::new());
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let spans = line.contains(" /v1/traces ");
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().expect("a number"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (seen, more) = noted;
    let mut seen = seen.lock().expect("not poisoned");
    if spans {
        let request = ExportTraceServiceRequest::decode(&*body).expect("OTLP");
        let resources = request.resource_spans.into_iter();
        seen.spans.extend(resources.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).map(|span| Span {
            trace: hex::encode(span.trace_id),
            id: hex::encode(span.span_id),
            parent: hex::encode(span.parent_span_id),
            name: span.name,
            kind: span.kind,
            status: span.status.map_or(0, |status| status.code),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            attributes: span.attributes.into_iter().map(shown).collect(),
        }));
    }
    seen.raw.extend(body);
    seen.headers = headers;
    let answer =
        if spans { if seen.answers.is_empty() { "200 OK\r\n" } else { seen.answers.remove(0) } } else { "200 OK\r\n" };
    more.notify_all();
    drop(seen);
    let mut writer = socket;
    writer.write_all(format!("HTTP/1.1 {answer}content-length: 0\r\n\r\n").as_bytes()).ok()
}

fn shown(attribute: KeyValue) -> (String, String) {
    let value = match attribute.value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => format!("{number}i"),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    (attribute.key, value)
}
