//! Crashes, damage, other holders and full disks.

use std::process::Command;

use super::*;
use crate::fault::Tamper;

#[tokio::test]
async fn leftovers_are_swept_at_open_and_nothing_else() {
    let (folder, store) = fresh();
    let root = folder.path();
    put(&store, "c/whole", 1, b"").await.expect("put");
    put(&store, "c/replaced", 2, b"").await.expect("put");
    put(&store, "c/foreign", 3, b"").await.expect("put");
    drop(store);
    let kept = files(&root.join("c"));
    let stale = |stem: &str, n: u8| root.join(format!("c/{stem}.{}.meta", etag(n).0));
    for path in [stale("whole", 9), stale("replaced", 8), stale("gone", 7)] {
        fs::copy(stale("whole", 1), path).expect("copied");
    }
    fs::write(root.join("c/foreign.sealed"), "no message").expect("written");
    fs::write(root.join("c/notes.meta"), "not ours").expect("written");
    fs::write(root.join(".sealward/uploads/0000000000000000"), "half").expect("written");
    fs::create_dir_all(root.join(".sealward/uploads/x/y")).expect("made");
    let store = FsStore::open(root, metrics()).expect("opens");
    let mut expected = kept;
    expected.push("notes.meta".into());
    expected.sort();
    assert_eq!(files(&root.join("c")), expected);
    assert_eq!(count(&root.join(".sealward/uploads")), 0);
    assert_eq!(store.stat("c/whole").await.expect("stat").expect("is there").attributes, attributes(1));
}

#[test]
fn a_folder_is_held_by_one_store() {
    let (folder, store) = fresh();
    let refused = FsStore::open(folder.path(), metrics()).map(drop).expect_err("held");
    assert!(matches!(refused, OpenError::Held { .. }));
    assert!(refused.to_string().contains("another Sealward holds"), "{refused}");
    drop(store);
    drop(FsStore::open(folder.path(), metrics()).expect("free again"));
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let refused = FsStore::open(&file, metrics()).map(drop).expect_err("a file");
    assert!(refused.to_string().contains("move away"), "{refused}");
    assert!(refused.to_string().contains(file.to_str().expect("text")), "{refused}");
}

#[tokio::test]
async fn damage_is_said_and_can_be_replaced() {
    let (folder, store) = fresh();
    let at = |file: &str| folder.path().join("c").join(file);
    let meta = format!("a.{}.meta", etag(1).0);
    let is = |failure: Failure, reason: Tamper| {
        assert!(matches!(&failure, Failure::Damaged(r, _) if *r == reason), "{failure}");
    };

    put(&store, "c/a", 1, b"").await.expect("put");
    let text = fs::read_to_string(at(&meta)).expect("a sidecar");
    for damage in
        [String::new(), "{".into(), "{}".into(), text.replace("01\",\"entries", "02\",\"entries"), " ".repeat(2 << 20)]
    {
        fs::write(at(&meta), damage).expect("written");
        is(failure(store.read("c/a", Span::Whole, None).await), Tamper::Metadata);
    }
    fs::remove_file(at(&meta)).expect("removed");
    is(failure(store.stat("c/a").await), Tamper::Metadata);
    put(&store, "c/a", 1, b"").await.expect("mended");
    assert!(store.stat("c/a").await.is_ok());

    for foreign in [&b""[..], &message(1, b"")[..34], &[0x41; 100]] {
        fs::write(at("a.sealed"), foreign).expect("written");
        is(failure(store.read("c/a", Span::Whole, None).await), Tamper::Foreign);
        let page = store.list("", None, 10).await.expect("list");
        assert_eq!(page.items[0].etag.0, "damaged");
    }
    assert_eq!(put(&store, "c/a", 2, b"").await.expect("put").replaced, Some(true));
    assert_eq!(files(&folder.path().join("c")).len(), 2, "the damaged one's sidecar went with it");

    fs::rename(at("a.sealed"), at("elsewhere")).expect("moved");
    symlink("elsewhere", at("a.sealed")).expect("made");
    is(failure(store.read("c/a", Span::Whole, None).await), Tamper::Foreign);
    fs::rename(folder.path().join("c"), folder.path().join("d")).expect("moved");
    symlink("d", folder.path().join("c")).expect("made");
    is(failure(store.read("c/a", Span::Whole, None).await), Tamper::Foreign);
    is(failure(put(&store, "c/a", 3, b"").await), Tamper::Foreign);
    is(failure(put(&store, "c/b", 3, b"").await), Tamper::Foreign);
}

