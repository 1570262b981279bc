//! The table: one fault, or a few that belong together, in one row.

use std::sync::{Mutex, atomic::AtomicUsize, atomic::Ordering::Relaxed};

use bytes::Bytes;

use crate::{
    double::{
        Double,
        Fault::{
            self, Cut, DoneBut, First, Flip, Inside, Key, Lost, NoRange, NoTag, OtherRange, Refuse, Reset, Short, Slow,
            Sse, SseLost, Tag, Truncate,
        },
        THEIRS, Version, World,
    },
    site::{MIB, PREFIX, put, serve, serve_keys},
    support::{Site, pattern},
};

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// An upload in one request to S3; and one in parts.
    Small,
    Large,
    /// One that is sent twice rather than looked for.
    Tiny,
    /// The same, if nothing stands there.
    SmallFresh,
    LargeFresh,
    /// The same, if the old object stands there.
    SmallOver,
    LargeOver,
    /// In parts, with a digest that isn't its own.
    LargeWrong,
    Get,
    Range,
    Delete,
    DeleteOld,
}

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Status(u16),
    /// The whole and right bytes, after this status.
    Bytes(u16),
    /// A 200 that doesn't end cleanly.
    Cut,
}

/// What the bucket holds afterwards.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holds {
    Nothing,
    Old,
    New,
    /// What somebody else put there meanwhile.
    Other,
}

type Plan = &'static [(&'static str, usize, usize, Fault)];

struct Row {
    name: &'static str,
    act: Act,
    /// Whether the old object stands there.
    over: bool,
    pub(crate) plan: Plan,
    told: Told,
    holds: Holds,
    /// Uploads left: none, but where no answer ever named them.
    left: usize,
    versioned: bool,
}

const ALL: usize = 1 << 20;
/// Calls that the SDK makes of one, before it gives up.
const TRIES: usize = 4;
const PUT: &str = "PutObject";
const GET: &str = "GetObject";
const HEAD: &str = "HeadObject";
const CREATE: &str = "CreateMultipartUpload";
const PART: &str = "UploadPart";
const COMPLETE: &str = "CompleteMultipartUpload";
const ABORT: &str = "AbortMultipartUpload";
const LIST_PARTS: &str = "ListParts";
const DELETE: &str = "DeleteObject";
const ISSUE: &str = "GenerateDataKey";
const DECRYPT: &str = "Decrypt";
const AES: Fault = Sse("AES256", None);

fn key() -> String {
    format!("{PREFIX}k")
}

/// Somebody else's object comes to stand there.
fn usurp(world: &mut World) {
    let number = world.number();
    let version = Version {
        id: format!("version-{number}"),
        marker: false,
        body: Bytes::from_static(b"somebody else's"),
        etag: format!("\"{number:032x}\""),
        headers: vec![],
        sse: ("AES256".into(), None),
    };
    world.store(&key(), version);
}

/// The old object once more, as another writer's: same bytes, another tag.
fn renew(world: &mut World) {
    let mut version = world.current(&key()).cloned().expect("the old object");
    version.etag = format!("\"{:032x}\"", world.number());
    world.store(&key(), version);
}

fn empty(world: &mut World) {
    let mut version = world.current(&key()).cloned().expect("the old object");
    version.body = Bytes::new();
    world.store(&key(), version);
}

fn sweep(world: &mut World) {
    world.uploads.clear();
}

fn vanish(world: &mut World) {
    world.objects.remove(&key());
}

const fn row(name: &'static str, act: Act, plan: Plan, told: Told, holds: Holds) -> Row {
    let over = matches!(act, Act::Get | Act::Range | Act::Delete | Act::DeleteOld | Act::SmallOver | Act::LargeOver);
    Row { name, act, over, plan, told, holds, left: 0, versioned: false }
}

const fn over(name: &'static str, act: Act, plan: Plan, told: Told, holds: Holds) -> Row {
    Row { over: true, ..row(name, act, plan, told, holds) }
}

