//! The calls that every object needs, by the shortest way: signed here, over connections that
//! their own tasks poll.
//!
//! It makes one try. What isn't a plain answer is the SDK's to try again, whose retries, refreshed
//! credentials, corrected clocks and redirects stay as they are.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_sdk_s3::Client;
use bytes::Bytes;
use tokio::{sync::OnceCell, time::Instant};

use self::{
    place::Place,
    rest::Rest,
    way::{Lost, Way, Ways},
};
use crate::aws::{KeptCredentials, Trouble};

mod head;
mod place;
mod rest;
mod sign;
mod way;

pub(in crate::store::s3) use {
    head::{Fields, Head},
    place::in_query,
};

/// The most that is read of what S3 says beside an object, in bytes; and how long that is waited for.
const WORDS: usize = 64 << 10;
const SAYING: Duration = Duration::from_secs(5);
/// How long the SDK is asked for everything where the short way doesn't lead there at all, and where it is
/// only not to be entered now.
const OFF: Duration = Duration::from_secs(300);
const REST: Duration = Duration::from_secs(10);
/// How far a clock may be from S3's: it refuses what is signed 15 minutes away.
const SKEW: Duration = Duration::from_secs(240);

/// The short way to one bucket.
pub(super) struct Direct {
    client: Client,
    bucket: String,
    credentials: KeptCredentials,
    ways: Arc<Ways>,
    /// None where the short way isn't one.
    place: OnceCell<Option<Place>>,
    /// Until when it isn't tried.
    off: Mutex<Option<Instant>>,
}

/// A call.
pub(super) struct Call<'a> {
    pub(super) method: &'static str,
    pub(super) name: &'a str,
    /// Encoded and in order, or nothing.
    pub(super) query: String,
    pub(super) fields: Fields<'a>,
    pub(super) body: Bytes,
    /// How long its answer's head is waited for.
    pub(super) patience: Duration,
}

/// What came of a try.
pub(super) enum Came {
    /// An answer of success.
    Answer(Head, Coming),
    /// Another answer, or none.
    Trouble(Trouble),
    /// Nothing happened, and the SDK is the one to ask.
    Nothing,
}

/// The body of an answer. It gives its connection back at its end.
pub(super) struct Coming {
    /// There until its end.
    way: Option<Box<Way>>,
    rest: Rest,
    /// Whether it can carry another call.
    keeps: bool,
    ways: Arc<Ways>,
}

impl Direct {
    /// That to `bucket`; `None` where a proxy stands between, or there are no credentials.
    pub(super) fn new(client: &Client, bucket: &str, credentials: Option<KeptCredentials>) -> Option<Self> {
        let proxied = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
        if proxied.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
            return None;
        }
        Some(Self {
            client: client.clone(),
            bucket: bucket.to_owned(),
            credentials: credentials?,
            ways: Arc::new(Ways::new()?),
            place: OnceCell::new(),
            off: Mutex::default(),
        })
    }

    /// One try of `call`.
    pub(super) async fn ask(&self, call: Call<'_>) -> Came {
        if self.off().is_some_and(|until| Instant::now() < until) {
            return Came::Nothing;
        }
        let place = match self.place().await {
            Ok(Some(place)) => place,
            Ok(None) => return Came::Nothing,
            Err(_) => return self.rest("no signature can be had"),
        };
        let Ok(credentials) = self.credentials.get().await else { return self.rest("no credentials can be had") };
        let Call { method, name, query, mut fields, body, patience } = call;
        let path = place.path(name);
        fields.add("host", &*place.host);
        let Some(head) =
            place.signer.head(&credentials, SystemTime::now(), (method, &path, &query), &mut fields, body.len())
        else {
            return Came::Nothing;
        };
        let mut way = match self.ways.take(&place.uri).await {
            Ok(way) => way,
            Err(words) => return self.rest(&words),
        };
        let (head, sent) = match way.ask(&head, &body, patience).await {
            Ok(answer) => answer,
            Err(lost) => return lost.came(),
        };
        let rest = match Rest::of(&head, method == "HEAD") {
            Ok(rest) => rest,
            Err(words) => return Came::Trouble(Trouble::unanswered(words.into())),
        };
        let keeps = head.keeps && sent && rest != Rest::Close;
        let mut coming = Coming { way: Some(way), rest, keeps, ways: Arc::clone(&self.ways) };
        coming.is_over();
        match head.status {
            200..300 if sent => return Came::Answer(head, coming),
            // Nobody can have stored what wasn't wholly sent.
            200..300 => return Came::Trouble(Trouble::unclear("S3 answered before it had all")),
            _ => {}
        }
        let mut words = Vec::new();
        // What is cut short says what it says.
        let _ = tokio::time::timeout(SAYING, coming.fill(&mut words, WORDS)).await;
        let words = String::from_utf8_lossy(&words);
        let (code, message) = (element(&words, "Code"), element(&words, "Message"));
        match code.unwrap_or_default() {
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId" => {
                self.credentials.forget(&credentials);
                return Came::Nothing;
            }
            // A clock that is wrong, or another region's bucket: the SDK sets both right for itself.
            "RequestTimeTooSkewed" | "AuthorizationHeaderMalformed" | "SignatureDoesNotMatch" => {
                return self.turn_off(head.status, code);
            }
            _ if matches!(head.status, 300..400) || is_skewed(&head) => return self.turn_off(head.status, code),
            // HEAD has no room to say which of these it is.
            "" if head.status == 400 => return Came::Nothing,
            // Said to a connection, not to a call.
            "" if head.status == 408 => return Came::Trouble(Trouble::unclear("S3 waits for no request")),
            _ => {}
        }
        let trouble = Trouble::answered(head.status, code, message.unwrap_or_default());
        let id = head.request_id().or_else(|| element(&words, "RequestId"));
        Came::Trouble(trouble.called(id))
    }

    async fn place(&self) -> Result<Option<&Place>, place::Unlearnt> {
        let learnt = self.place.get_or_try_init(|| Place::of(&self.client, &self.bucket));
        let learnt = tokio::time::timeout(SAYING, learnt).await.map_err(|_| place::Unlearnt)?;
        learnt.map(Option::as_ref)
    }

    /// Closes the connections that wait for too long.
    pub(super) fn sweep(&self) {
        self.ways.sweep();
    }

    fn off(&self) -> Option<Instant> {
        *self.off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn off_for(&self, time: Duration) -> Came {
        *self.off.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
        Came::Nothing
    }

    /// Nothing was sent: the SDK may know better, and nobody waits for the same again.
    fn rest(&self, words: &str) -> Came {
        tracing::debug!(bucket = self.bucket, words, "the SDK is asked in place of the short way");
        self.off_for(REST)
    }

    fn turn_off(&self, status: u16, code: Option<&str>) -> Came {
        let seconds = OFF.as_secs();
        tracing::warn!(bucket = self.bucket, status, code, seconds, "S3 is asked by the SDK alone for a while");
        self.off_for(OFF)
    }
}

