use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{local::*, *};
use crate::{config::KeyCache as Bounds, fault::Tamper, metrics::Metrics};

fn context(class: &str) -> EncryptionContext {
    EncryptionContext::new([("sealward-class", class)]).expect("valid")
}

fn keyring(text: &str) -> (tempfile::TempDir, Result<Arc<Keyring>, KeyringError>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keyring.json");
    std::fs::write(&path, text).expect("writes");
    let ring = Keyring::load(&path, COMMAND_BLOCK).map(Arc::new);
    (folder, ring)
}

const KEY_A: &str = r#"{"namespace":"n","name":"a","wrapping_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;
const KEY_B: &str = r#"{"namespace":"n","name":"b","wrapping_key":"HxECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;

#[tokio::test]
async fn the_first_key_seals_and_all_open() {
    let (_folder, ring) = keyring(&format!("[{KEY_A},{KEY_B}]"));
    let ring = ring.expect("a keyring");
    let old = ring.view(Some("b"), &[], None).expect("b is there").generate(&context("c")).await.expect("wraps");
    let all = ring.view(None, &[], None).expect("a view");
    assert_eq!(all.generate(&context("c")).await.expect("wraps").name, "a");
    let key = all.unwrap(&old.encrypted[0], &context("c")).await.expect("opens");
    assert_eq!(key.expose(), old.key.expose());
    let other = all.unwrap(&old.encrypted[0], &context("d")).await;
    assert!(matches!(other, Err(KeyFailure::Refused(_))), "another context");

    let narrow = ring.view(None, &[], Some(&["n/a".to_owned()])).expect("a view");
    assert_eq!(narrow.recognise(&old.encrypted[0]), None, "b isn't among its read keys");

    let both = ring.view(None, &["b".to_owned()], None).expect("a view").generate(&context("c")).await.expect("wraps");
    for wrapped in &both.encrypted {
        let key = all.unwrap(wrapped, &context("c")).await.expect("either opens");
        assert_eq!(key.expose(), both.key.expose());
    }
    assert_eq!(both.encrypted.len(), 2);
}