#[rustfmt::skip]
#[allow(clippy::too_many_lines)] // a table
fn rows() -> Vec<Row> {
    use Act::*;
    use Holds::{New, Nothing, Old, Other};
    use Told::{Bytes, Status};
    let mut rows = vec![
        // One request.
        row("put: 500 once", Small, &[(PUT, 1, 1, Refuse(500, "InternalError"))], Status(201), New),
        row("put: SlowDown once", Small, &[(PUT, 1, 1, Refuse(503, "SlowDown"))], Status(201), New),
        row("put: reset once", Small, &[(PUT, 1, 1, Reset)], Status(201), New),
        row("put: cut mid-body once", Small, &[(PUT, 1, 1, Cut)], Status(201), New),
        row("put: answer lost", Small, &[(PUT, 1, 1, Lost)], Status(201), New),
        row("put: 500 though done", Small, &[(PUT, 1, 1, DoneBut(500, "InternalError"))], Status(201), New),
        row("put: no answer in time", Small, &[(PUT, 1, 1, Slow(25_000))], Status(201), New),
        row("put: slow", Small, &[(PUT, 1, 1, Slow(2_000))], Status(201), New),
        row("put: 500 for ever", Small, &[(PUT, 1, ALL, Refuse(500, "InternalError"))], Status(504), Nothing),
        over("put: 500 for ever, over another", Small, &[(PUT, 1, ALL, Refuse(500, "InternalError"))], Status(504), Old),
        row("put: SlowDown for ever", Small, &[(PUT, 1, ALL, Refuse(503, "SlowDown"))], Status(503), Nothing),
        row("put: reset for ever", Small, &[(PUT, 1, ALL, Reset)], Status(504), Nothing),
        row("put: answer lost, and not to be read back", Small, &[(PUT, 1, ALL, Lost), (GET, 1, ALL, Refuse(500, "InternalError"))], Status(504), New),
        row("put: answer lost, read back late", Small, &[(PUT, 1, 1, Lost), (GET, 1, TRIES, Refuse(500, "InternalError"))], Status(201), New),
        row("put: answer lost and not read back, then SlowDown", Small, &[(PUT, 1, 1, Lost), (PUT, 2, ALL, Refuse(503, "SlowDown")), (GET, 1, ALL, Refuse(500, "InternalError"))], Status(504), New),
        row("put: answer lost and not read back, then denied", Small, &[(PUT, 1, 1, Lost), (PUT, 2, ALL, Refuse(403, "AccessDenied")), (GET, 1, TRIES, Refuse(500, "InternalError"))], Status(201), New),
        row("put: no answer, then denied", Small, &[(PUT, 1, 1, Reset), (PUT, 2, ALL, Refuse(403, "AccessDenied"))], Status(504), Nothing),
        row("put if match: no answer, then another's", SmallOver, &[(PUT, 1, 1, Reset), (PUT, 2, 1, First(usurp))], Status(504), Other),
        row("put: RequestTimeout once", Small, &[(PUT, 1, 1, Refuse(400, "RequestTimeout"))], Status(201), New),
        row("put: credentials expired", Small, &[(PUT, 1, ALL, Refuse(400, "ExpiredToken"))], Status(503), Nothing),
        row("put if absent: answer lost, then 412", SmallFresh, &[(PUT, 1, 1, Lost), (GET, 1, TRIES, Refuse(500, "InternalError"))], Status(201), New),
        over("put if match: answer lost, then 412", SmallOver, &[(PUT, 1, 1, Lost), (GET, 1, TRIES, Refuse(500, "InternalError"))], Status(200), New),
        row("put if absent: 409 at first", SmallFresh, &[(PUT, 1, 1, Refuse(409, "ConditionalRequestConflict"))], Status(409), Nothing),
        row("put if absent: 409 after a reset", SmallFresh, &[(PUT, 1, 1, Reset), (PUT, 2, 1, Refuse(409, "ConditionalRequestConflict"))], Status(201), New),
        row("put if absent: another is faster", SmallFresh, &[(PUT, 1, 1, First(usurp))], Status(412), Other),
        row("put if match: another is faster", SmallOver, &[(PUT, 1, 1, First(usurp))], Status(412), Other),
        row("put if match: removed meanwhile", SmallOver, &[(PUT, 1, 1, First(vanish))], Status(412), Nothing),
        row("put: encrypted as AES256", Small, &[(PUT, 1, 1, AES)], Status(503), Nothing),
        row("put: encrypted under another key", Small, &[(PUT, 1, 1, Sse("aws:kms", Some(THEIRS)))], Status(503), Nothing),
        row("put: encrypted otherwise, answer lost", Small, &[(PUT, 1, 1, SseLost("AES256"))], Status(503), Nothing),
        over("put: encrypted otherwise over another, which is lost", Small, &[(PUT, 1, 1, AES)], Status(503), Nothing),
        Row { versioned: true, ..over("put: encrypted otherwise over another, versioned", Small, &[(PUT, 1, 1, AES)], Status(503), Old) },
        row("put: access denied", Small, &[(PUT, 1, 1, Refuse(403, "AccessDenied"))], Status(503), Nothing),
        row("put: the bucket's key is disabled", Small, &[(PUT, 1, 1, Refuse(400, "KMS.DisabledException"))], Status(503), Nothing),
        row("put: the bucket's key is throttled", Small, &[(PUT, 1, 1, Refuse(400, "KMS.ThrottlingException"))], Status(201), New),
        row("put: no bucket", Small, &[(PUT, 1, 1, Refuse(404, "NoSuchBucket"))], Status(503), Nothing),
        row("put: damaged on its way once", Small, &[(PUT, 1, 1, Refuse(400, "BadDigest"))], Status(201), New),
        row("put: damaged on its way for ever", Small, &[(PUT, 1, ALL, Refuse(400, "BadDigest"))], Status(502), Nothing),
        row("put: refused for no reason we know", Small, &[(PUT, 1, ALL, Refuse(400, "InvalidRequest"))], Status(502), Nothing),
        row("put: no entity tag", Small, &[(PUT, 1, 1, NoTag)], Status(201), New),
        row("put: no entity tag, and not to be read back", Small, &[(PUT, 1, ALL, NoTag), (GET, 1, ALL, Refuse(500, "InternalError"))], Status(504), New),
        row("put: a lying entity tag", Small, &[(PUT, 1, 1, Tag)], Status(201), New),
        over("put: head denied", Small, &[(HEAD, 1, ALL, Refuse(403, "AccessDenied"))], Status(201), New),
        // What is so small that S3 is asked by a condition whether it is new.
        over("tiny: 500 once, over another", Tiny, &[(PUT, 2, 1, Refuse(500, "InternalError"))], Status(200), New),
        row("tiny: another is faster", Tiny, &[(PUT, 1, 1, First(usurp))], Status(200), New),
        over("tiny: reset, then there is another", Tiny, &[(PUT, 1, 1, Reset)], Status(200), New),
        row("tiny: reset, then another is faster", Tiny, &[(PUT, 1, 1, Reset), (PUT, 2, 1, First(usurp))], Status(200), New),
        row("tiny: answer lost", Tiny, &[(PUT, 1, 1, Lost)], Status(201), New),
        row("tiny: answer lost, and not to be read back", Tiny, &[(PUT, 1, 1, Lost), (GET, 1, ALL, Refuse(500, "InternalError"))], Status(200), New),
        row("tiny: answer lost, then denied", Tiny, &[(PUT, 1, 1, Lost), (PUT, 2, ALL, Refuse(403, "AccessDenied")), (GET, 1, ALL, Refuse(500, "InternalError"))], Status(504), New),
        over("tiny: answer lost, over another", Tiny, &[(PUT, 2, 1, Lost)], Status(200), New),
        over("tiny: SlowDown once, over another", Tiny, &[(PUT, 1, 1, Refuse(503, "SlowDown"))], Status(200), New),
        row("tiny: 409 to our condition", Tiny, &[(PUT, 1, 1, Refuse(409, "ConditionalRequestConflict"))], Status(200), New),
        row("tiny: 500 for ever", Tiny, &[(PUT, 1, ALL, Refuse(500, "InternalError"))], Status(504), Nothing),
        over("tiny: encrypted otherwise over another, which is lost", Tiny, &[(PUT, 2, 1, AES)], Status(503), Nothing),
        row("tiny: encrypted as AES256", Tiny, &[(PUT, 1, 1, AES)], Status(503), Nothing),
        row("put: head fails", Small, &[(HEAD, 1, ALL, Refuse(500, "InternalError"))], Status(201), New),
        row("put if absent: head fails", SmallFresh, &[(HEAD, 1, ALL, Refuse(500, "InternalError"))], Status(503), Nothing),
        // In parts.
        row("create: 500 once", Large, &[(CREATE, 1, 1, Refuse(500, "InternalError"))], Status(201), New),
        row("create: access denied", Large, &[(CREATE, 1, 1, Refuse(403, "AccessDenied"))], Status(503), Nothing),
        row("create: no bucket", Large, &[(CREATE, 1, 1, Refuse(404, "NoSuchBucket"))], Status(503), Nothing),
        row("create: to be encrypted otherwise", Large, &[(CREATE, 1, 1, AES)], Status(503), Nothing),
        over("create: to be encrypted under another key", Large, &[(CREATE, 1, 1, Sse("aws:kms", Some(THEIRS)))], Status(503), Old),
        Row { left: 1, ..row("create: answer lost, the id with it", Large, &[(CREATE, 1, 1, Lost)], Status(201), New) },
        row("part: 500 once", Large, &[(PART, 1, 1, Refuse(500, "InternalError"))], Status(201), New),
        row("part: SlowDown once", Large, &[(PART, 2, 1, Refuse(503, "SlowDown"))], Status(201), New),
        row("part: reset mid-way", Large, &[(PART, 2, 1, Cut)], Status(201), New),
        row("part: answer lost", Large, &[(PART, 1, 1, Lost)], Status(201), New),
        row("part: slow", Large, &[(PART, 1, 1, Slow(2_000))], Status(201), New),
        row("part: 500 for ever", Large, &[(PART, 2, ALL, Refuse(500, "InternalError"))], Status(503), Nothing),
        over("part: reset for ever", Large, &[(PART, 3, ALL, Reset)], Status(503), Old),
        row("part: damaged on its way once", Large, &[(PART, 2, 1, Refuse(400, "BadDigest"))], Status(201), New),
        row("part: damaged on its way for ever", Large, &[(PART, 2, ALL, Refuse(400, "BadDigest"))], Status(502), Nothing),
        row("part: a lying entity tag", Large, &[(PART, 1, 1, Tag)], Status(502), Nothing),
        row("part: the upload is swept away", Large, &[(PART, 2, 1, First(sweep))], Status(503), Nothing),
        row("complete: 500 once", Large, &[(COMPLETE, 1, 1, Refuse(500, "InternalError"))], Status(201), New),
        row("complete: SlowDown once", Large, &[(COMPLETE, 1, 1, Refuse(503, "SlowDown"))], Status(201), New),
        row("complete: reset once", Large, &[(COMPLETE, 1, 1, Reset)], Status(201), New),
        row("complete: answer lost", Large, &[(COMPLETE, 1, 1, Lost)], Status(201), New),
        row("complete: answer lost, then NoSuchUpload", Large, &[(COMPLETE, 1, 1, Lost), (GET, 1, TRIES, Refuse(500, "InternalError"))], Status(201), New),
        row("complete if absent: answer lost, then NoSuchUpload", LargeFresh, &[(COMPLETE, 1, 1, Lost), (GET, 1, TRIES, Refuse(500, "InternalError"))], Status(201), New),
        row("complete if match: answer lost", LargeOver, &[(COMPLETE, 1, 1, Lost)], Status(200), New),
        row("complete if absent: answer lost, then 412", LargeFresh, &[(COMPLETE, 1, 1, Lost), (GET, 1, TRIES, Refuse(500, "InternalError")), (COMPLETE, 2, 1, Refuse(412, "PreconditionFailed"))], Status(201), New),
        row("complete: no entity tag", Large, &[(COMPLETE, 1, 1, NoTag)], Status(201), New),
        row("complete: damaged on its way once", Large, &[(COMPLETE, 1, 1, Refuse(400, "BadDigest"))], Status(201), New),
        row("complete: damaged on its way for ever", Large, &[(COMPLETE, 1, ALL, Refuse(400, "BadDigest"))], Status(502), Nothing),
        row("complete: a failure inside a 200", Large, &[(COMPLETE, 1, 1, Inside("InternalError"))], Status(201), New),
        row("complete: 500 for ever", Large, &[(COMPLETE, 1, ALL, Refuse(500, "InternalError"))], Status(504), Nothing),
        over("complete: 500 for ever, over another", Large, &[(COMPLETE, 1, ALL, Refuse(500, "InternalError"))], Status(504), Old),
        row("complete: answer lost, and not to be read back", Large, &[(COMPLETE, 1, ALL, Lost), (GET, 1, ALL, Refuse(500, "InternalError"))], Status(504), New),
        row("complete: answer lost and not read back, then denied", Large, &[(COMPLETE, 1, 1, Lost), (COMPLETE, 2, ALL, Refuse(403, "AccessDenied")), (GET, 1, TRIES, Refuse(500, "InternalError"))], Status(201), New),
        row("complete: no answer, then SlowDown", Large, &[(COMPLETE, 1, 1, Reset), (COMPLETE, 2, ALL, Refuse(503, "SlowDown"))], Status(504), Nothing),
        row("complete if absent: 409 at first", LargeFresh, &[(COMPLETE, 1, 1, Refuse(409, "ConditionalRequestConflict"))], Status(409), Nothing),
        row("complete if absent: another is faster", LargeFresh, &[(COMPLETE, 1, 1, First(usurp))], Status(412), Other),
        row("complete: access denied", Large, &[(COMPLETE, 1, 1, Refuse(403, "AccessDenied"))], Status(503), Nothing),
        row("complete: the upload is swept away", Large, &[(COMPLETE, 1, 1, First(sweep))], Status(503), Nothing),
        row("abort: 500 once", Large, &[(PART, 2, ALL, Refuse(400, "BadDigest")), (ABORT, 1, 1, Refuse(500, "InternalError"))], Status(502), Nothing),
        row("abort: done, it says, and isn't", Large, &[(PART, 2, ALL, Refuse(400, "BadDigest")), (ABORT, 1, 1, Refuse(204, "NotYet"))], Status(502), Nothing),
        row("abort: answer lost", Large, &[(PART, 2, ALL, Refuse(400, "BadDigest")), (ABORT, 1, 1, Lost)], Status(502), Nothing),
        row("abort: parts not to be listed", Large, &[(PART, 2, ALL, Refuse(400, "BadDigest")), (LIST_PARTS, 1, ALL, Refuse(403, "AccessDenied"))], Status(502), Nothing),
        row("a digest that isn't its own", LargeWrong, &[], Status(400), Nothing),
        // KMS on the way in.
        row("issue: throttled once", Small, &[(ISSUE, 1, 1, Refuse(400, "ThrottlingException"))], Status(201), New),
        row("issue: 500 once", Large, &[(ISSUE, 1, 1, Refuse(500, "KMSInternalException"))], Status(201), New),
        row("issue: reset once", Small, &[(ISSUE, 1, 1, Reset)], Status(201), New),
        row("issue: slow once", Small, &[(ISSUE, 1, 1, Slow(4_000))], Status(201), New),
        row("issue: throttled for ever", Small, &[(ISSUE, 1, ALL, Refuse(400, "ThrottlingException"))], Status(503), Nothing),
        row("issue: denied", Large, &[(ISSUE, 1, ALL, Refuse(400, "AccessDeniedException"))], Status(503), Nothing),
        row("issue: disabled", Small, &[(ISSUE, 1, ALL, Refuse(400, "DisabledException"))], Status(503), Nothing),
        over("issue: down", Small, &[(ISSUE, 1, ALL, Reset)], Status(503), Old),
        row("issue: slow for ever", Small, &[(ISSUE, 1, ALL, Slow(60_000))], Status(503), Nothing),
        row("issue: under another key", Small, &[(ISSUE, 1, ALL, Key(THEIRS))], Status(503), Nothing),
        row("issue: 31 bytes", Large, &[(ISSUE, 1, ALL, Short)], Status(503), Nothing),
        // Reading.
        row("get: 500 once", Get, &[(GET, 1, 1, Refuse(500, "InternalError"))], Bytes(200), Old),
        row("get: reset once", Get, &[(GET, 1, 1, Reset)], Bytes(200), Old),
        row("get: 500 for ever", Get, &[(GET, 1, ALL, Refuse(500, "InternalError"))], Status(503), Old),
        row("get: SlowDown for ever", Get, &[(GET, 1, ALL, Refuse(503, "SlowDown"))], Status(503), Old),
        row("get: denied", Get, &[(GET, 1, ALL, Refuse(403, "AccessDenied"))], Status(503), Old),
        row("get: not there", Get, &[(GET, 1, ALL, Refuse(404, "NoSuchKey"))], Status(404), Old),
        row("get: cut once", Get, &[(GET, 1, 1, Truncate(2_000_000))], Bytes(200), Old),
        row("get: cut in the first frame", Get, &[(GET, 1, 1, Truncate(9_000))], Bytes(200), Old),
        row("get: cut again and again, and getting on", Get, &[(GET, 1, ALL, Truncate(1_500_000))], Bytes(200), Old),
        row("get: cut again and again at one place", Get, &[(GET, 1, 1, Truncate(1_500_000)), (GET, 2, ALL, Truncate(9_000))], Told::Cut, Old),
        row("get: cut, then replaced", Get, &[(GET, 1, 1, Truncate(2_000_000)), (GET, 2, 1, First(renew))], Told::Cut, Other),
        row("get: cut in the first frame, then replaced", Get, &[(GET, 1, 1, Truncate(9_000)), (GET, 2, 1, First(renew))], Bytes(200), Other),
        row("get: a bit of the header", Get, &[(GET, 1, 1, Flip(20))], Status(502), Old),
        row("get: a bit of the first frame", Get, &[(GET, 1, 1, Flip(5_000))], Status(502), Old),
        row("get: a bit of a later frame", Get, &[(GET, 1, 1, Flip(3_000_000))], Told::Cut, Old),
        row("get: no entity tag", Get, &[(GET, 1, 1, NoTag)], Status(502), Old),
        row("get: emptied", Get, &[(GET, 1, 1, First(empty))], Status(502), Other),
        row("range: 500 once", Range, &[(GET, 2, 1, Refuse(500, "InternalError"))], Bytes(206), Old),
        row("range: replaced between header and end", Range, &[(GET, 2, 1, First(renew))], Bytes(206), Other),
        row("range: other bytes than asked", Range, &[(GET, 1, 1, OtherRange)], Status(502), Old),
        row("range: overlooked", Range, &[(GET, 1, 1, NoRange)], Status(502), Old),
        row("range: another entity tag each time", Range, &[(GET, 2, ALL, Tag)], Status(503), Old),
        row("range: a bit of its frame", Range, &[(GET, 3, 1, Flip(100))], Status(502), Old),
        // KMS on the way out.
        row("open: throttled once", Get, &[(DECRYPT, 1, 1, Refuse(400, "ThrottlingException"))], Bytes(200), Old),
        row("open: slow once", Get, &[(DECRYPT, 1, 1, Slow(2_000))], Bytes(200), Old),
        row("open: throttled for ever", Get, &[(DECRYPT, 1, ALL, Refuse(400, "ThrottlingException"))], Status(503), Old),
        row("open: down", Range, &[(DECRYPT, 1, ALL, Reset)], Status(503), Old),
        row("open: denied", Get, &[(DECRYPT, 1, ALL, Refuse(400, "AccessDeniedException"))], Status(503), Old),
        row("open: ciphertext refused", Get, &[(DECRYPT, 1, ALL, Refuse(400, "InvalidCiphertextException"))], Status(502), Old),
        row("open: under another key", Get, &[(DECRYPT, 1, ALL, Key(THEIRS))], Status(502), Old),
        row("open: 31 bytes", Get, &[(DECRYPT, 1, ALL, Short)], Status(502), Old),
        row("open: another context", Get, &[(DECRYPT, 1, 1, First(|world| {
            for wrapped in world.wrapped.values_mut() {
                wrapped.context.insert("sealward-class".into(), "payroll".into());
            }
        }))], Status(502), Old),
        // Removing.
        row("delete: 500 once", Delete, &[(DELETE, 1, 1, Refuse(500, "InternalError"))], Status(204), Nothing),
        row("delete: answer lost", Delete, &[(DELETE, 1, 1, Lost)], Status(204), Nothing),
        row("delete if match: answer lost", DeleteOld, &[(DELETE, 1, 1, Lost)], Status(204), Nothing),
        row("delete if match: another is faster", DeleteOld, &[(DELETE, 1, 1, First(usurp))], Status(412), Other),
        row("delete if match: 500 for ever", DeleteOld, &[(DELETE, 1, ALL, Refuse(500, "InternalError"))], Status(504), Old),
        row("delete: SlowDown for ever", Delete, &[(DELETE, 1, ALL, Refuse(503, "SlowDown"))], Status(503), Old),
        row("delete: denied", Delete, &[(DELETE, 1, ALL, Refuse(403, "AccessDenied"))], Status(503), Old),
    ];
    // The long ones first, so that the end doesn't wait for one of them alone.
    rows.sort_by_key(|row| !row.plan.iter().any(|(.., fault)| matches!(fault, Slow(millis) if *millis > 20_000)));
    rows
}

