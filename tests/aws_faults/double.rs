//! An S3 and a KMS in this process, which do as the real ones do until a plan says otherwise.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;

use crate::{acm, kms, s3};

pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const BUCKET: &str = "vault";
/// The class's key, and somebody else's.
pub(crate) const OURS: &str = "arn:aws:kms:eu-west-1:111122223333:key/0a0a0a0a-1111-2222-3333-444444444444";
pub(crate) const THEIRS: &str = "arn:aws:kms:eu-west-1:999999999999:key/0b0b0b0b-1111-2222-3333-444444444444";

/// One in another region, and how every replica of a multi-Region key ends.
pub(crate) const ABROAD: &str = "arn:aws:kms:us-east-1:111122223333:key/0c0c0c0c-1111-2222-3333-444444444444";
pub(crate) const REPLICATED: &str = ":111122223333:key/mrk-0d0d0d0d111122223333444444444444";

/// What goes wrong with one call.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Refused with this status and code; nothing happens.
    Refuse(u16, &'static str),
    /// It happens, and yet this is answered.
    DoneBut(u16, &'static str),
    /// 200, and inside it that nothing happened.
    Inside(&'static str),
    /// The connection ends before the request is read whole.
    Cut,
    /// The connection ends, and nothing happened.
    Reset,
    /// It happens; the connection ends without a word.
    Lost,
    /// First this long nothing.
    Slow(u64),
    /// Encrypted with another kind and key than asked.
    Sse(&'static str, Option<&'static str>),
    /// Encrypted otherwise, and the answer lost.
    SseLost(&'static str),
    /// The answer's entity tag is another.
    Tag,
    /// The answer has no entity tag.
    NoTag,
    /// The answer ends after so many bytes of its body.
    Truncate(usize),
    /// One bit of the answer's body is another.
    Flip(usize),
    /// The answer is about other bytes than it was asked for.
    OtherRange,
    /// The range is overlooked.
    NoRange,
    /// KMS says it used this key.
    Key(&'static str),
    /// KMS gives a data key of 31 bytes.
    Short,
    /// Somebody is a moment faster.
    First(fn(&mut World)),
}

/// What a call is answered.
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// A request, whole.
pub(crate) struct Asked {
    pub(crate) op: &'static str,
    pub(crate) key: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
    /// What it is stored under in the end, whatever was asked.
    pub(crate) sse: Option<(String, Option<String>)>,
    pub(crate) fault: Option<Fault>,
}

/// Says whether a call passes.
pub(crate) type Judge = Arc<dyn Fn(&Asked) -> bool + Send + Sync>;

/// One version of an object, or the marker of its removal.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) marker: bool,
    pub(crate) body: Bytes,
    pub(crate) etag: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) sse: (String, Option<String>),
}

/// A multipart upload under way.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    pub(crate) key: String,
    /// When it was begun, as RFC 3339 has it.
    pub(crate) begun: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) sse: (String, Option<String>),
    pub(crate) parts: BTreeMap<u32, (Bytes, String)>,
}

