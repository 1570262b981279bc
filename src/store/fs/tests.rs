//! The store on real folders.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path};

use proptest::{prelude::*, test_runner::TestRunner};
use tempfile::TempDir;

use super::*;
use crate::store::Source;

mod faults;

#[tokio::test]
async fn puts_reads_and_deletes() {
    let (folder, store) = fresh();
    let stored = put(&store, "class/a.txt", 1, b"bytes").await.expect("put");
    assert_eq!(stored.etag, etag(1));
    assert_eq!(stored.replaced, Some(false));
    let file = fs::read(folder.path().join("class/a.txt.sealed")).expect("a bare file");
    assert_eq!(file, message(1, b"bytes"));

    let stat = store.stat("class/a.txt").await.expect("stat").expect("is there");
    assert_eq!((stat.length, &stat.etag), (file.len() as u64, &etag(1)));
    assert_eq!(stat.attributes, attributes(1));
    let reading = store.read("class/a.txt", Span::Whole, None).await.expect("read");
    assert_eq!(reading.stat.attributes, attributes(1));
    assert_eq!(bytes_of(reading.source, 7).await, file);
    let reading = store.read("class/a.txt", Span::Part { start: 35, length: 3 }, None).await.expect("read");
    assert_eq!(bytes_of(reading.source, 100).await, b"byt");
    for start in [40, 41, u64::MAX] {
        let reading = store.read("class/a.txt", Span::Part { start, length: u64::MAX }, None).await.expect("read");
        assert_eq!(bytes_of(reading.source, 100).await, b"");
    }

    assert_eq!(put(&store, "class/a.txt", 2, b"").await.expect("put").replaced, Some(true));
    store.delete("class/a.txt", &Condition::None).await.expect("delete");
    assert_eq!(store.delete("class/a.txt", &Condition::None).await, Err(Failure::NotFound));
    assert!(store.stat("class/a.txt").await.expect("stat").is_none());
    assert_eq!(failure(store.read("class/a.txt", Span::Whole, None).await), Failure::NotFound);
    nothing_left(folder.path());
}

#[tokio::test]
async fn parts_make_large_messages_and_fills_keep_what_the_buffer_has() {
    let (folder, store) = fresh();
    let whole = message(1, &(0..=255).cycle().take(3_000_000).collect::<Vec<u8>>());
    let mut upload = store.begin(target("big", 1)).await.expect("begin");
    for part in whole.chunks(700_001) {
        upload.part(part.to_vec().into()).await.expect("part");
        assert!(store.stat("big").await.expect("stat").is_none());
    }
    assert_eq!(upload.complete().await.expect("complete").replaced, Some(false));
    let before = store.metrics.store_read_bytes.get();
    let mut source = store.read("big", Span::Whole, None).await.expect("read").source;
    let mut buffer = Vec::with_capacity(3 + (1 << 20));
    buffer.extend_from_slice(b"abc");
    let place = buffer.as_ptr();
    assert_eq!(source.fill(&mut buffer, 1 << 20).await, Ok(1 << 20));
    assert_eq!(buffer.as_ptr(), place, "no reallocation");
    assert_eq!(&buffer[..3], b"abc");
    assert_eq!(buffer[3..], whole[..1 << 20]);
    assert_eq!(bytes_of(source, 1_234_567).await, whole[1 << 20..]);
    assert_eq!(store.metrics.store_read_bytes.get() - before, whole.len() as u64);
    assert_eq!(count(&folder.path().join(".sealward/uploads")), 0);
}

