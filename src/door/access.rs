//! The access log: a line for each request, in the order of an AWS load balancer's fields, or
//! as JSON with the same names.
//!
//! Lines go through a bounded queue to a thread of their own. Where the disk is slower than
//! requests, lines are dropped and counted: serving never waits for a log.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderName, Request, Response, Version, header};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::routes::{Does, Route};
use crate::{
    config::{AccessFormat, AccessLog},
    http::{
        Connection, Onwards, RequestId,
        desync::{Noted, Refused},
    },
    metrics::Metrics,
};

/// Lines that wait to be written.
const QUEUE: usize = 8192;
/// The longest that a client's own text may be in a field, in bytes.
const LONGEST: usize = 4096;
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// The access log of a process.
pub struct Access {
    format: AccessFormat,
    /// Whether what stands behind `?` is written.
    pub(super) query: bool,
    lines: SyncSender<String>,
    /// Whether the file may have been moved away.
    moved: Arc<AtomicBool>,
    metrics: Metrics,
}

/// What is known of one request. What isn't is `None`, and written as `-`, or -1 for a time.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) kind: &'static str,
    pub(super) client: Option<String>,
    pub(super) target: Option<String>,
    /// Until it went on, until its answer's head came, until its end.
    pub(super) times: [Option<Duration>; 3],
    pub(super) status: u16,
    pub(super) target_status: Option<u16>,
    pub(super) received: Arc<AtomicU64>,
    pub(super) sent: u64,
    /// Method, address, version.
    pub(super) request: String,
    pub(super) user_agent: Option<String>,
    pub(super) cipher: Option<&'static str>,
    pub(super) protocol: Option<&'static str>,
    /// The upstream, or the class.
    pub(super) group: Option<String>,
    pub(super) trace: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) priority: Option<u32>,
    pub(super) begun: Option<SystemTime>,
    pub(super) action: Option<&'static str>,
    pub(super) redirect: Option<String>,
    pub(super) error: Option<&'static str>,
    pub(super) class: Option<&'static str>,
    pub(super) reason: Option<&'static str>,
    pub(super) id: String,
    method: String,
    version: Version,
    host: String,
    path: String,
    query: Option<String>,
}

impl Access {
    /// Opens the log's file, and its thread.
    ///
    /// # Errors
    /// The file's name, and why it can't be written.
    pub fn open(config: &AccessLog, metrics: Metrics) -> Result<Arc<Self>, String> {
        let file = open(&config.path)?;
        let (lines, queue) = sync_channel(QUEUE);
        let moved = Arc::new(AtomicBool::new(false));
        let writer = Writer { file, path: config.path.clone(), moved: Arc::clone(&moved), metrics: metrics.clone() };
        let thread = std::thread::Builder::new().name("access-log".into());
        thread.spawn(move || writer.run(&queue)).map_err(|error| error.to_string())?;
        Ok(Arc::new(Self { format: config.format, query: config.query, lines, moved, metrics }))
    }

    /// Opens the file anew with the next line: the old one may have been moved away.
    pub fn reopen(&self) {
        self.moved.store(true, Ordering::Relaxed);
        // So that it is seen at once; where the queue is full there are lines to come.
        let _ = self.lines.try_send(String::new());
    }

    pub(super) fn write(&self, entry: &Entry) {
        let line = match self.format {
            AccessFormat::Alb => entry.alb(),
            AccessFormat::Json => entry.json(),
        };
        if self.lines.try_send(line).is_err() {
            self.metrics.access_log_lines.with_label_values(&["dropped"]).inc();
        }
    }
}

fn open(path: &Path) -> Result<BufWriter<File>, String> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map(BufWriter::new).map_err(|error| format!("{}: {error}; see to it that the folder is there", path.display()))
}

/// The thread that writes.
struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    moved: Arc<AtomicBool>,
    metrics: Metrics,
}

impl Writer {
    fn run(mut self, queue: &Receiver<String>) {
        let mut well = true;
        while let Ok(first) = queue.recv() {
            if self.moved.swap(false, Ordering::Relaxed) {
                match open(&self.path) {
                    Ok(opened) => self.file = opened,
                    Err(error) => tracing::error!("the access log goes on in the old file: {error}"),
                }
            }
            let mut lines = 0;
            let mut outcome = Ok(());
            // What is there already goes out in one piece.
            for line in std::iter::once(first).chain(queue.try_iter().take(QUEUE)) {
                lines += u64::from(!line.is_empty());
                outcome = outcome.and_then(|()| self.file.write_all(line.as_bytes()));
            }
            let outcome = outcome.and_then(|()| self.file.flush());
            if let Err(error) = &outcome
                && well
            {
                tracing::error!(%error, path = %self.path.display(), "the access log can't be written; lines are lost");
            }
            well = outcome.is_ok();
            let label = if well { "written" } else { "failed" };
            self.metrics.access_log_lines.with_label_values(&[label]).inc_by(lines);
            if !well && let Ok(opened) = open(&self.path) {
                // What is left in the buffer would come out torn behind whatever is written next.
                let _ = std::mem::replace(&mut self.file, opened).into_parts();
            }
        }
    }
}

