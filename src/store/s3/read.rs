//! Reading: one object's bytes under one entity tag.

use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf as _, Bytes};
use prometheus::IntCounter;

use super::{
    super::Source, ATTEMPT, Call, Coming, ETag, Failure, Fields, Head, Inner, Reading, Span, Stat, attributes, failure,
    unquoted,
};
use crate::{
    aws::{Trouble, TroubleKind},
    fault::Tamper,
};

impl Inner {
    /// Whether the bucket answers, and lets us read. A name that isn't there costs
    /// least; asked for with GET, because HEAD has no room to say that the bucket is gone.
    pub(super) async fn probe(&self, prefix: &str) -> Result<(), Failure> {
        let name = format!("{prefix}.sealward/probe");
        let call = self.client.get_object().bucket(self.bucket()).key(name).range("bytes=0-0").send();
        match self.timed("probe", call).await {
            Ok(_) => Ok(()),
            Err(trouble) if trouble.code.as_deref() == Some("NoSuchBucket") => {
                Err(Failure::Unavailable(trouble.detail))
            }
            Err(trouble) if matches!(trouble.kind, TroubleKind::NotFound | TroubleKind::Range) => Ok(()),
            Err(trouble) => Err(failure(&trouble)),
        }
    }

    pub(super) async fn stat(&self, name: &str) -> Result<Option<Stat>, Failure> {
        if let Some(told) = self.asked_directly("stat", "HEAD", name, Fields::default()).await {
            let (head, _) = match told {
                Ok(told) => told,
                Err(trouble) if trouble.kind == TroubleKind::NotFound => return Ok(None),
                Err(trouble) => return Err(failure(&trouble)),
            };
            return standing(&head, unsigned(length(&head))?).map(Some);
        }
        Box::pin(self.stat_by_sdk(name)).await
    }

    async fn stat_by_sdk(&self, name: &str) -> Result<Option<Stat>, Failure> {
        let call = self.client.head_object().bucket(self.bucket()).key(name).send();
        let answer = match self.timed("stat", call).await {
            Ok(answer) => answer,
            Err(trouble) if trouble.kind == TroubleKind::NotFound => return Ok(None),
            Err(trouble) => return Err(failure(&trouble)),
        };
        Ok(Some(Stat {
            etag: tag(answer.e_tag())?,
            length: unsigned(answer.content_length())?,
            modified: time(answer.last_modified()),
            attributes: attributes::told!(answer),
        }))
    }

    pub(super) async fn read(&self, name: &str, span: Span, pin: Option<&ETag>) -> Result<Reading, Failure> {
        let range = match span {
            Span::Whole => None,
            Span::Part { start, length } => Some(format!("bytes={start}-{}", start + length.max(1) - 1)),
        };
        let mut fields = Fields::default();
        if let Some(range) = &range {
            fields.add("range", range);
        }
        if let Some(pin) = pin {
            fields.add("if-match", pin.to_string());
        }
        if let Some(told) = self.asked_directly("read", "GET", name, fields).await {
            let (head, body) = told.map_err(|trouble| unread(&trouble))?;
            let whole = match span {
                Span::Whole => unsigned(length(&head))?,
                Span::Part { start, .. } => whole_length(head.get("content-range"), start)?,
            };
            return self.reading(standing(&head, whole)?, pin, Stream::Direct(body));
        }
        Box::pin(self.read_by_sdk(name, span, range, pin)).await
    }

    async fn read_by_sdk(
        &self,
        name: &str,
        span: Span,
        range: Option<String>,
        pin: Option<&ETag>,
    ) -> Result<Reading, Failure> {
        let call = self
            .client
            .get_object()
            .bucket(self.bucket())
            .key(name)
            .set_range(range)
            .set_if_match(pin.map(ToString::to_string))
            .send();
        let answer = match self.timed("read", call).await {
            Ok(answer) => answer,
            Err(trouble) => return Err(unread(&trouble)),
        };
        let length = match span {
            Span::Whole => unsigned(answer.content_length())?,
            Span::Part { start, .. } => whole_length(answer.content_range(), start)?,
        };
        let stat = Stat {
            etag: tag(answer.e_tag())?,
            length,
            modified: time(answer.last_modified()),
            attributes: attributes::told!(answer),
        };
        self.reading(stat, pin, Stream::Sdk(answer.body, Bytes::new()))
    }

