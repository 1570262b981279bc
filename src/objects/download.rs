//! Reading an object back: whole, or by authenticated range.
//!
//! Nothing leaves before its frame is verified. Before the head of an answer to
//! a whole read, the first chunk of frames is verified; before the head of a
//! partial one, the final frame too, because it alone proves the length.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    Chunks, Description, ObjectKey, Objects, Verdict, Wanted, fault_of,
    frames::Frames,
    verified::{Verified, damaged, header_bytes},
};
use crate::{
    budget::Buffer,
    fault::{Fault, Kind, Tamper},
    index::Newest,
    message::Damage,
    store::{ETag, Failure, Reading, Source, Span, Stat},
    trace::{self, hop},
};

/// How often what isn't the newest is looked at again.
const STALE: u32 = 8;
const STALE_PAUSE: Duration = Duration::from_millis(20);

/// What becomes of a read that found an object.
pub enum Answer {
    /// 200
    Whole(Found),
    /// 206: the plaintext bytes `first..=last`.
    Part {
        /// The object.
        found: Found,
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// 304
    NotModified(Found),
    /// 416, with the object's proved length.
    Unsatisfiable {
        /// Plaintext bytes in all.
        length: u64,
    },
}

/// An object that was verified.
pub struct Found {
    /// Its entity tag.
    pub etag: ETag,
    /// When it became visible.
    pub modified: SystemTime,
    /// What is said of it.
    pub description: Description,
    /// Plaintext bytes in all; computed for a HEAD, proved otherwise by the end.
    pub length: u64,
    /// Whether it is sealed under the key that the class seals under now.
    pub current: bool,
    /// Its verified bytes; none for a HEAD or a 304.
    pub chunks: Chunks,
}

impl Objects {
    /// Reads the object `key`.
    ///
    /// # Errors
    /// 404, 412, 502 for anything that isn't what was sealed, 503.
    pub async fn read(self: &Arc<Self>, key: &ObjectKey, wanted: &Wanted) -> Result<Answer, Fault> {
        let answer = trace::within(hop!("open"), Fault::is_ours, self.read_newest(key, wanted)).await;
        if let Err(fault) = &answer {
            self.note(fault);
        }
        answer
    }

    async fn read_newest(self: &Arc<Self>, key: &ObjectKey, wanted: &Wanted) -> Result<Answer, Fault> {
        let mut answer = self.try_read(key, wanted).await;
        if let Err(Stop::Moved) = answer {
            // Replaced between two requests of ours: once more, from the start.
            answer = self.try_read(key, wanted).await;
        }
        let mut seen = None;
        for _ in 0..STALE {
            // Replaced between the catalogue's answer and the store's, perhaps; but not where the
            // same message stands there before and after that answer.
            match answer {
                Err(Stop::Stale(why, message)) if seen.as_ref() == Some(&message) => {
                    answer = Err(Fault::stale(why).into());
                }
                Err(Stop::Stale(_, message)) => {
                    seen = Some(message);
                    tokio::time::sleep(STALE_PAUSE).await;
                    answer = self.try_read(key, wanted).await;
                }
                _ => break,
            }
        }
        answer.map_err(Stop::fault)
    }

    /// Counts an object that was not believed.
    pub(super) fn note(&self, fault: &Fault) {
        if let Some(reason) = fault.tamper() {
            self.metrics.tamper.with_label_values(&[reason.as_str()]).inc();
        }
        let outcome = match fault.kind() {
            Kind::Damaged => "damaged",
            Kind::NotFound | Kind::PreconditionFailed => "refused",
            _ => "failed",
        };
        self.count_download(outcome);
    }

    async fn try_read(self: &Arc<Self>, key: &ObjectKey, wanted: &Wanted) -> Result<Answer, Stop> {
        let newest = self.newest(key).await?;
        match self.try_read_of(key, wanted, newest.as_ref()).await {
            // What the catalogue knows has to be there.
            Err(Stop::Fault(fault))
                if fault.kind() == Kind::NotFound && newest.as_ref().is_some_and(|newest| !newest.allows(None)) =>
            {
                let known = newest.and_then(|newest| newest.current).unwrap_or_default();
                Err(Stop::Stale("what the catalogue knows as stored isn't there", format!("not {known}")))
            }
            answer => answer,
        }
    }