impl Entry {
    /// What is known when a request comes.
    pub(super) fn of<B>(request: &Request<B>, id: RequestId, query: bool) -> Self {
        let connection = request.extensions().get::<Arc<Connection>>();
        let tls = connection.and_then(|connection| connection.tls.as_ref());
        let text = |name: HeaderName| {
            request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let is = |name: HeaderName, begins: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.is_some_and(|value| value.to_ascii_lowercase().starts_with(begins))
        };
        let kind = match request.version() {
            Version::HTTP_2 if is(header::CONTENT_TYPE, "application/grpc") => "grpcs",
            Version::HTTP_2 => "h2",
            _ if is(header::UPGRADE, "websocket") => "wss",
            _ => "https",
        };
        let found = request.extensions().get::<Refused>().map(|refused| refused.0);
        let found = found.or_else(|| request.extensions().get::<Noted>().map(|noted| noted.0));
        let mut entry = Self {
            kind,
            path: request.uri().path().to_owned(),
            query: request.uri().query().filter(|_| query).map(str::to_owned),
            client: connection.map(|connection| connection.peer.to_string()),
            user_agent: text(header::USER_AGENT),
            cipher: tls.map(|tls| tls.cipher),
            protocol: tls.map(|tls| if tls.version == "1.3" { "TLSv1.3" } else { "TLSv1.2" }),
            trace: text(HeaderName::from_static("x-amzn-trace-id")),
            domain: tls.and_then(|tls| tls.sni.clone()),
            begun: Some(SystemTime::now()),
            class: found.map(|finding| finding.class.in_log()),
            reason: found.map(|finding| finding.reason.as_str()),
            id: id.to_string(),
            method: request.method().to_string(),
            version: request.version(),
            host: super::routes::authority_of(request).unwrap_or_default().to_owned(),
            ..Self::default()
        };
        // Until its route is known it may be an object's, and bear a link's signature.
        entry.asks("/-");
        entry
    }

    /// Method, address and version, with `path` as it may be written.
    fn asks(&mut self, path: &str) {
        let Self { method, host, version, .. } = self;
        self.request = format!("{method} https://{host}{path} {version:?}");
    }

    /// Its route is found; `key` is what a log may have of an object's name.
    pub(super) fn routed(&mut self, route: &Route, key: Option<&str>) {
        self.priority = route.priority;
        self.action = Some(match &route.does {
            Does::Seal(_) => "seal",
            Does::Forward(_) => "forward",
            Does::Redirect(_) => "redirect",
            Does::Respond(_) => "fixed-response",
        });
        if let Does::Seal(objects) = &route.does {
            self.group = Some(objects.class().name.clone());
            self.asks(&format!("{}{}", route.label, key.unwrap_or("-")));
        } else {
            let question = self.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
            self.asks(&format!("{}{question}", self.path.clone()));
        }
    }

    /// It leads nowhere, and objects' names may be written as they are.
    pub(super) fn unrouted(&mut self) {
        self.asks(&self.path.clone());
    }

    /// Its answer's head is there.
    pub(super) fn answered<B>(&mut self, response: &Response<B>, begun: Instant) {
        let since = |from: Instant, to: Instant| Some(to.saturating_duration_since(from));
        match response.extensions().get::<Onwards>() {
            Some(on) => {
                self.target = Some(on.target.clone());
                self.target_status = Some(on.status);
                if let Some(trace) = &on.trace {
                    self.trace = Some(String::from_utf8_lossy(trace.as_bytes()).into_owned());
                }
                self.times = [since(begun, on.sent), since(on.sent, on.answered), None];
            }
            None => self.times = [since(begun, Instant::now()), None, None],
        }
        if response.status().is_redirection() && self.action == Some("redirect") {
            let to = response.headers().get(header::LOCATION);
            let to = to.and_then(|to| to.to_str().ok());
            let shown = to.map(|to| if self.query.is_some() { to } else { to.split('?').next().unwrap_or_default() });
            self.redirect = shown.map(str::to_owned);
        }
    }

    /// It has ended.
    pub(super) fn end(&mut self, begun: Instant) {
        if self.status != 0 {
            let [request, target, _] = self.times;
            let before = request.unwrap_or_default() + target.unwrap_or_default();
            self.times[2] = Some(begun.elapsed().saturating_sub(before));
        }
    }