#[tokio::test]
async fn conditions_hold_or_leave_nothing() {
    let (folder, store) = fresh();
    let matches = |n| Condition::Matches(etag(n));
    assert_eq!(put_if(&store, "x/a", 1, matches(1)).await, Err(Failure::Precondition));
    nothing_left(folder.path());
    put_if(&store, "x/a", 1, Condition::Absent).await.expect("nothing was there");
    assert_eq!(put_if(&store, "x/a", 2, Condition::Absent).await, Err(Failure::Precondition));
    assert_eq!(put_if(&store, "x/a", 2, matches(2)).await, Err(Failure::Precondition));
    assert_eq!(put_if(&store, "x/a", 2, matches(1)).await, Ok(true));
    assert_eq!(put_if(&store, "x/a", 2, matches(2)).await, Ok(true), "the same message again");
    assert_eq!(store.stat("x/a").await.expect("stat").expect("is there").attributes, attributes(2));
    assert_eq!(store.delete("x/a", &matches(1)).await, Err(Failure::Precondition));
    let mut upload = store.begin(Target { condition: Condition::Absent, ..target("x/a", 3) }).await.expect("begin");
    upload.part(message(3, b"").into()).await.expect("part");
    assert_eq!(upload.complete().await.map(drop), Err(Failure::Precondition));
    assert_eq!(files(&folder.path().join("x")).len(), 2);
    store.delete("x/a", &matches(2)).await.expect("delete");
    nothing_left(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_creators_one_wins() {
    let (folder, store) = fresh();
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { put_if(&store, "deep/er/a", n, Condition::Absent).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(replaced) => won += usize::from(!replaced),
            Err(failure) => assert_eq!(failure, Failure::Precondition),
        }
    }
    assert_eq!(won, 1);
    assert!(store.stat("deep/er/a").await.expect("stat").is_some());
    assert_eq!(files(&folder.path().join("deep/er")).len(), 2);
    assert_eq!(count(&folder.path().join(".sealward/uploads")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn puts_and_deletes_race_for_folders_and_readers_never_see_damage() {
    let (folder, store) = fresh();
    let store = Arc::new(store);
    let mut tasks = Vec::new();
    for n in 0..8_u8 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let own = format!("f/g/{}", n % 4);
            for _ in 0..40 {
                put(&store, &own, n, b"x").await.expect("put");
                for name in [&own, "f/g/0"] {
                    match store.read(name, Span::Whole, None).await {
                        Ok(reading) => {
                            let etag = reading.stat.etag.clone();
                            let bytes = bytes_of(reading.source, 100).await;
                            assert_eq!(etag.0, hex::encode(&bytes[3..19]));
                        }
                        Err(failure) => assert_eq!(failure, Failure::NotFound),
                    }
                }
                if let Err(failure) = store.delete(&own, &Condition::None).await {
                    assert_eq!(failure, Failure::NotFound);
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    nothing_left(folder.path());
}

#[tokio::test]
async fn a_reader_keeps_the_bytes_it_opened() {
    let (_folder, store) = fresh();
    let old = vec![1; 500_000];
    put(&store, "a", 1, &old).await.expect("put");
    let reading = store.read("a", Span::Whole, Some(&etag(1))).await.expect("read");
    put(&store, "a", 2, b"new").await.expect("put");
    assert_eq!(bytes_of(reading.source, 100_000).await, message(1, &old));
    assert_eq!(failure(store.read("a", Span::Whole, Some(&etag(1))).await), Failure::Precondition);
    assert!(store.read("a", Span::Whole, Some(&etag(2))).await.is_ok());
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let (folder, store) = fresh();
    let mut upload = store.begin(target("a/b", 1)).await.expect("begin");
    upload.part(message(1, &vec![0; 100_000]).into()).await.expect("part");
    upload.abort().await;
    nothing_left(folder.path());
    let mut upload = store.begin(target("a/b", 1)).await.expect("begin");
    upload.part(message(1, &vec![0; 100_000]).into()).await.expect("part");
    upload.part(b"x".as_slice().into()).await.expect("part");
    drop(upload);
    for _ in 0..3000 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        if count(&folder.path().join(".sealward/uploads")) == 0 {
            break;
        }
    }
    nothing_left(folder.path());
    let wrong_id = store.put(target("a/b", 1), message(2, b"").into()).await;
    assert!(matches!(wrong_id, Err(Failure::Other(_))));
    let wrong_length = Target { length: Some(99), ..target("a/b", 1) };
    assert!(matches!(store.put(wrong_length, message(1, b"").into()).await, Err(Failure::Other(_))));
    nothing_left(folder.path());
}

#[tokio::test]
async fn lists_are_in_the_order_of_bytes() {
    let (folder, store) = fresh();
    let long = "l".repeat(180);
    let mut names: Vec<String> = [
        "a",
        "a.b",
        "a/b",
        "a/",
        "a//",
        "a b",
        "a!",
        "a0",
        "A",
        "é",
        "é/ü",
        "😀",
        ".sealed",
        "x.sealed/y",
        "x.meta",
        "x.meta/z",
        "%2F",
        "%-",
        "%_",
        "/lead",
        ".sealward/lock",
        ".sealward/uploads/x",
        "..",
        "../x",
    ]
    .map(String::from)
    .to_vec();
    for end in ["", "/x", "!", "0", "é", ".", "../x", "lllllll/b"] {
        names.push(format!("{long}{end}"));
    }
    names.push("ü".repeat(400));
    names.push(format!("{}/z", "ü".repeat(400)));
    for (n, name) in names.iter().enumerate() {
        put(&store, name, u8::try_from(n).expect("few"), b"x").await.expect(name);
    }
    fs::write(folder.path().join("notes.txt"), "not ours").expect("written");
    fs::create_dir(folder.path().join("lost+found")).expect("made");
    fs::write(folder.path().join("lost+found/b.sealed"), "not ours").expect("written");
    symlink("/", folder.path().join("link")).expect("made");
    names.sort();
    for limit in [1, 3, 1000] {
        assert_eq!(all(&store, "", limit).await, names, "by {limit}");
    }
    let page = store.list("", None, names.len()).await.expect("list");
    assert!(!page.more && page.items.iter().all(|item| item.length == 36));
    assert!(store.list("", None, 0).await.expect("list").more);
    for prefix in ["a", "a/", "a//", "l", &long, "ü", ".sealward/", "nothing", "nothing/", "x.", "é"] {
        let expected: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
        assert_eq!(all(&store, prefix, 2).await, expected, "under {prefix}");
    }
    for name in &names {
        store.delete(name, &Condition::None).await.expect("delete");
    }
    assert!(all(&store, "", 10).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn lists_wait_for_each_other_and_for_nothing_else() {
    let (_folder, store) = fresh();
    put(&store, "a", 1, b"x").await.expect("put");
    let all = Arc::clone(&store.lists).acquire_many_owned(4).await.expect("open");
    let mut list = Box::pin(store.list("", None, 1));
    assert!(store.stat("a").await.expect("stat").is_some());
    let soon = std::time::Duration::from_secs(1);
    tokio::time::timeout(soon, &mut list).await.expect_err("four lists are under way");
    drop(all);
    assert_eq!(list.await.expect("list").items.len(), 1);
    assert_eq!(store.lists.available_permits(), 4);
}

#[test]
fn lists_are_those_of_a_sorted_map() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let name = "[ab./]{1,5}|a{178,182}[b/]{0,2}";
    let case = (
        proptest::collection::btree_set(name, 0..12),
        "[ab./]{0,2}|a{179,181}",
        proptest::option::of(name),
        0..5_usize,
    );
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() });
    let done = runner.run(&case, |(names, prefix, after, limit)| {
        let (_folder, store) = fresh();
        runtime.block_on(async {
            for name in &names {
                put(&store, name, 1, b"").await.expect("put");
            }
            let wanted = |name: &&String| name.starts_with(&prefix) && after.as_ref().is_none_or(|after| *name > after);
            let expected: Vec<&String> = names.iter().filter(wanted).collect();
            let page = store.list(&prefix, after.as_deref(), limit).await.expect("list");
            prop_assert_eq!(page.more, expected.len() > limit);
            let listed: Vec<&String> = page.items.iter().map(|item| &item.name).collect();
            prop_assert_eq!(&listed[..], &expected[..limit.min(expected.len())]);
            Ok(())
        })
    });
    done.expect("every case holds");
}

fn fresh() -> (TempDir, FsStore) {
    let folder = TempDir::new().expect("a folder");
    let store = FsStore::open(folder.path(), metrics()).expect("opens");
    (folder, store)
}

fn metrics() -> Metrics {
    Metrics::new().expect("registers")
}

fn target(name: &str, n: u8) -> Target {
    let attributes = attributes(n);
    Target {
        name: name.into(),
        attributes,
        condition: Condition::None,
        id: MessageId::from([n; 32]),
        length: None,
        tells: false,
    }
}

fn message(n: u8, rest: &[u8]) -> Vec<u8> {
    [&[2, 4, 0x78][..], &[n; 32], rest].concat()
}

fn etag(n: u8) -> ETag {
    ETag(hex::encode([n; 16]))
}

fn attributes(n: u8) -> Attributes {
    let entries = BTreeMap::from([("sealward-n".into(), n.to_string())]);
    Attributes { entries, headers: BTreeMap::from([("content-type".into(), "text/plain; x=\"é\"".into())]) }
}

async fn put(store: &FsStore, name: &str, n: u8, rest: &[u8]) -> Result<Stored, Failure> {
    store.put(target(name, n), message(n, rest).into()).await
}

async fn put_if(store: &FsStore, name: &str, n: u8, condition: Condition) -> Result<bool, Failure> {
    let done = store.put(Target { condition, ..target(name, n) }, message(n, b"").into()).await;
    done.map(|stored| stored.replaced.expect("a folder can tell"))
}

async fn bytes_of(mut source: Box<dyn Source>, step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while source.fill(&mut bytes, step).await.expect("fill") > 0 {}
    bytes
}

async fn all(store: &FsStore, prefix: &str, limit: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let page = store.list(prefix, names.last().map(String::as_str), limit).await.expect("list");
        assert!(page.items.len() <= limit);
        names.extend(page.items.into_iter().map(|item| item.name));
        if !page.more {
            return names;
        }
    }
}

fn failure<T>(done: Result<T, Failure>) -> Failure {
    done.err().expect("a failure")
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

fn count(folder: &Path) -> usize {
    files(folder).len()
}

fn nothing_left(root: &Path) {
    assert_eq!(files(root), [".sealward"]);
    assert_eq!(files(&root.join(".sealward")), ["lock", "uploads"]);
    assert_eq!(count(&root.join(".sealward/uploads")), 0);
}