/// A data key that was wrapped.
#[derive(Clone)]
pub(crate) struct Wrapped {
    pub(crate) arn: String,
    pub(crate) context: BTreeMap<String, String>,
    pub(crate) plaintext: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct Rule {
    op: &'static str,
    from: usize,
    times: usize,
    seen: usize,
    fault: Fault,
}

/// Everything both hold.
#[allow(clippy::struct_excessive_bools)] // each is a setting of its own
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) objects: BTreeMap<String, Vec<Version>>,
    pub(crate) uploads: BTreeMap<String, Pending>,
    pub(crate) wrapped: HashMap<Vec<u8>, Wrapped>,
    pub(crate) versioned: bool,
    /// Whether the bucket denies what isn't `aws:kms` under the class's key.
    pub(crate) policy: bool,
    /// What judges each call to S3 and KMS, as policies do.
    pub(crate) judge: Option<Judge>,
    /// The calls that it denied: operation, and the object that it was about.
    pub(crate) denied: Vec<(&'static str, String)>,
    /// Whether `If-Match` is overlooked.
    pub(crate) no_if_match: bool,
    /// Whether parts are taken without a checksum: a sink for benchmarks.
    pub(crate) unchecked: bool,
    /// Whether the bucket is there no more.
    pub(crate) gone: bool,
    /// The certificate that ACM has: its serial number, PEM, and key without a passphrase.
    pub(crate) certificate: Option<(String, String, String)>,
    /// What KMS says of every key: empty for `Enabled`.
    pub(crate) key_state: &'static str,
    pub(crate) count: u64,
    /// Every call: its operation, and the bytes of its answer.
    pub(crate) calls: Vec<(&'static str, u64)>,
    /// The object that each call to S3 was about.
    pub(crate) names: Vec<(&'static str, String)>,
    /// Who each call to it said to come from.
    pub(crate) agents: Vec<(&'static str, String)>,
    pub(crate) plan: Vec<Rule>,
}

impl World {
    pub(crate) fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// What stands under `key`.
    pub(crate) fn current(&self, key: &str) -> Option<&Version> {
        self.objects.get(key)?.last().filter(|version| !version.marker)
    }

    pub(crate) fn store(&mut self, key: &str, mut version: Version) {
        let versions = self.objects.entry(key.to_owned()).or_default();
        if !self.versioned {
            versions.clear();
            version.id = "null".into();
        }
        versions.push(version);
    }

    /// Whether the judge, where there is one, denies it.
    fn denies(&mut self, asked: &Asked) -> bool {
        let denies = self.judge.as_ref().is_some_and(|passes| !passes(asked));
        if denies {
            self.denied.push((asked.op, asked.key.clone()));
        }
        denies
    }

    fn fault(&mut self, op: &'static str) -> Option<Fault> {
        let mut found = None;
        for rule in self.plan.iter_mut().filter(|rule| rule.op == op) {
            rule.seen += 1;
            if found.is_none() && rule.seen >= rule.from && rule.seen - rule.from < rule.times {
                found = Some(rule.fault.clone());
            }
        }
        found
    }
}

/// Both services, listening.
pub(crate) struct Double {
    world: Arc<Mutex<World>>,
    pub(crate) address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Double {
    pub(crate) fn start(world: World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("doesn't block");
        let address = listener.local_addr().expect("an address");
        let world = Arc::new(Mutex::new(world));
        let shared = Arc::clone(&world);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let world = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| answer(Arc::clone(&world), request));
                    let server = hyper::server::conn::http1::Builder::new();
                    // A reset is an error here, and what was wanted.
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { world, address, runtime: Some(runtime) }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("not poisoned")
    }

    /// Plans `fault` for `times` calls of `op`, the first of them the `from`-th from now.
    pub(crate) fn plan(&self, op: &'static str, from: usize, times: usize, fault: Fault) {
        self.world().plan.push(Rule { op, from, times, seen: 0, fault });
    }

    pub(crate) fn calm(&self) {
        self.world().plan.clear();
    }

    /// Whether every fault that was planned has come to pass at least once.
    pub(crate) fn all_hit(&self) -> bool {
        self.world().plan.iter().all(|rule| rule.seen >= rule.from)
    }

    /// How many calls of `op` came, and how many bytes they were answered.
    pub(crate) fn calls(&self, op: &str) -> (usize, u64) {
        let world = self.world();
        let calls = world.calls.iter().filter(|(name, _)| *name == op);
        calls.fold((0, 0), |(count, bytes), (_, more)| (count + 1, bytes + more))
    }

    /// All calls so far: operation, and the name it was about.
    pub(crate) fn asked(&self, op: &str) -> Vec<String> {
        let world = self.world();
        world.names.iter().filter(|(name, _)| *name == op).map(|(_, key)| key.clone()).collect()
    }

    /// What the SDK is told by its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE".into()),
            ("AWS_SECRET_ACCESS_KEY", "secret".into()),
            ("AWS_REGION", REGION.into()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_CONFIG_FILE", "/dev/null".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
        ]
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // It may end within another runtime, which must not wait for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Body = BoxBody<Bytes, io::Error>;

fn ended() -> io::Error {
    io::Error::other("planned")
}

async fn answer(world: Arc<Mutex<World>>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let lock = || world.lock().expect("not poisoned");
    let (head, mut body) = request.into_parts();
    let is_acm = head.headers.get("x-amz-target").is_some_and(|target| target.as_bytes().starts_with(b"Certificate"));
    let is_kms = head.headers.contains_key("x-amz-target") && !is_acm;
    let query: HashMap<String, String> =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let path = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8_lossy().into_owned();
    let key = path.strip_prefix(&format!("/{BUCKET}")).unwrap_or_default().trim_start_matches('/').to_owned();
    let op = match (is_kms, is_acm) {
        (true, _) => kms::operation(&head.headers),
        (_, true) => acm::operation(&head.headers),
        _ => s3::operation(&head.method, &key, &query),
    };
    let fault = lock().fault(op);
    if matches!(fault, Some(Fault::Cut)) {
        let _ = body.frame().await;
        lock().calls.push((op, 0));
        return Err(ended());
    }
    let agent = head.headers.get("user-agent").map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    lock().agents.push((op, agent.unwrap_or_default()));
    lock().names.push((op, key.clone()));
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let is_head = head.method == http::Method::HEAD;
    let mut asked = Asked { op, key, query, headers: head.headers, body, sse: None, fault };
    match asked.fault {
        Some(Fault::Slow(millis)) => tokio::time::sleep(Duration::from_millis(millis)).await,
        Some(Fault::Sse(kind, key)) => asked.sse = Some((kind.into(), key.map(str::to_owned))),
        Some(Fault::SseLost(kind)) => asked.sse = Some((kind.into(), None)),
        Some(Fault::First(act)) => act(&mut lock()),
        _ => {}
    }
    let refused = |status, code| if is_kms || is_acm { kms::refusal(code) } else { s3::refusal(status, code) };
    let mut said = match asked.fault {
        Some(Fault::Refuse(status, code)) => refused(status, code),
        Some(Fault::Inside(code)) => Said { status: 200, ..s3::refusal(200, code) },
        Some(Fault::Reset) => refused(500, "Reset"),
        _ if !is_acm && lock().denies(&asked) => {
            refused(403, if is_kms { "AccessDeniedException" } else { "AccessDenied" })
        }
        _ if is_kms => kms::act(&mut lock(), &asked),
        _ if is_acm => acm::act(&lock(), &asked),
        _ => s3::act(&mut lock(), &asked),
    };
    let mut cut = None;
    match asked.fault {
        Some(Fault::DoneBut(status, code)) => said = refused(status, code),
        Some(Fault::Reset | Fault::Lost | Fault::SseLost(_)) => {
            lock().calls.push((op, 0));
            return Err(ended());
        }
        Some(Fault::NoTag) => {
            said.headers.retain(|(name, _)| name != "etag");
            said.body = s3::without_tag(said.body);
        }
        Some(Fault::Truncate(length)) => cut = Some(length),
        Some(Fault::Flip(at)) if at < said.body.len() => {
            let mut bytes = said.body.to_vec();
            bytes[at] ^= 1;
            said.body = bytes.into();
        }
        Some(Fault::Tag) => {
            for (_, value) in said.headers.iter_mut().filter(|(name, _)| name == "etag") {
                *value = "\"00000000000000000000000000000bad\"".into();
            }
        }
        _ => {}
    }
    lock().calls.push((op, said.body.len() as u64));
    let mut response = Response::builder().status(said.status);
    for (name, value) in &said.headers {
        response = response.header(name, value);
    }
    if !said.headers.iter().any(|(name, _)| name == "content-length") && !is_head {
        response = response.header("content-length", said.body.len());
    }
    let body = match cut {
        Some(length) if length < said.body.len() => {
            let frames = vec![Ok(Frame::data(said.body.slice(..length))), Err(ended())];
            StreamBody::new(stream::iter(frames)).boxed()
        }
        _ => Full::new(said.body).map_err(|never: Infallible| match never {}).boxed(),
    };
    Ok(response.body(body).expect("a response"))
}