    /// In the order of an Application Load Balancer's access log.
    fn alb(&self) -> String {
        let [request, target, response] = self.times.map(|time| time.map_or("-1".into(), seconds));
        let text = |text: &Option<String>| text.as_deref().map_or("-".into(), bare);
        let quoted = |text: Option<&str>| format!("\"{}\"", text.map_or("-".into(), escaped));
        let now = timestamp(SystemTime::now());
        let fields = [
            self.kind.to_owned(),
            now,
            "sealward".into(),
            text(&self.client),
            text(&self.target),
            request,
            target,
            response,
            if self.status == 0 { "-".into() } else { self.status.to_string() },
            self.target_status.map_or("-".into(), |status| status.to_string()),
            self.received.load(Ordering::Relaxed).to_string(),
            self.sent.to_string(),
            quoted(Some(&self.request)),
            quoted(self.user_agent.as_deref()),
            self.cipher.unwrap_or("-").into(),
            self.protocol.unwrap_or("-").into(),
            text(&self.group),
            quoted(self.trace.as_deref()),
            quoted(self.domain.as_deref()),
            quoted(None),
            self.priority.map_or("-".into(), |priority| priority.to_string()),
            self.begun.map_or("-".into(), timestamp),
            quoted(self.action),
            quoted(self.redirect.as_deref()),
            quoted(self.error),
            quoted(self.target.as_deref()),
            quoted(self.target_status.map(|status| status.to_string()).as_deref()),
            quoted(self.class),
            quoted(self.reason),
            self.id.clone(),
        ];
        fields.join(" ") + "\n"
    }

    fn json(&self) -> String {
        let [request, target, response] = self.times.map(|time| time.map(|time| time.as_secs_f64()));
        let line = serde_json::json!({
            "type": self.kind,
            "time": timestamp(SystemTime::now()),
            "client": self.client,
            "target": self.target,
            "request_processing_time": request,
            "target_processing_time": target,
            "response_processing_time": response,
            "status_code": self.status,
            "target_status_code": self.target_status,
            "received_bytes": self.received.load(Ordering::Relaxed),
            "sent_bytes": self.sent,
            "request": self.request,
            "user_agent": self.user_agent,
            "ssl_cipher": self.cipher,
            "ssl_protocol": self.protocol,
            "target_group": self.group,
            "trace_id": self.trace,
            "domain_name": self.domain,
            "matched_rule_priority": self.priority,
            "request_creation_time": self.begun.map(timestamp),
            "actions_executed": self.action,
            "redirect_url": self.redirect,
            "error_reason": self.error,
            "classification": self.class,
            "classification_reason": self.reason,
            "request_id": self.id,
        });
        format!("{line}\n")
    }
}

/// To the millisecond, as a load balancer's.
fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn timestamp(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(TIME).unwrap_or_else(|_| "-".into())
}

/// A field without quotes: nothing in it ends it.
fn bare(text: &str) -> String {
    escaped(text).replace(' ', "\\x20")
}

/// Quotes, controls and what isn't ASCII as `\xNN`, so that nobody writes lines of their own.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes().take(LONGEST) {
        if matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\') {
            escaped.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(escaped, "\\x{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_fields_of_a_load_balancer_and_nobody_adds_one() {
        let entry = Entry {
            kind: "h2",
            client: Some("192.0.2.1:5".into()),
            times: [Some(Duration::from_millis(1)), None, Some(Duration::from_micros(1500))],
            status: 200,
            request: "GET https://a:443/x\" 200 \"y HTTP/2.0".into(),
            user_agent: Some("one\n\"two\" ä\\".into()),
            group: Some("an app".into()),
            id: "id".into(),
            ..Entry::default()
        };
        let line = entry.alb();
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains("\"one\\x0A\\x22two\\x22 \\xC3\\xA4\\x5C\""), "{line}");
        assert!(line.contains(" an\\x20app "), "{line}");
        // Split as readers of that format do.
        let pattern = regex::Regex::new(r#""([^"]*)"|(\S+)"#).expect("a pattern");
        let fields: Vec<_> = pattern.find_iter(&line).map(|field| field.as_str()).collect();
        assert_eq!(fields.len(), 30, "{fields:?}");
        assert_eq!((fields[0], fields[5], fields[6], fields[8], fields[29]), ("h2", "0.001", "-1", "200", "id"));
        let json: serde_json::Value = serde_json::from_str(&entry.json()).expect("is JSON");
        assert_eq!(json["user_agent"], "one\n\"two\" ä\\");
    }
}