    async fn try_read_of(
        self: &Arc<Self>,
        key: &ObjectKey,
        wanted: &Wanted,
        newest: Option<&Newest>,
    ) -> Result<Answer, Stop> {
        let name = self.name_of(key);
        if wanted.head_only {
            let (verified, verdict) = self.cold(key, &name, wanted, newest).await?;
            return Ok(match verdict {
                Verdict::NotModified => Answer::NotModified(found(&verified, Chunks::none())),
                _ => Answer::Whole(found(&verified, Chunks::none())),
            });
        }
        let Some(range) = wanted.range else { return self.whole(key, &name, wanted, newest).await };
        if let Some(verified) = self.verified.find(&name)
            && is_newest(newest, &verified).is_ok()
            && wanted.preconditions.judge(&verified.stat) == Verdict::Proceed
            && wanted.is_of(&verified.stat)
            && let Some((first, last)) = range.resolve(verified.extent.plaintext_length())
        {
            match self.part(&name, &verified, first, last, None).await {
                Err(Stop::Moved) => self.verified.forget(&name),
                answer => return answer,
            }
        }
        let (verified, verdict) = self.cold(key, &name, wanted, newest).await?;
        if verdict == Verdict::NotModified {
            return Ok(Answer::NotModified(found(&verified, Chunks::none())));
        }
        if !wanted.is_of(&verified.stat) {
            return self.whole(key, &name, wanted, newest).await;
        }
        let tail = self.prove(&name, &verified).await?;
        match range.resolve(verified.extent.plaintext_length()) {
            Some((first, last)) => self.part(&name, &verified, first, last, Some(tail)).await,
            None => Ok(Answer::Unsatisfiable { length: verified.extent.plaintext_length() }),
        }
    }

    /// Reads and believes the header alone.
    async fn cold(
        &self,
        key: &ObjectKey,
        name: &str,
        wanted: &Wanted,
        newest: Option<&Newest>,
    ) -> Result<(Arc<Verified>, Verdict), Stop> {
        let span = Span::Part { start: 0, length: self.guess() as u64 };
        let Reading { stat, mut source } = self.store.read(name, span, None).await.map_err(fault_of)?;
        let verdict = judge(wanted, &stat)?;
        if let Some(verified) = self.verified.find(name)
            && verified.is(&stat)
        {
            is_newest(newest, &verified)?;
            return Ok((verified, verdict));
        }
        let want = header_bytes(&stat);
        let mut head = Vec::new();
        fill(source.as_mut(), &mut head, want.min(self.guess() as u64)).await?;
        if want > head.len() as u64 {
            let (start, length) = (head.len() as u64, want - head.len() as u64);
            let rest = Span::Part { start, length };
            let Reading { mut source, .. } = self.store.read(name, rest, Some(&stat.etag)).await.map_err(moved)?;
            fill(source.as_mut(), &mut head, length).await?;
        }
        let verified = Arc::new(self.believe(key, stat, &head).await?);
        is_newest(newest, &verified)?;
        Ok((verified, verdict))
    }

    /// What stands under `key` by its header alone, whatever is known of it.
    pub(super) async fn glance(&self, key: &ObjectKey) -> Result<Arc<Verified>, Fault> {
        let looked = self.cold(key, &self.name_of(key), &Wanted::default(), None).await;
        looked.map(|(verified, _)| verified).map_err(Stop::fault)
    }

    /// Proves the length by the final frame, whose plaintext is returned.
    async fn prove(&self, name: &str, verified: &Arc<Verified>) -> Result<Bytes, Stop> {
        let (layout, extent) = (verified.opener.layout(), verified.extent);
        let mut frame = self.buffer(extent.final_length()).await?;
        let span = Span::Part { start: layout.frame_at(extent.regular), length: extent.final_length() };
        let Reading { stat, mut source } =
            self.store.read(name, span, Some(&verified.stat.etag)).await.map_err(moved)?;
        if !verified.is(&stat) {
            return Err(Stop::Moved);
        }
        fill(source.as_mut(), &mut frame, extent.final_length()).await?;
        let plaintext = verified.opener.open_final(extent.regular, &mut frame).map_err(damaged)?;
        self.verified.keep(name, verified);
        Ok(frame.into_bytes().slice(plaintext))
    }

    async fn whole(
        self: &Arc<Self>,
        key: &ObjectKey,
        name: &str,
        wanted: &Wanted,
        newest: Option<&Newest>,
    ) -> Result<Answer, Stop> {
        let Reading { stat, mut source } = self.store.read(name, Span::Whole, None).await.map_err(fault_of)?;
        let verdict = judge(wanted, &stat)?;
        let mut head = Vec::new();
        fill(source.as_mut(), &mut head, header_bytes(&stat)).await?;
        let verified = self.believe_again(key, name, stat, &head).await?;
        is_newest(newest, &verified)?;
        if verdict == Verdict::NotModified {
            return Ok(Answer::NotModified(found(&verified, Chunks::none())));
        }
        let last = verified.extent.regular;
        let left = verified.extent.plaintext_length();
        let frames = Frames {
            objects: Arc::clone(self),
            name: name.to_owned(),
            verified: Arc::clone(&verified),
            source,
            next: 0,
            last,
            skip: 0,
            left,
            resumes: 0,
        };
        let chunks = frames.begin().await?;
        Ok(Answer::Whole(found(&verified, chunks)))
    }

