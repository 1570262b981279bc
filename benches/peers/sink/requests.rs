//! What is asked: a name, a query, a body.

use std::{borrow::Cow, mem};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use crate::{
    answers::{Fault, Refused},
    pieces::Pieces,
};

/// The most that the line before a chunk may have; a signature has 64 digits.
const LINE: usize = 1024;

/// `bucket/key` of a path.
pub(crate) fn name(path: &str) -> Cow<'_, str> {
    percent_decode_str(path.strip_prefix('/').unwrap_or(path)).decode_utf8_lossy()
}

/// What stands behind the question mark.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(crate) fn of(uri: &'a Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// A value as it was sent, which does for numbers and our own ids.
    pub(crate) fn raw(self, name: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            (found == name).then_some(value)
        })
    }

    pub(crate) fn has(self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A value, decoded; empty where there is none.
    pub(crate) fn text(self, name: &str) -> String {
        let mut pairs = form_urlencoded::parse(self.0.as_bytes());
        pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    }
}

/// The body of a request, to its end.
///
/// # Errors
/// [`Fault`] when it ends early, or isn't the `aws-chunked` that it is said to be.
pub(crate) async fn taken(headers: &HeaderMap, mut body: Incoming) -> Result<Pieces, Fault> {
    let mut chunks = is_chunked(headers).then(Chunks::default);
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        // Else it is a trailer.
        let Ok(bytes) = frame?.into_data() else { continue };
        match &mut chunks {
            Some(chunks) => chunks.take(bytes, &mut pieces)?,
            None => pieces.push(bytes),
        }
    }
    if let Some(chunks) = chunks {
        let said = headers.get("x-amz-decoded-content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        if !chunks.over || said.is_some_and(|length: usize| length != pieces.length()) {
            return Err(Refused::INCOMPLETE.into());
        }
    }
    pieces.settle();
    Ok(pieces)
}

/// Whether a body comes in chunks of AWS's own kind, which may be signed and have a trailer.
fn is_chunked(headers: &HeaderMap) -> bool {
    let streams = headers.get("x-amz-content-sha256").is_some_and(|hash| hash.as_bytes().starts_with(b"STREAMING-"));
    let coded = |coding: &HeaderValue| coding.to_str().is_ok_and(|coding| coding.contains("aws-chunked"));
    streams || headers.get(header::CONTENT_ENCODING).is_some_and(coded)
}

/// Takes the chunks off: `size;chunk-signature=…`, and so many bytes, each followed by an end of
/// line, until a size of 0.
#[derive(Default)]
struct Chunks {
    /// What came of a line so far.
    line: Vec<u8>,
    /// What is still to come of a chunk.
    left: usize,
    /// What follows is trailers, which nobody here judges.
    over: bool,
}

impl Chunks {
    fn take(&mut self, mut bytes: Bytes, into: &mut Pieces) -> Result<(), Refused> {
        while !bytes.is_empty() && !self.over {
            if self.left > 0 {
                let part = bytes.split_to(self.left.min(bytes.len()));
                self.left -= part.len();
                into.push(part);
                continue;
            }
            let (line, ended) = match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => (bytes.split_to(at + 1), true),
                None => (mem::take(&mut bytes), false),
            };
            self.line.extend_from_slice(&line);
            if self.line.len() > LINE {
                return Err(Refused::CHUNK);
            }
            if ended {
                self.begin()?;
            }
        }
        Ok(())
    }

    /// A line is whole: the end of the chunk before it, or the size of the next.
    fn begin(&mut self) -> Result<(), Refused> {
        let line = mem::take(&mut self.line);
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        self.left = size.ok_or(Refused::CHUNK)?;
        self.over = self.left == 0;
        Ok(())
    }
}
