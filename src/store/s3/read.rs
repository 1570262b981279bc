//! Reading: one object's bytes under one entity tag.

use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Buf as _, Bytes};
use prometheus::IntCounter;

use super::{super::Source, ETag, Failure, Inner, Reading, Span, Stat, attributes, failure, unquoted};
use crate::{aws::TroubleKind, fault::Tamper};

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
            Err(trouble) if trouble.kind == TroubleKind::Range => {
                // No byte at all at the span's start: nothing of ours is so short.
                let what = "the object is empty, or ends before the bytes that were asked for";
                return Err(Failure::Damaged(Tamper::Length, what.into()));
            }
            Err(trouble) => return Err(failure(&trouble)),
        };
        let length = match span {
            Span::Whole => unsigned(answer.content_length())?,
            Span::Part { start, .. } => whole_length(answer.content_range(), start)?,
        };
        if length == 0 {
            return Err(Failure::Damaged(Tamper::Foreign, "the object is empty".into()));
        }
        let stat = Stat {
            etag: tag(answer.e_tag())?,
            length,
            modified: time(answer.last_modified()),
            attributes: attributes::told!(answer),
        };
        if pin.is_some_and(|pin| *pin != stat.etag) {
            return Err(Failure::Precondition);
        }
        let source = Body { stream: answer.body, rest: Bytes::new(), read: self.metrics.store_read_bytes.clone() };
        Ok(Reading { stat, source: Box::new(source) })
    }
}

/// The bytes of one answer.
struct Body {
    stream: ByteStream,
    /// What came and wasn't wanted yet.
    rest: Bytes,
    read: IntCounter,
}

#[async_trait]
impl Source for Body {
    async fn fill(&mut self, into: &mut Vec<u8>, want: usize) -> Result<usize, Failure> {
        let mut filled = 0;
        while filled < want {
            if self.rest.is_empty() {
                match self.stream.next().await {
                    Some(Ok(bytes)) => {
                        self.read.inc_by(bytes.len() as u64);
                        self.rest = bytes;
                    }
                    Some(Err(error)) => return Err(Failure::Unavailable(format!("the body broke: {error}"))),
                    None => break,
                }
                continue;
            }
            let take = self.rest.len().min(want - filled);
            into.extend_from_slice(&self.rest[..take]);
            self.rest.advance(take);
            filled += take;
        }
        Ok(filled)
    }
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