    /// The plaintext `first..=last` of an object whose length is proved. `tail`
    /// is the final frame's plaintext, where it is at hand.
    async fn part(
        self: &Arc<Self>,
        name: &str,
        verified: &Arc<Verified>,
        first: u64,
        last: u64,
        tail: Option<Bytes>,
    ) -> Result<Answer, Stop> {
        let (layout, extent) = (verified.opener.layout(), verified.extent);
        let Some(frames) = extent.frames(first, last) else {
            return Err(Fault::internal("a range was not checked against its object").into());
        };
        if let Some(tail) = tail
            && frames.first == extent.regular
        {
            let (start, take) = (frames.skip as usize, usize::try_from(frames.take).unwrap_or(usize::MAX));
            let piece = Bytes::copy_from_slice(&tail[start..start + take]);
            self.count_opened(verified, frames.take);
            self.count_download("ok");
            let chunks = Chunks::Ready(VecDeque::from([piece]));
            return Ok(Answer::Part { found: found(verified, chunks), first, last });
        }
        let start = layout.frame_at(frames.first);
        let end = if frames.last == extent.regular { verified.stat.length } else { layout.frame_at(frames.last + 1) };
        let span = Span::Part { start, length: end - start };
        let Reading { stat, source } = self.store.read(name, span, Some(&verified.stat.etag)).await.map_err(moved)?;
        if !verified.is(&stat) {
            return Err(Stop::Moved);
        }
        let frames = Frames {
            objects: Arc::clone(self),
            name: name.to_owned(),
            verified: Arc::clone(verified),
            source,
            next: frames.first,
            last: frames.last,
            skip: frames.skip,
            left: frames.take,
            resumes: 0,
        };
        let chunks = frames.begin().await?;
        Ok(Answer::Part { found: found(verified, chunks), first, last })
    }

    async fn buffer(&self, capacity: u64) -> Result<Buffer, Fault> {
        self.buffer_within(capacity, self.bounds.buffer_wait).await
    }

    /// A buffer from the budget, waiting in line for `wait` at most.
    pub(super) async fn buffer_within(&self, capacity: u64, wait: Duration) -> Result<Buffer, Fault> {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let outcome = self.bounds.budget.buffer(capacity, wait).await;
        if outcome.is_err() {
            self.metrics.buffer_waits.with_label_values(&["timeout"]).inc();
        }
        outcome.map_err(|error| {
            Fault::unavailable("all memory for transfers is in use; try again", Duration::from_secs(5)).because(error)
        })
    }

    pub(super) fn count_download(&self, outcome: &str) {
        self.metrics.downloads.with_label_values(&[&self.class.name, outcome]).inc();
    }

    pub(super) fn count_opened(&self, verified: &Verified, bytes: u64) {
        self.metrics.opened_bytes.with_label_values(&[&self.class.name, &verified.key_name]).inc_by(bytes);
    }
}

/// Why a read stopped.
pub(super) enum Stop {
    /// The object is no longer the one that was begun with.
    Moved,
    /// It isn't what the catalogue knows as the newest: why, and which message it is.
    Stale(&'static str, String),
    Fault(Fault),
}

impl Stop {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Moved | Self::Stale(..) => Fault::unavailable(
                "the object is being replaced faster than it can be read; try again",
                Duration::from_secs(1),
            ),
            Self::Fault(fault) => fault,
        }
    }
}

/// Whether `verified` is what may be served; anything may where nobody is asked.
fn is_newest(newest: Option<&Newest>, verified: &Verified) -> Result<(), Stop> {
    let Some(newest) = newest else { return Ok(()) };
    let message = verified.opener.header().id().to_string();
    if newest.allows(Some(&message)) {
        return Ok(());
    }
    let why = if newest.known {
        "it is not the newest that the catalogue knows"
    } else {
        "the catalogue has never heard of it"
    };
    Err(Stop::Stale(why, message))
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) fn moved(failure: Failure) -> Stop {
    match failure {
        Failure::Precondition | Failure::NotFound => Stop::Moved,
        other => Stop::Fault(fault_of(other)),
    }
}

fn judge(wanted: &Wanted, stat: &Stat) -> Result<Verdict, Stop> {
    match wanted.preconditions.judge(stat) {
        Verdict::Failed => Err(Stop::Fault(fault_of(Failure::Precondition))),
        verdict => Ok(verdict),
    }
}

async fn fill(source: &mut dyn Source, into: &mut Vec<u8>, want: u64) -> Result<(), Fault> {
    let want = usize::try_from(want).unwrap_or(usize::MAX);
    match source.fill(into, want).await {
        Ok(filled) if filled == want => Ok(()),
        Ok(_) => Err(damaged(Damage::new(Tamper::Length, "the store holds fewer bytes than it says"))),
        Err(failure) => Err(fault_of(failure)),
    }
}

fn found(verified: &Verified, chunks: Chunks) -> Found {
    Found {
        etag: verified.stat.etag.clone(),
        modified: verified.stat.modified,
        description: verified.description.clone(),
        length: verified.extent.plaintext_length(),
        current: verified.current,
        chunks,
    }
}