impl Lost {
    fn came(self) -> Came {
        match self {
            Self::Unsent => Came::Nothing,
            Self::Unanswered(words) => Came::Trouble(Trouble::unanswered(words)),
        }
    }
}

/// Whether S3's clock and ours are so far apart that it may have refused for that: to HEAD it can't say so.
fn is_skewed(head: &Head) -> bool {
    let Some(theirs) = head.get("date").and_then(|date| httpdate::parse_http_date(date).ok()) else { return false };
    let ours = SystemTime::now();
    ours.duration_since(theirs).or_else(|_| theirs.duration_since(ours)).is_ok_and(|apart| apart > SKEW)
}

impl Coming {
    /// Appends at most `want` bytes to `into`, fewer at the end only; how many.
    pub(super) async fn fill(&mut self, into: &mut Vec<u8>, want: usize) -> Result<usize, String> {
        let mut filled = 0;
        while filled < want && !self.is_over() {
            match self.some(into, want - filled).await {
                Ok(came) => filled += came,
                Err(words) => {
                    self.way = None;
                    return Err(words);
                }
            }
        }
        self.is_over();
        Ok(filled)
    }

    /// What comes next, or a line that stands between.
    async fn some(&mut self, into: &mut Vec<u8>, most: usize) -> Result<usize, String> {
        let Some(way) = &mut self.way else { return Ok(0) };
        let ended = || "the body ended early".to_owned();
        match self.rest.next() {
            Some(left) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(most);
                let came = way.read(into, most).await?;
                match (came, &self.rest) {
                    (0, Rest::Close) => self.rest = Rest::Length(0),
                    (0, _) => return Err(ended()),
                    (came, _) => self.rest.took(came as u64),
                }
                Ok(came)
            }
            None => {
                match self.rest.line(way.come())? {
                    Some(read) => way.skip(read),
                    None if way.more().await? == 0 => return Err(ended()),
                    None => {}
                }
                Ok(0)
            }
        }
    }

    /// Gives the connection back where nothing is to come; whether that is so.
    fn is_over(&mut self) -> bool {
        if self.rest == Rest::Length(0)
            && let Some(way) = self.way.take()
            && self.keeps
        {
            self.ways.give_back(way);
        }
        self.way.is_none()
    }
}

impl Drop for Coming {
    /// What nobody wanted and has come already is no reason to close a connection.
    fn drop(&mut self) {
        if let (Rest::Length(left), Some(way)) = (&self.rest, &mut self.way)
            && way.come().len() as u64 == *left
        {
            way.skip(way.come().len());
            self.rest = Rest::Length(0);
            self.is_over();
        }
    }
}

/// What an error of S3's says in the element `name`, whose words have nothing to be unescaped that
/// matters to us.
fn element<'a>(words: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = words.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text)
}