#[test]
fn what_is_no_keyring_is_refused_without_showing_a_key() {
    let secret = "c2VjcmV0LXNlY3JldA==";
    for text in [
        String::new(),
        "[]".into(),
        "{}".into(),
        format!(r#"{{"namespace":"n","name":"a","wrapping_key":"{secret}"}}"#),
        format!(r#"{{"namespace":"n","name":"a","wrapping_key":"{secret}","x":1}}"#),
        format!(r#"{{"namespace":"n","name":7,"wrapping_key":"{secret}"}}"#),
        format!("[{KEY_A},{KEY_A}]"),
        KEY_A.replace("\"n\"", "\"aws-kms\""),
        KEY_A.replace("\"a\"", "\"\""),
    ] {
        let (_folder, ring) = keyring(&text);
        let error = ring.expect_err("no keyring").to_string();
        assert!(!error.contains(secret), "{error}");
        assert!(error.contains("keyring.json"), "{error}");
    }
}

/// Where the text is parsed straight into what is wiped, its faults have places.
#[test]
fn a_fault_in_a_keyring_has_a_place() {
    let faulty = KEY_A.replace("\"a\"", "\n7");
    for text in [faulty.clone(), format!("[\n{faulty}]"), format!(" \n[{KEY_A},{faulty}]")] {
        let (_folder, ring) = keyring(&text);
        let error = ring.expect_err("no keyring").to_string();
        let line = text.matches('\n').count() + 1;
        assert!(error.contains(&format!("line {line}, column 1:")), "{error}");
    }
    let (_folder, ring) = keyring(&format!("\n \t{KEY_A}\n"));
    assert!(ring.is_ok());
}

/// On a runtime of one thread, which a wait inside `generate` would stop.
#[tokio::test]
async fn a_wait_for_the_count_holds_no_worker() {
    let (folder, ring) = keyring(KEY_A);
    let view = ring.expect("a keyring").view(None, &[], None).expect("a view");
    let held = std::fs::File::open(folder.path()).expect("a folder");
    held.lock().expect("locks");
    let context = context("c");
    let mut generated = view.generate(&context);
    let soon = Duration::from_millis(50);
    tokio::time::timeout(soon, &mut generated).await.map(drop).expect_err("another process counts");
    held.unlock().expect("unlocks");
    assert_eq!(generated.await.expect("generates").name, "a");
}

/// A provider whose calls wait for leave, and can be made to fail.
struct Gate {
    inner: LocalKeys,
    calls: AtomicUsize,
    leave: Notify,
    fail: bool,
}

#[async_trait]
impl KeyProvider for Gate {
    async fn generate(&self, context: &EncryptionContext) -> Result<Generated, KeyFailure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.leave.notified().await;
        if self.fail { Err(KeyFailure::Unavailable("closed".into())) } else { self.inner.generate(context).await }
    }
    fn recognise(&self, data_key: &EncryptedDataKey) -> Option<&str> {
        self.inner.recognise(data_key)
    }
    async fn unwrap(&self, data_key: &EncryptedDataKey, context: &EncryptionContext) -> Result<Key256, KeyFailure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.unwrap(data_key, context).await
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    gate: Arc<Gate>,
    keys: Arc<DataKeys>,
    bounds: Bounds,
}

impl Bench {
    fn new(bounds: Bounds, fail: bool) -> Self {
        let (folder, ring) = keyring(KEY_A);
        let inner = ring.expect("a keyring").view(None, &[], None).expect("a view");
        let gate = Arc::new(Gate { inner, calls: AtomicUsize::new(0), leave: Notify::new(), fail });
        let keys = Arc::new(Self::over(&gate, bounds));
        Self { _folder: folder, gate, keys, bounds }
    }

    fn over(gate: &Arc<Gate>, bounds: Bounds) -> DataKeys {
        let metrics = Metrics::new().expect("metrics");
        DataKeys::new("c", Arc::clone(gate) as Arc<dyn KeyProvider>, bounds, Unwrapped::new(&bounds), metrics)
    }

    fn calls(&self) -> usize {
        self.gate.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn one_call_serves_all_who_ask_and_outlives_the_first() {
    let bench = Bench::new(Bounds::default(), false);
    let ask = || {
        let keys = Arc::clone(&bench.keys);
        tokio::spawn(async move { keys.issue(&context("c"), true).await.map(|lease| *lease.key().expose()) })
    };
    let first = ask();
    while bench.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let others = [ask(), ask(), ask()];
    tokio::task::yield_now().await;
    first.abort();
    bench.gate.leave.notify_one();
    let mut seen = Vec::new();
    for other in others {
        seen.push(other.await.expect("ends").expect("a key"));
    }
    assert_eq!(bench.calls(), 1);
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_waited_and_not_kept() {
    let bench = Bench::new(Bounds::default(), true);
    for call in 1..=2 {
        bench.gate.leave.notify_one();
        assert!(matches!(bench.keys.issue(&context("c"), true).await, Err(KeyFailure::Unavailable(_))));
        assert_eq!(bench.calls(), call);
    }
}

#[tokio::test]
async fn bounds_stop_new_messages() {
    for (bounds, charge, uses) in [
        (Bounds { max_messages: 3, ..Bounds::default() }, 0, 3),
        (Bounds { max_messages: 1, ..Bounds::default() }, 0, 1),
        (Bounds { max_bytes: 100, ..Bounds::default() }, 50, 2),
        (Bounds { max_age: Duration::ZERO, max_messages: 1, ..Bounds::default() }, 0, 1),
    ] {
        let bench = Bench::new(bounds, false);
        for _ in 0..uses {
            bench.gate.leave.notify_one();
            bench.keys.issue(&context("c"), true).await.expect("a key").charge(charge);
        }
        assert_eq!(bench.calls(), 1, "{:?}", bench.bounds);
        bench.gate.leave.notify_one();
        bench.keys.issue(&context("c"), true).await.expect("a key");
        assert_eq!(bench.calls(), 2, "{:?}", bench.bounds);
    }
}

#[tokio::test]
async fn messages_at_once_that_share_nothing_get_a_key_each() {
    for (bounds, shared) in [(Bounds { max_messages: 1, ..Bounds::default() }, true), (Bounds::default(), false)] {
        let bench = Bench::new(bounds, false);
        let ask = || {
            let keys = Arc::clone(&bench.keys);
            tokio::spawn(async move { keys.issue(&context("c"), shared).await.map(|lease| *lease.key().expose()) })
        };
        let (one, other) = (ask(), ask());
        while bench.calls() < 2 {
            tokio::task::yield_now().await;
        }
        bench.gate.leave.notify_waiters();
        let (one, other) = (one.await.expect("ends").expect("a key"), other.await.expect("ends").expect("a key"));
        assert_ne!(one, other);
    }
}

#[tokio::test]
async fn contexts_never_share_a_key_and_strict_ones_never_at_all() {
    let bench = Bench::new(Bounds::default(), false);
    let mut seen = std::collections::HashSet::new();
    for (name, shared) in [("c", true), ("d", true), ("c", false), ("c", false)] {
        bench.gate.leave.notify_one();
        let lease = bench.keys.issue(&context(name), shared).await.expect("a key");
        assert!(seen.insert(*lease.key().expose()), "{name}");
    }
}

#[tokio::test]
async fn unwrapped_keys_are_seeded_by_issue_and_kept_apart() {
    let bench = Bench::new(Bounds::default(), false);
    bench.gate.leave.notify_one();
    let lease = bench.keys.issue(&context("c"), true).await.expect("a key");
    let opened = bench.keys.open(lease.encrypted(), &context("c")).await.expect("opens");
    assert_eq!(opened.key.expose(), lease.key().expose());
    assert_eq!(bench.calls(), 1, "seeded: nothing was unwrapped");

    let fresh = Bench::over(&bench.gate, bench.bounds);
    for _ in 0..2 {
        fresh.open(lease.encrypted(), &context("c")).await.expect("opens");
    }
    assert_eq!(bench.calls(), 2, "unwrapped once, then remembered");

    let mut bad = lease.encrypted().to_vec();
    bad[0].ciphertext[0] ^= 1;
    for _ in 0..2 {
        let Err(OpenFailure::Damage(damage)) = fresh.open(&bad, &context("c")).await else { panic!("must not open") };
        assert_eq!(damage.reason, Tamper::Unwrap);
    }
    assert_eq!(bench.calls(), 3, "the refusal is remembered for a while");
    bad[0].provider = b"other".to_vec();
    let Err(OpenFailure::Damage(damage)) = fresh.open(&bad, &context("c")).await else { panic!("must not open") };
    assert_eq!(damage.reason, Tamper::DataKey);
    assert_eq!(bench.calls(), 3, "a stranger's key is never tried");
}
