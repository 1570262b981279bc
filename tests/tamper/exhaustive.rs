//! Small objects, damaged in every place there is. In this process and without
//! sockets, so that tens of thousands of readings take seconds; every reading is
//! a cold one, by an [`Objects`] that has seen nothing yet.

use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};

use sealward::{
    budget::Budget,
    config::{Class, Config},
    fault::{Fault, Kind, Tamper},
    keys::{
        DataKeys, Unwrapped,
        local::{COMMAND_BLOCK, Keyring},
    },
    metrics::Metrics,
    objects::{Answer, Bounds, Chunks, ObjectKey, Objects, RangeSpec, Slots, Wanted},
    store::{Store, fs::FsStore},
};
use tempfile::TempDir;

use crate::{
    lab::{Forgery, fixture, forge},
    object::Object,
    support::pattern,
};

const KEY: &str = "small.bin";
const RANGES: [RangeSpec; 5] = [
    RangeSpec::From(0, Some(0)),
    RangeSpec::From(10, Some(40)),
    RangeSpec::From(33, None),
    RangeSpec::Last(1),
    RangeSpec::From(1 << 40, None),
];

/// One class over a folder, no server.
struct Bench {
    folder: TempDir,
    class: Class,
    keys: Arc<DataKeys>,
    store: Arc<dyn Store>,
    bounds: Bounds,
    metrics: Metrics,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = folder.path().join("keyring.json");
        Keyring::create(&ring, "test", "key-1").expect("a keyring");
        let text = "[keys]\nprovider = \"local\"\nkeyring = \"keyring.json\"\n\
                    [[class]]\nname = \"records\"\ndirectory = \"objects\"\n";
        let listener = "[[listener]]\nbind = \"127.0.0.1:0\"\n\
                        tls = { source = { files = { cert = \"c.pem\", key = \"k.pem\" } } }\n\
                        [[route]]\npath = \"/\"\npublic = true\nseal = { class = \"records\" }\n";
        let config = Config::parse(&format!("{text}{listener}"), "bench", folder.path()).expect("a configuration");
        let class = config.classes[0].clone();
        let metrics = Metrics::new().expect("metrics");
        let keyring = Arc::new(Keyring::load(&ring, COMMAND_BLOCK).expect("a keyring"));
        let provider = Arc::new(keyring.view(None, &class.recipients, class.read_keys.as_deref()).expect("keys"));
        let cache = config.keys.expect("keys").cache;
        let keys = Arc::new(DataKeys::new("records", provider, cache, Unwrapped::new(&cache), metrics.clone()));
        let store = Arc::new(FsStore::open(&folder.path().join("objects"), metrics.clone()).expect("a store"));
        let bounds = Bounds {
            budget: Budget::new(64 << 20),
            buffer_wait: Duration::from_secs(5),
            min_rate: 0,
            max_part: 8 << 20,
            send_idle: Duration::from_secs(5),
            uploads: Slots::new(4),
        };
        Self { folder, class, keys, store, bounds, metrics }
    }

    fn stem(&self) -> PathBuf {
        self.folder.path().join("objects").join(KEY)
    }

    fn forge(&self, frame: u32, truth: &[u8]) -> Object {
        let forgery = Forgery { frame, ..Forgery::honest("records", KEY) };
        forge(&self.folder.path().join("keyring.json"), &forgery, truth)
    }

    /// Reads the object by somebody who has never seen it: all of what came out,
    /// where it begins, and how it ended.
    async fn read(&self, range: Option<RangeSpec>) -> (u64, Vec<u8>, Result<(), Fault>) {
        let (store, keys) = (Arc::clone(&self.store), Arc::clone(&self.keys));
        let objects = Objects::new(self.class.clone(), store, keys, self.bounds.clone(), self.metrics.clone());
        let key = ObjectKey::new(KEY, "").expect("a key");
        match Arc::new(objects).read(&key, &Wanted { range, ..Wanted::default() }).await {
            Ok(Answer::Whole(found)) => drain(0, found.chunks).await,
            Ok(Answer::Part { found, first, .. }) => drain(first, found.chunks).await,
            Ok(Answer::Unsatisfiable { .. }) => (0, Vec::new(), Ok(())),
            Ok(Answer::NotModified(_)) => panic!("nobody asked whether it was modified"),
            Err(fault) => (0, Vec::new(), Err(fault)),
        }
    }

    /// Reads it whole and by ranges; none may say what isn't so, and the whole must
    /// be refused. Returns why it was.
    async fn refused(&self, truth: &[u8], what: &str) -> Tamper {
        for range in RANGES {
            let (first, bytes, end) = self.read(Some(range)).await;
            let first = usize::try_from(first).expect("short");
            assert!(truth[first..].starts_with(&bytes), "{what}, {range:?}: bytes that were never sealed");
            if let Err(fault) = end {
                assert_eq!(fault.kind(), Kind::Damaged, "{what}, {range:?}: {fault}");
            }
        }
        let (_, bytes, end) = self.read(None).await;
        let fault = end.expect_err(what);
        assert_eq!(fault.kind(), Kind::Damaged, "{what}: {fault}");
        assert!(truth.starts_with(&bytes) && bytes.len() < truth.len().max(1), "{what}: {} bytes", bytes.len());
        fault.tamper().expect("is counted")
    }
}