/// Logs may not be told names, and what a failure says goes there.
#[tokio::test]
async fn no_failure_tells_a_name() {
    const NAME: &str = "mark-1/mark-2/mark-3";
    let (folder, store) = fresh();
    let inner = folder.path().join("mark-1/mark-2");
    let (message_at, meta_at) = (inner.join("mark-3.sealed"), inner.join(format!("mark-3.{}.meta", etag(1).0)));
    let mut told = Vec::new();
    let mut hears = |failure: Failure| {
        let words = format!("{failure} {failure:?}");
        assert!(!words.contains("mark-"), "{words}");
        told.push(failure);
    };
    let read = || async { failure(store.read(NAME, Span::Whole, None).await) };
    put(&store, NAME, 1, b"").await.expect("put");
    let (whole, text) = (fs::read(&message_at).expect("a message"), fs::read(&meta_at).expect("a sidecar"));
    for damage in [b"{".to_vec(), vec![b' '; 2 << 20]] {
        fs::write(&meta_at, damage).expect("written");
        hears(read().await);
    }
    fs::remove_file(&meta_at).expect("removed");
    hears(read().await);
    fs::create_dir(&meta_at).expect("made");
    hears(read().await);
    hears(failure(put(&store, NAME, 1, b"").await));
    fs::remove_dir(&meta_at).expect("removed");
    fs::write(&meta_at, text).expect("written");
    for foreign in [&b"short"[..], &[b'x'; 100], &[&[2, 4, 0x79][..], &[0; 100]].concat()] {
        fs::write(&message_at, foreign).expect("written");
        hears(read().await);
    }
    fs::remove_file(&message_at).expect("removed");
    fs::create_dir_all(message_at.join("x")).expect("made");
    hears(read().await);
    hears(failure(store.delete(NAME, &Condition::None).await));
    hears(failure(put(&store, NAME, 2, b"").await));
    fs::remove_dir_all(&message_at).expect("removed");
    symlink("mark-4", &message_at).expect("made");
    hears(read().await);
    fs::remove_file(&message_at).expect("removed");
    fs::write(&message_at, whole).expect("written");
    fs::rename(folder.path().join("mark-1"), folder.path().join("mark-5")).expect("moved");
    symlink("mark-5", folder.path().join("mark-1")).expect("made");
    hears(read().await);
    hears(failure(put(&store, NAME, 3, b"").await));
    hears(failure(store.list("mark-1/", None, 1).await));
    fs::remove_file(folder.path().join("mark-1")).expect("removed");
    fs::write(folder.path().join("mark-1"), "in the way").expect("written");
    hears(failure(put(&store, NAME, 3, b"").await));
    hears(failure(store.read(&"mark-".repeat(300), Span::Whole, None).await));
    fs::remove_dir_all(folder.path()).expect("removed");
    hears(failure(put(&store, NAME, 3, b"").await));
    assert!(told.iter().all(|failure| *failure != Failure::NotFound), "{told:?}");
}

#[test]
fn a_folder_that_another_makes_is_synced_too() {
    let (_folder, store) = fresh();
    let path = store.disk.root.join("c");
    let synced = || disk::SYNCED.take().iter().filter(|(path, _)| *path == store.disk.root).count();
    let make = || store.disk.make_folder(&["c".into()]).expect("makes");
    make();
    assert_eq!(synced(), 1);
    make();
    assert_eq!(synced(), 0, "it lasts already");
    // The other has made it, and waits for its sync.
    store.disk.making().insert(path, 1);
    make();
    assert_eq!(synced(), 1);
}

