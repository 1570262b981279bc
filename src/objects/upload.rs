//! Putting an object: plaintext in, frames sealed in place, parts to the store.
//!
//! An upload runs in a task of its own: a client that leaves ends its body, not
//! the task, so that the store is never left half-told. Whoever began an attempt
//! finishes or aborts it, here.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Description, ObjectKey, Objects, Promise, Promises, account::Before, context_of, digests::Digesting, fault_of,
    filling::Filling, key_fault, name::MAX_NAME,
};
use crate::{
    budget::Buffer,
    config::Binding,
    fault::{Fault, Kind},
    index::{Index, Record},
    keys::Lease,
    message::{Draft, FINAL_FRAME_OVERHEAD, FrameWriter, Layout, MessageId, SealError, Sealer},
    store::{self, Condition, ETag, Failure, Stored, Target},
    trace::{self, hop},
};

/// Room after a part's frames for a final one.
const SLACK: u64 = FINAL_FRAME_OVERHEAD as u64 + 8;
/// Parts of one size before the next is doubled, where the length isn't known.
const PARTS_A_SIZE: u32 = 1000;
/// How much longer than a new one an upload under way waits for memory.
const PATIENCE: u32 = 4;

/// An object that is to be.
pub struct Upload {
    /// Its name.
    pub key: ObjectKey,
    /// What is said of it.
    pub description: Description,
    /// What must hold of what stands there now.
    pub condition: WriteCondition,
    /// Digests the client promised.
    pub promises: Promises,
    /// Plaintext bytes, where the client said so.
    pub length: Option<u64>,
    /// The bytes.
    pub body: Box<dyn Plaintext>,
    /// The place it has already, where something of the body had to be read first.
    pub place: Option<Place>,
    /// Who stores it: a caller's name.
    pub by: String,
}

/// One of the uploads that may be under way, and the memory for what is read before
/// the upload begins.
pub struct Place {
    slot: OwnedSemaphorePermit,
    _memory: Option<Buffer>,
}