async fn drain(first: u64, mut chunks: Chunks) -> (u64, Vec<u8>, Result<(), Fault>) {
    let mut bytes = Vec::new();
    loop {
        match std::future::poll_fn(|cx| chunks.poll_next(cx)).await {
            Some(Ok(piece)) => bytes.extend_from_slice(&piece),
            Some(Err(fault)) => return (first, bytes, Err(fault)),
            None => return (first, bytes, Ok(())),
        }
    }
}

#[tokio::test]
async fn cut_anywhere_it_is_refused() {
    let bench = Bench::new();
    // Three frames and a part of one; three frames exactly; one that is the final one; none.
    for length in [3 * 16 + 5, 3 * 16, 7, 0] {
        let truth = pattern(length);
        let whole = bench.forge(16, &truth);
        whole.lay(&bench.stem());
        assert!(bench.read(None).await.2.is_ok(), "uncut it is good");
        let file = File::options().write(true).open(bench.stem().with_extension("bin.sealed")).expect("opens");
        for end in (0..whole.message.len()).rev() {
            file.set_len(end as u64).expect("cuts");
            let reason = bench.refused(&truth, &format!("{length} bytes, cut to {end}")).await;
            let expected = match end {
                0..35 => &[Tamper::Foreign][..],
                _ if end < whole.header + 40 => &[Tamper::Length],
                _ => &[Tamper::Length, Tamper::Frame],
            };
            assert!(expected.contains(&reason), "{length} bytes, cut to {end}: {reason:?}");
        }
    }
}

#[tokio::test]
async fn cut_anywhere_in_frames_of_4_kib_it_is_refused() {
    let bench = Bench::new();
    let truth = pattern(3 * 4096 + 100);
    let whole = bench.forge(4096, &truth);
    whole.lay(&bench.stem());
    let file = File::options().write(true).open(bench.stem().with_extension("bin.sealed")).expect("opens");
    for end in (whole.header..whole.message.len()).rev() {
        file.set_len(end as u64).expect("cuts");
        let (_, bytes, outcome) = bench.read(None).await;
        let fault = outcome.expect_err("is cut");
        assert!(bytes.is_empty() && fault.kind() == Kind::Damaged, "cut to {end}: {fault}");
    }
}

#[tokio::test]
async fn made_longer_by_anything_it_is_refused() {
    let bench = Bench::new();
    let truth = pattern(3 * 16 + 5);
    let whole = bench.forge(16, &truth);
    for more in 1..=200 {
        for bytes in [vec![0; more], whole.message[whole.message.len() - more..].to_vec()] {
            let mut longer = whole.clone();
            longer.message.extend(bytes);
            longer.lay(&bench.stem());
            let reason = bench.refused(&truth, &format!("longer by {more}")).await;
            assert!(matches!(reason, Tamper::Length | Tamper::Frame), "longer by {more}: {reason:?}");
        }
    }
}

#[tokio::test]
async fn any_bit_flipped_it_is_refused() {
    let bench = Bench::new();
    let truth = pattern(2 * 16 + 5);
    let whole = bench.forge(16, &truth);
    for at in 0..whole.message.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped.message[at] ^= 1 << bit;
            flipped.lay(&bench.stem());
            let reason = bench.refused(&truth, &format!("bit {bit} of byte {at}")).await;
            match at {
                0..=2 => assert!(matches!(reason, Tamper::Foreign | Tamper::Suite), "{at}: {reason:?}"),
                3..35 => assert_eq!(reason, Tamper::MessageId, "{at}"),
                _ if at >= whole.header => assert_eq!(reason, Tamper::Frame, "{at}"),
                _ => assert!(!matches!(reason, Tamper::Frame | Tamper::Foreign), "{at}: {reason:?}"),
            }
        }
    }
}

#[tokio::test]
async fn no_message_of_the_vectors_is_taken_for_an_object() {
    let bench = Bench::new();
    let own = bench.forge(16, b"own");
    let mut seen = 0;
    for entry in std::fs::read_dir(fixture("vectors")).expect("vectors") {
        let path = entry.expect("reads").path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            let mut object = own.clone();
            object.message = std::fs::read(&path).expect("reads");
            // Whatever its hints say, it is somebody else's.
            for header in [own.header, object.message.len()] {
                object.set("sealward-header", header);
                object.lay(&bench.stem());
                bench.refused(b"", &path.display().to_string()).await;
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} vectors");
}