#[test]
fn a_sidecar_lasts_before_its_message_is_there() {
    let (_folder, store) = fresh();
    for n in [1, 2] {
        let draft = Draft::new(&store.disk, Place::of("a").expect("a place"), target("a", n)).expect("a draft");
        draft.temp.write(&message(n, b""), 0).expect("writes");
        let ready = draft.ready().expect("ready");
        disk::SYNCED.take();
        let before = files(&store.disk.root).len();
        ready.publish().expect("publishes");
        let counts: Vec<usize> = disk::SYNCED.take().into_iter().map(|(_, entries)| entries).collect();
        let replaced = usize::from(n > 1);
        assert_eq!(counts, [before + 1, before + 2 - replaced], "with the sidecar, then with both");
    }
}

#[test]
fn errors_of_the_system_have_meanings() {
    let meaning = |code| disk::failure("write", "file", &io::Error::from_raw_os_error(code));
    assert_eq!(meaning(libc::ENOSPC), Failure::NoSpace);
    assert_eq!(meaning(libc::EDQUOT), Failure::NoSpace);
    assert_eq!(meaning(libc::ENOENT), Failure::NotFound);
    for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ESTALE] {
        assert!(matches!(meaning(code), Failure::Unavailable(_)), "{code}");
    }
    for code in [libc::EACCES, libc::EPERM, libc::EROFS] {
        assert!(matches!(meaning(code), Failure::Denied(_)), "{code}");
    }
    assert!(matches!(meaning(libc::ENAMETOOLONG), Failure::Name(_)));
    assert!(matches!(meaning(libc::EIO), Failure::Other(_)));
}

/// Where this process may not mount, in a namespace where it may; only if it may
/// have neither it says so and ends.
#[tokio::test]
async fn a_full_disk_is_said_optional() {
    let folder = TempDir::new().expect("a folder");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "none"]).arg(folder.path()).output();
    if !mounted.is_ok_and(|done| done.status.success()) {
        again_where_mounts_are_allowed();
        return;
    }
    let store = FsStore::open(folder.path(), metrics()).expect("opens");
    let whole = put(&store, "a/b", 1, &vec![0; 600_000]).await.map(drop);
    let mut upload = store.begin(target("a/b", 1)).await.expect("begin");
    let mut parts = Ok(());
    for _ in 0..20 {
        parts = parts.and(upload.part(vec![2; 100_000].into()).await);
    }
    let left = count(&store.disk.uploads);
    let complete = upload.complete().await.map(drop);
    let mended = put(&store, "a/b", 1, b"small").await.map(drop);
    drop(store);
    let unmounted = Command::new("umount").arg(folder.path()).status();
    assert!(unmounted.is_ok_and(|done| done.success()));
    assert_eq!((whole, parts, complete), (Err(Failure::NoSpace), Err(Failure::NoSpace), Err(Failure::NoSpace)));
    assert_eq!((left, mended), (0, Ok(())));
}

fn again_where_mounts_are_allowed() {
    const INSIDE: &str = "SEALWARD_TEST_MAY_MOUNT";
    let test = "store::fs::tests::faults::a_full_disk_is_said_optional";
    let again = std::env::current_exe().expect("this binary");
    let inside =
        || Command::new("unshare").args(["-Urm", "--"]).arg(&again).args(["--exact", test]).env(INSIDE, "").output();
    let ran = std::env::var_os(INSIDE).is_none().then(inside).and_then(Result::ok);
    let ran = ran.map(|ran| (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned()));
    match ran {
        Some((Some(0), words)) => assert!(words.contains("1 passed"), "{words}"),
        // What a failed test ends with; `unshare` itself ends with 1.
        Some((Some(101), words)) => panic!("{words}"),
        #[allow(clippy::print_stderr)] // to whoever reads with --nocapture
        _ => eprintln!("skipped: a small disk can't be mounted here"),
    }
}