/// What every row begins with: an empty bucket, and one with the old object.
struct Seeds {
    site: Site,
    empty: World,
    old: World,
    old_bytes: Vec<u8>,
    old_tag: String,
    small: Vec<u8>,
    large: Vec<u8>,
}

impl Seeds {
    fn new() -> Self {
        let site = Site::new();
        let double = Double::start(World { policy: true, ..World::default() });
        let server = serve(&site, &double);
        let empty = double.world().clone();
        assert!(empty.objects.is_empty(), "the canary was removed");
        let old_bytes = pattern(4 * MIB);
        let answer = put(&site, &server, "k", &old_bytes, &[]);
        assert_eq!(answer.status, 201, "{answer:?}");
        let old_tag = answer.header("etag").to_owned();
        let old = double.world().clone();
        Self { site, empty, old, old_bytes, old_tag, small: pattern(150_001), large: pattern(20 * MIB + 1) }
    }

    /// Whether it is what [`usurp`], [`renew`] or [`empty`] have put there.
    fn others(&self, version: &Version) -> bool {
        let old = self.old.current(&key()).map(|old| &old.body);
        version.body.is_empty() || version.body == "somebody else's" || Some(&version.body) == old
    }

    /// What is wrong with `row`, if anything is.
    fn run(&self, row: &Row) -> Result<(), String> {
        let mut world = if row.over { self.old.clone() } else { self.empty.clone() };
        world.versioned = row.versioned;
        let double = Double::start(world);
        // The canary's data key would serve the next upload too.
        let fresh = row.plan.iter().any(|(op, ..)| *op == ISSUE);
        let server = serve_keys(&self.site, &double, if fresh { "max_messages = 1\n" } else { "" });
        for (op, from, times, fault) in row.plan {
            double.plan(op, *from, *times, fault.clone());
        }
        let fresh = ["-H", "If-None-Match: *"];
        let matching = format!("If-Match: {}", self.old_tag);
        let matching = ["-H", matching.as_str()];
        let site = &self.site;
        let url = server.url("k");
        let (tiny, small, large) = (&self.small[..10_001], self.small.as_slice(), self.large.as_slice());
        let (answer, wanted) = match row.act {
            Act::Small => (put(site, &server, "k", small, &[]), small),
            Act::Tiny => (put(site, &server, "k", tiny, &[]), tiny),
            Act::SmallFresh => (put(site, &server, "k", small, &fresh), small),
            Act::SmallOver => (put(site, &server, "k", small, &matching), small),
            Act::Large => (put(site, &server, "k", large, &[]), large),
            Act::LargeFresh => (put(site, &server, "k", large, &fresh), large),
            Act::LargeOver => (put(site, &server, "k", large, &matching), large),
            Act::LargeWrong => {
                let digest = ["-H", "Repr-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"];
                (put(site, &server, "k", large, &digest), large)
            }
            Act::Get => (site.curl([&url]), self.old_bytes.as_slice()),
            Act::Range => (site.curl(["-r", "1000000-1000999", &url]), &self.old_bytes[1_000_000..1_001_000]),
            Act::Delete => (site.curl(["-X", "DELETE", &url]), &[][..]),
            Act::DeleteOld => (site.curl(["-X", "DELETE", matching[0], matching[1], &url]), &[][..]),
        };
        if !double.all_hit() {
            return Err(format!("not every fault came to pass; the client was told {answer:?}"));
        }
        double.calm();
        let told = match row.told {
            Told::Status(status) => answer.status == status && answer.exit == 0,
            Told::Bytes(status) => answer.status == status && answer.exit == 0 && answer.body == wanted,
            Told::Cut => answer.status == 200 && answer.exit != 0 && wanted.starts_with(&answer.body),
        };
        if !told {
            return Err(format!("the client was told {answer:?}\n{}", server.log()));
        }
        let left = double.world().uploads.len();
        if left != row.left {
            return Err(format!("{left} uploads are left\n{}", server.log()));
        }
        let there = double.world().current(&key()).cloned();
        let old = self.old.current(&key());
        match (row.holds, &there) {
            (Holds::Nothing, None) => Ok(()),
            (Holds::Old, there) if there.as_ref() == old => Ok(()),
            // Somebody else's: never what this client has sent.
            (Holds::Other, Some(version)) if Some(version) != old && self.others(version) => Ok(()),
            (Holds::New, Some(version)) if Some(version) != old => {
                drop(server);
                // Whoever comes later opens it with what lies there, and nothing else.
                let server = serve(site, &double);
                let answer = site.get(&server, "k");
                (answer.body == wanted).then_some(()).ok_or_else(|| format!("it doesn't open: {answer:?}"))
            }
            (_, there) => {
                let there = there.as_ref().map(|version| version.body.len());
                Err(format!("the bucket holds {there:?} sealed bytes\n{}", server.log()))
            }
        }
    }
}

#[test]
fn every_fault_is_told_truly_and_leaves_nothing_behind() {
    let seeds = Seeds::new();
    let only = std::env::var("SEALWARD_ROW").unwrap_or_default();
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.name.contains(&only)).collect();
    assert!(!only.is_empty() || rows.len() >= 40, "{} rows", rows.len());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Relaxed)) {
                    if let Err(why) = seeds.run(row) {
                        let text = format!("{} ({:?} → {:?}, {:?}): {why}", row.name, row.act, row.told, row.holds);
                        wrong.lock().expect("not poisoned").push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("not poisoned");
    assert!(wrong.is_empty(), "{} of {} rows:\n\n{}", wrong.len(), rows.len(), wrong.join("\n\n"));
}