    /// One try of a call that asks for an object, by the short way.
    async fn asked_directly(
        &self,
        operation: &str,
        method: &'static str,
        name: &str,
        fields: Fields<'_>,
    ) -> Option<Result<(Head, Coming), Trouble>> {
        let (query, body) = (String::new(), Bytes::new());
        self.directly(operation, true, Call { method, name, query, fields, body, patience: ATTEMPT }).await
    }

    fn reading(&self, stat: Stat, pin: Option<&ETag>, stream: Stream) -> Result<Reading, Failure> {
        if stat.length == 0 {
            return Err(Failure::Damaged(Tamper::Foreign, "the object is empty".into()));
        }
        if pin.is_some_and(|pin| *pin != stat.etag) {
            return Err(Failure::Precondition);
        }
        let source = Body { stream, read: self.metrics.store_read_bytes.clone() };
        Ok(Reading { stat, source: Box::new(source) })
    }
}

/// Why nothing is read.
fn unread(trouble: &Trouble) -> Failure {
    if trouble.kind == TroubleKind::Range {
        // No byte at all at the span's start: nothing of ours is so short.
        let what = "the object is empty, or ends before the bytes that were asked for";
        return Failure::Damaged(Tamper::Length, what.into());
    }
    failure(trouble)
}

fn length(head: &Head) -> Option<i64> {
    head.get("content-length")?.parse().ok()
}

/// What the head of an answer says of an object of `length` bytes.
fn standing(head: &Head, length: u64) -> Result<Stat, Failure> {
    let modified = head.get("last-modified").and_then(|date| httpdate::parse_http_date(date).ok());
    Ok(Stat {
        etag: tag(head.get("etag"))?,
        length,
        modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
        attributes: attributes::by_head(head),
    })
}

/// How the bytes of an answer come.
enum Stream {
    Direct(Coming),
    /// And what came and wasn't wanted yet.
    Sdk(ByteStream, Bytes),
}

/// The bytes of one answer.
struct Body {
    stream: Stream,
    read: IntCounter,
}

#[async_trait]
impl Source for Body {
    async fn fill(&mut self, into: &mut Vec<u8>, want: usize) -> Result<usize, Failure> {
        let before = into.len();
        let filled = match &mut self.stream {
            Stream::Direct(body) => body.fill(into, want).await,
            Stream::Sdk(body, rest) => fill(body, rest, into, want).await,
        };
        self.read.inc_by((into.len() - before) as u64);
        filled.map_err(|words| Failure::Unavailable(format!("the body broke: {words}")))
    }
}

async fn fill(body: &mut ByteStream, rest: &mut Bytes, into: &mut Vec<u8>, want: usize) -> Result<usize, String> {
    let mut filled = 0;
    while filled < want {
        if rest.is_empty() {
            match body.next().await {
                Some(bytes) => *rest = bytes.map_err(|error| error.to_string())?,
                None => break,
            }
        }
        let take = rest.len().min(want - filled);
        into.extend_from_slice(&rest[..take]);
        rest.advance(take);
        filled += take;
    }
    Ok(filled)
}

fn tag(etag: Option<&str>) -> Result<ETag, Failure> {
    etag.map(unquoted).ok_or_else(|| Failure::Nonsense("S3 answered without an entity tag".into()))
}

fn unsigned(length: Option<i64>) -> Result<u64, Failure> {
    length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| Failure::Nonsense("S3 answered without a length".into()))
}

/// The whole length out of `bytes first-last/length`, whose first byte must be
/// the one asked for.
fn whole_length(range: Option<&str>, start: u64) -> Result<u64, Failure> {
    let parse = || {
        let (first, rest) = range?.strip_prefix("bytes ")?.split_once('-')?;
        let (_, length) = rest.split_once('/')?;
        (first.parse::<u64>().ok()? == start).then(|| length.parse().ok())?
    };
    parse().ok_or_else(|| Failure::Nonsense("S3 answered with another range than was asked for".into()))
}

fn time(time: Option<&aws_sdk_s3::primitives::DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(*time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_was_asked_for() {
        assert_eq!(whole_length(Some("bytes 5-9/100"), 5), Ok(100));
        for (range, start) in
            [(Some("bytes 5-9/100"), 4), (Some("bytes */100"), 0), (Some("bytes 0-1/*"), 0), (None, 0)]
        {
            assert!(whole_length(range, start).is_err(), "{range:?}");
        }
    }
}