/// What must hold of what stands under a name before it is written or removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// Nothing.
    #[default]
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match` with strong entity tags.
    OneOf(Vec<ETag>),
}

/// A body that is pulled as it is sealed.
pub trait Plaintext: Send {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// Whatever ends the upload: a client that left, or was too slow.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>>;

    /// The digests that came after the last byte.
    ///
    /// # Errors
    /// 400 for a trailer that can't be read.
    fn late_promises(&mut self) -> Result<Vec<Promise>, Fault> {
        Ok(Vec::new())
    }
}

/// What an uploader is told.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Receipt {
    /// The object's name.
    pub key: String,
    /// Plaintext bytes.
    pub size: u64,
    /// The entity tag, unquoted.
    pub etag: String,
    /// The class.
    pub class: String,
    /// The configured name of the key it is sealed under.
    pub key_id: String,
    /// CRC-64/NVME of the plaintext, big-endian, base64.
    pub crc64nvme: String,
    /// When it became visible, RFC 3339.
    pub created: String,
    /// Whether it took the place of another.
    #[serde(skip)]
    pub replaced: bool,
}

impl Objects {
    /// Seals and stores `upload`; nothing is visible before all of it is, and
    /// nothing stays of it otherwise.
    ///
    /// # Errors
    /// 400 for a broken promise or name, 412, 413, 503, 504 when the outcome
    /// couldn't be learnt, 507.
    pub async fn put(self: &Arc<Self>, mut upload: Upload) -> Result<Receipt, Fault> {
        let Place { slot, .. } = match upload.place.take() {
            Some(place) => place,
            None => self.admit(0).await?,
        };
        let objects = Arc::clone(self);
        let begun = Begun::new(self, slot);
        // Boxed: it is large, and a runtime moves what it is given several times.
        let task = Box::pin(async move {
            let receipt = objects.seal(upload).await;
            begun.ended(receipt.as_ref().err());
            receipt
        });
        tokio::spawn(trace::within(hop!("upload"), Fault::is_ours, task))
            .await
            .unwrap_or_else(|error| Err(Fault::internal(format!("an upload's task ended: {error}"))))
    }

    /// A place for an upload, waited for in line, with `memory` bytes of the budget
    /// for what has to be read before it begins.
    ///
    /// # Errors
    /// 503 when none comes free in time, or as many wait already as there are places.
    pub async fn admit(&self, memory: u64) -> Result<Place, Fault> {
        let full = || {
            self.metrics.buffer_waits.with_label_values(&["no_place"]).inc();
            Fault::unavailable("too many uploads are under way; try again", Duration::from_secs(5))
        };
        let uploads = &self.bounds.uploads;
        let Some(_waiting) = uploads.wait() else { return Err(full()) };
        let slot = Arc::clone(&uploads.free).acquire_owned();
        let Ok(Ok(slot)) = tokio::time::timeout(self.bounds.buffer_wait, slot).await else { return Err(full()) };
        let memory = if memory == 0 { None } else { Some(self.buffer_within(memory, self.bounds.buffer_wait).await?) };
        Ok(Place { slot, _memory: memory })
    }

    async fn seal(&self, mut upload: Upload) -> Result<Receipt, Fault> {
        let class = &self.class;
        if upload.length.is_some_and(|length| length > class.max_size) {
            return Err(self.too_large());
        }
        let most = self.largest_announced();
        if upload.length.is_some_and(|length| length > most) {
            let words =
                format!("the object is larger than the gateway's memory allows ({most} bytes); nothing was stored");
            return Err(Fault::new(Kind::TooLarge, words));
        }
        upload.description.check()?;
        self.writable(&upload.key)?;
        let name = self.name_of(&upload.key);
        debug_assert!(name.len() <= MAX_NAME);
        let context = context_of(class, &upload.key).map_err(Fault::internal)?;
        let shared = class.binding == Binding::MessageId;
        let (there, lease) = tokio::join!(
            trace::within(hop!("look"), Fault::is_ours, self.before(&upload.key, &upload.condition, upload.length)),
            trace::within(hop!("data key"), |_| true, self.keys.issue(&context, shared))
        );
        let (before, lease) = (there?, lease.map_err(|failure| key_fault(&failure))?);

        // The id is drawn after the data key is fixed: see the format's page.
        let id = MessageId::bound(&class.vault, &class.name, upload.key.as_str()).map_err(Fault::internal)?;
        let draft = Draft { id, context, data_keys: lease.encrypted().to_vec(), frame_length: class.frame_length };
        let sealer = Sealer::new(draft, lease.key()).map_err(Fault::internal)?;
        self.learn(&sealer.layout());
        let attributes = upload.description.seal(class.metadata, &sealer)?;
        let layout = sealer.layout();
        let length = upload.length.map(|length| layout.sealed_length(length));
        let record = self.record(&upload.key, &lease, &id, &upload.by);
        let target = Target { name, attributes, condition: before.condition, id, length, tells: before.tells };

        let mut parts = Parts {
            plan: Plan::new(layout, *self.store.rules(), upload.length, self.max_part()),
            objects: self,
            target: Some(target),
            attempt: None,
            sent: 0,
            index: self.index(&upload.key),
            record,
            before: before.message,
            pending: false,
        };
        let filling = self.fill(&mut upload, FrameWriter::new(sealer), &lease, &mut parts);
        match trace::within(hop!("seal"), Fault::is_ours, filling).await {
            Ok((mut stored, size, crc64)) => {
                stored.replaced = stored.replaced.or(before.replaces);
                if let Some(index) = self.index(&upload.key) {
                    let record = Record { size, at: SystemTime::now(), ..parts.record };
                    let accounting = self.account(index, record, &stored);
                    trace::within(hop!("catalogue"), Fault::is_ours, accounting).await?;
                }
                Ok(self.receipt(&upload.key, &lease, &stored, size, crc64))
            }
            Err(fault) => {
                parts.abort(&fault).await;
                if self.class.fresh
                    && upload.condition == WriteCondition::None
                    && fault.kind() == Kind::PreconditionFailed
                {
                    // The condition was ours.
                    return Err(fault_of(Failure::Conflict));
                }
                Err(fault)
            }
        }
    }

    /// Pulls the body through `writer` into parts, to the end.
    async fn fill(
        &self,
        upload: &mut Upload,
        mut writer: FrameWriter,
        lease: &Lease,
        parts: &mut Parts<'_>,
    ) -> Result<(Stored, u64, [u8; 8]), Fault> {
        let mut digests = Digesting::new(&upload.promises);
        // The body is asked for only while there is memory to lay it in.
        let mut part = Some(parts.first(&mut writer).await?);
        while let Some(bytes) = std::future::poll_fn(|cx| upload.body.poll_next(cx)).await? {
            digests.update(&bytes);
            lease.charge(bytes.len() as u64);
            let total = writer.plaintext() + bytes.len() as u64;
            if total > self.class.max_size {
                return Err(self.too_large());
            }
            if upload.length.is_some_and(|length| total > length) {
                return Err(Fault::bad_request("the body is longer than the request said; nothing was stored"));
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let filling = match &mut part {
                    Some(filling) => filling,
                    none => none.insert(parts.next(&mut writer).await?),
                };
                let taken = filling.write(&mut writer, rest).map_err(|error| self.seal_fault(error))?;
                rest = &rest[taken..];
                // A full part goes at once; the last one of a known length waits
                // for its final frame, for which it has room.
                let whole = upload.length == Some(writer.plaintext());
                if writer.is_full()
                    && !whole
                    && let Some(full) = part.take()
                {
                    parts.send(full).await?;
                }
            }
        }
        if upload.length.is_some_and(|length| writer.plaintext() < length) {
            return Err(Fault::bad_request("the body ended before the length it was said to have; nothing was stored"));
        }
        let crc64 = digests.finish(&upload.promises, &upload.body.late_promises()?)?;
        let mut last = match part {
            Some(part) => part,
            None => {
                let buffer = self.buffer_within(SLACK, self.bounds.buffer_wait * PATIENCE).await?;
                parts.filling(buffer)
            }
        };
        let sealed = last.finish(writer).map_err(|error| self.seal_fault(error))?;
        let stored = trace::within(hop!("complete"), Fault::is_ours, parts.complete(last)).await?;
        Ok((stored, sealed.plaintext, crc64))
    }

    /// The store's condition, and whether something stands there, where the store's
    /// answer to the write won't say: asked beside the data key, and so a moment
    /// before the write, which another may use.
    async fn before(&self, key: &ObjectKey, condition: &WriteCondition, length: Option<u64>) -> Result<Before, Fault> {
        if let Some(index) = self.judge(key) {
            return self.before_fresh(index, key, condition).await;
        }
        let name = &self.name_of(key);
        if *condition == WriteCondition::None {
            let layout = Layout::new(self.guess(), self.class.frame_length);
            if self.store.tells(length.map_or(u64::MAX, |length| layout.sealed_length(length))) {
                return Ok(Before { condition: Condition::None, replaces: None, tells: true, message: None });
            }
            let there = self.store.stat(name).await;
            // Whoever may not look still may write.
            let replaces = there.ok().map(|there| there.is_some());
            return Ok(Before { condition: Condition::None, replaces, tells: false, message: None });
        }
        let condition = self.resolve(name, condition).await?;
        let replaces = match condition {
            Condition::None => None,
            Condition::Absent => Some(false),
            Condition::Matches(_) => Some(true),
        };
        Ok(Before { condition, replaces, tells: false, message: None })
    }

    /// The store's condition for a client's; asks the store what stands there
    /// where it must, so that a condition that fails is told before the body.
    pub(super) async fn resolve(&self, name: &str, condition: &WriteCondition) -> Result<Condition, Fault> {
        if *condition == WriteCondition::None {
            return Ok(Condition::None);
        }
        let there = self.store.stat(name).await.map_err(fault_of)?;
        match (condition, there) {
            (WriteCondition::Absent, None) => Ok(Condition::Absent),
            (WriteCondition::Present, Some(stat)) => Ok(Condition::Matches(stat.etag)),
            (WriteCondition::OneOf(tags), Some(stat)) if tags.contains(&stat.etag) => Ok(Condition::Matches(stat.etag)),
            _ => Err(fault_of(Failure::Precondition)),
        }
    }

    fn receipt(&self, key: &ObjectKey, lease: &Lease, stored: &Stored, size: u64, crc64: [u8; 8]) -> Receipt {
        let class = self.class.name.as_str();
        self.metrics.sealed_bytes.with_label_values(&[class, lease.name()]).inc_by(size);
        Receipt {
            key: key.as_str().to_owned(),
            size,
            etag: stored.etag.0.clone(),
            class: class.to_owned(),
            key_id: lease.name().to_owned(),
            crc64nvme: STANDARD.encode(crc64),
            created: super::rfc3339(SystemTime::now()),
            replaced: stored.replaced == Some(true),
        }
    }

    /// The largest plaintext that an upload whose length is sent comes to: parts of one
    /// size, as many as there may be, each within the memory.
    pub fn largest_announced(&self) -> u64 {
        let layout = Layout::new(self.guess(), self.class.frame_length);
        let rules = self.store.rules();
        let part = rules.max.min(self.bounds.budget.total() as u64 - SLACK).saturating_sub(layout.header_length());
        let frames = part / layout.stride();
        let plaintext = frames.saturating_mul(u64::from(self.class.frame_length));
        plaintext.saturating_mul(u64::from(rules.count.max(2) - 1)).min(self.class.max_size).min(layout.max_plaintext())
    }

    /// The largest plaintext that an upload of unknown length comes to: what the
    /// class, the format and the store's parts all allow; bytes.
    pub fn largest_unannounced(&self) -> u64 {
        // The header's length differs by a few bytes from object to object.
        let layout = Layout::new(self.guess(), self.class.frame_length);
        let plan = Plan::new(layout, *self.store.rules(), None, self.max_part());
        let frame = u64::from(self.class.frame_length);
        let mut plaintext = 0_u64;
        let mut number = 0;
        // Parts of one size at a time; past the last doubling all are alike.
        while number < plan.rules.count {
            let alike = PARTS_A_SIZE.min(plan.rules.count - number);
            plaintext = plaintext.saturating_add(u64::from(alike).saturating_mul(plan.frames(number) * frame));
            number += alike;
            if plaintext >= self.class.max_size {
                break;
            }
        }
        plaintext.min(self.class.max_size).min(layout.max_plaintext())
    }

    /// The largest part that the configuration and the memory allow.
    fn max_part(&self) -> u64 {
        self.bounds.max_part.min(self.bounds.budget.total() as u64 - SLACK)
    }

    fn too_large(&self) -> Fault {
        Fault::new(
            Kind::TooLarge,
            format!("the object is larger than its class allows ({} bytes); nothing was stored", self.class.max_size),
        )
    }

    fn seal_fault(&self, error: SealError) -> Fault {
        match error {
            SealError::TooLong => self.too_large(),
            other => Fault::internal(other),
        }
    }
}

/// How an upload falls into parts.
struct Plan {
    layout: Layout,
    rules: store::PartRules,
    /// Plaintext bytes, where known.
    length: Option<u64>,
    max_part: u64,
}

impl Plan {
    fn new(layout: Layout, rules: store::PartRules, length: Option<u64>, max_part: u64) -> Self {
        Self { layout, rules, length, max_part: max_part.min(rules.max).max(rules.min) }
    }

    /// Frames of part `number`, from 0.
    fn frames(&self, number: u32) -> u64 {
        let stride = self.layout.stride();
        let size = match self.length {
            // As many parts as there may be must hold the whole.
            Some(length) => {
                self.layout.sealed_length(length).div_ceil(u64::from(self.rules.count.max(2) - 1)).max(self.rules.usual)
            }
            None => {
                let doublings = (number / PARTS_A_SIZE).min(32);
                self.rules.usual.saturating_mul(1 << doublings).min(self.max_part).max(self.rules.usual)
            }
        };
        // Never below the least a part may have.
        (size / stride).max(self.rules.min.div_ceil(stride)).max(1)
    }

    /// Bytes of memory for part `number` of `frames` frames, `sent` sealed bytes
    /// having gone before.
    fn memory(&self, number: u32, frames: u64, sent: u64) -> u64 {
        let header = if number == 0 { self.layout.header_length() } else { 0 };
        let full = header + frames * self.layout.stride() + SLACK;
        match self.length {
            Some(length) => full.min(self.layout.sealed_length(length).saturating_sub(sent) + SLACK),
            None => full,
        }
    }
}

/// The parts of one upload, on their way.
struct Parts<'a> {
    plan: Plan,
    objects: &'a Objects,
    /// Present until the store has been told of the upload.
    target: Option<Target>,
    attempt: Option<Attempt>,
    sent: u64,
    index: Option<&'a Arc<dyn Index>>,
    /// What will be written down of it.
    record: Record,
    /// Whose place it takes.
    before: Option<String>,
    /// Whether that was written down.
    pending: bool,
}

struct Attempt {
    upload: Box<dyn store::Upload>,
    parts: u32,
}

impl Parts<'_> {
    /// The first part's buffer, with the header in it.
    async fn first(&mut self, writer: &mut FrameWriter) -> Result<Filling, Fault> {
        let mut buffer = self.buffer(0, self.objects.bounds.buffer_wait, writer).await?;
        buffer.extend_from_slice(writer.sealer().header().as_bytes());
        Ok(self.filling(buffer))
    }

    async fn next(&mut self, writer: &mut FrameWriter) -> Result<Filling, Fault> {
        let number = self.attempt.as_ref().map_or(0, |attempt| attempt.parts);
        if number >= self.plan.rules.count {
            return Err(Fault::new(
                Kind::TooLarge,
                "the object has more parts than the store takes; send its length with it; nothing was stored",
            ));
        }
        let buffer = self.buffer(number, self.objects.bounds.buffer_wait * PATIENCE, writer).await?;
        Ok(self.filling(buffer))
    }

    fn filling(&self, buffer: Buffer) -> Filling {
        Filling::new(buffer, self.plan.rules.crc64)
    }

    async fn buffer(&mut self, number: u32, wait: Duration, writer: &mut FrameWriter) -> Result<Buffer, Fault> {
        let frames = self.plan.frames(number);
        writer.grant(frames);
        self.objects.buffer_within(self.plan.memory(number, frames, self.sent), wait).await
    }

    /// Sends a full part; the store is told of the upload with the first.
    async fn send(&mut self, part: Filling) -> Result<(), Fault> {
        if let Some(target) = self.target.take() {
            let upload = self.objects.store.begin(target).await.map_err(fault_of)?;
            let noted = match (self.index, upload.id()) {
                (Some(index), Some(id)) => index.begun(&self.record.class, &self.record.name, id).await,
                _ => Ok(()),
            };
            self.attempt = Some(Attempt { upload, parts: 0 });
            noted?;
        }
        let Some(attempt) = &mut self.attempt else { return Err(Fault::internal("an upload was already over")) };
        attempt.parts += 1;
        self.sent += part.len() as u64;
        attempt.upload.part(part.into_payload()).await.map_err(fault_of)
    }

    /// Sends the last part and makes the whole visible.
    async fn complete(&mut self, last: Filling) -> Result<Stored, Fault> {
        if self.objects.class.fresh
            && let Some(index) = self.index
        {
            let Record { class, name, message_id, .. } = &self.record;
            index.pending(class, name, message_id, self.before.as_deref()).await?;
            self.pending = true;
        }
        if let Some(target) = self.target.take_if(|_| last.len() as u64 <= self.plan.rules.whole) {
            let target = Target { length: Some(last.len() as u64), ..target };
            return self.objects.store.put(target, last.into_payload()).await.map_err(fault_of);
        }
        self.send(last).await?;
        let Some(attempt) = self.attempt.take() else { return Err(Fault::internal("an upload was already over")) };
        let id = attempt.upload.id().map(str::to_owned);
        let completed = attempt.upload.complete().await.map_err(fault_of);
        over(self.index, &self.record, id).await;
        completed
    }

    /// Undoes the attempt, if the store knows of one, since `fault` has ended it.
    async fn abort(&mut self, fault: &Fault) {
        if let Some(attempt) = self.attempt.take() {
            let id = attempt.upload.id().map(str::to_owned);
            attempt.upload.abort().await;
            over(self.index, &self.record, id).await;
        }
        // What may have become visible all the same stays pending.
        if self.pending
            && fault.kind() != Kind::OutcomeUnknown
            && let Some(index) = self.index
        {
            let Record { class, name, message_id, .. } = &self.record;
            index.forget(class, name, message_id).await;
        }
    }
}

/// Says that the upload called `id` is over.
async fn over(index: Option<&Arc<dyn Index>>, record: &Record, id: Option<String>) {
    if let (Some(index), Some(id)) = (index, id) {
        index.over(&record.class, &id).await;
    }
}

/// Counts an upload from its beginning to its end, whatever that is.
struct Begun {
    objects: Arc<Objects>,
    since: Instant,
    outcome: &'static str,
    _slot: OwnedSemaphorePermit,
}

impl Begun {
    fn new(objects: &Arc<Objects>, slot: OwnedSemaphorePermit) -> Self {
        objects.metrics.uploads_in_flight.inc();
        Self { objects: Arc::clone(objects), since: Instant::now(), outcome: "lost", _slot: slot }
    }

    fn ended(mut self, fault: Option<&Fault>) {
        self.outcome = match fault.map(Fault::kind) {
            None => "ok",
            Some(Kind::BadRequest | Kind::RequestTimeout) => "client",
            Some(Kind::PreconditionFailed | Kind::Conflict) => "refused",
            Some(Kind::TooLarge) => "too_large",
            Some(Kind::NoSpace) => "no_space",
            Some(Kind::OutcomeUnknown) => "unknown",
            Some(_) => "failed",
        };
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let (metrics, class) = (&self.objects.metrics, &self.objects.class.name);
        metrics.uploads_in_flight.dec();
        metrics.uploads.with_label_values(&[class, self.outcome]).inc();
        metrics.upload_seconds.with_label_values(&[class]).observe(self.since.elapsed().as_secs_f64());
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("key", &self.key).field("length", &self.length).finish_non_exhaustive()
    }
}
