//! A disk that is full: 507, nothing left behind, and all well once there is room.
//!
//! `optional`: making a small disk takes root, or a namespace of one's own in which
//! they run again; without either these tests say so and end.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::Command,
};

use crate::{
    clients::{Http2, MIB, await_calm},
    support::{Site, files_below, pattern},
};

/// Says that this process is in a namespace of its own.
const INSIDE: &str = "SEALWARD_TEST_MAY_MOUNT";

/// Runs `test` again in a namespace where it may mount; `false` if there can be none.
fn passes_inside(test: &str) -> bool {
    let binary = std::env::current_exe().expect("this binary");
    let test = format!("full::{test}");
    let ran =
        Command::new("unshare").args(["-Urm", "--"]).arg(binary).args(["--exact", &test]).env(INSIDE, "").output();
    let Ok(ran) = ran else { return false };
    let words = String::from_utf8_lossy(&ran.stdout);
    // What a failed test ends with; `unshare` itself ends with 1.
    assert_ne!(ran.status.code(), Some(101), "{words}");
    assert!(!ran.status.success() || words.contains("1 passed"), "{words}");
    ran.status.success()
}

/// A tmpfs on the site's folder of objects, gone with its value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(site: &Site, size: &str, test: &str) -> Option<Self> {
        let at = site.objects();
        fs::create_dir(&at).expect("makes");
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self(at));
        }
        if std::env::var_os(INSIDE).is_none() && passes_inside(test) {
            return None;
        }
        #[allow(clippy::print_stderr)] // to whoever reads with --nocapture
        {
            eprintln!("skipped: a small disk can't be mounted here");
        }
        None
    }

    /// Fills the disk but for `left` bytes, by a file that no store knows.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.0.join("ballast");
        let mut ballast = File::create(&path).expect("makes");
        let mut length = 0;
        while let Ok(written) = ballast.write(&[0; 4096]) {
            length += written as u64;
        }
        ballast.set_len(length - left).expect("shortens");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server that holds it may still be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_a_full_disk_refuses_keeps_and_recovers() {
    let site = Site::new();
    let Some(_disk) = SmallDisk::mount(&site, "8m", "optional_a_full_disk_refuses_keeps_and_recovers") else { return };
    let server = site.serve("", "");
    let old = pattern(MIB);
    site.put(&server, "old", &old);
    site.put(&server, "ballast", &pattern(4 * MIB));
    let before = files_below(&site.objects());

    let large = site.path("large");
    fs::write(&large, pattern(16 * MIB)).expect("writes");
    // Length known, length unknown, and in place of what is there.
    for (key, protocol, line) in [
        ("new", "--http1.1", "X-Length: known"),
        ("new", "--http1.1", "Transfer-Encoding: chunked"),
        ("new", "--http2", "X-Length: known"),
        ("old", "--http2", "X-Length: known"),
    ] {
        let refused =
            site.curl([protocol, "-H", line, "-T", large.to_str().expect("is text"), server.url(key).as_str()]);
        assert_eq!(refused.status, 507, "{refused:?}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert!(refused.json()["detail"].as_str().expect("words").contains("no room"), "{refused:?}");
        await_calm(&server);
        assert_eq!(files_below(&site.objects()), before);
        assert_eq!(site.get(&server, "old").body, old);
    }
    let (answer, body) = Http2::open(&site, &server).await.begin("new", 16 * MIB, &pattern(7 * MIB)).await;
    assert_eq!(answer.await.expect("an answer").status(), 507);
    drop(body);
    await_calm(&server);
    assert_eq!(files_below(&site.objects()), before);
    assert!(server.metric("sealward_uploads_total{class=\"records\",outcome=\"no_space\"}") >= 5.0);

    assert_eq!(site.curl(["-X", "DELETE", &server.url("ballast")]).status, 204);
    let new = pattern(5 * MIB);
    assert_eq!(site.put(&server, "new", &new).status, 201);
    assert_eq!(site.get(&server, "new").body, new);
}

#[test]
fn optional_a_disk_full_at_the_sidecar_keeps_the_older_object() {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(&site, "4m", "optional_a_disk_full_at_the_sidecar_keeps_the_older_object") else {
        return;
    };
    let server = site.serve("", "");
    let old = pattern(10_000);
    site.put(&server, "old", &old);
    let before = files_below(&site.objects());
    // Sealed, these take 25 pages: exactly what is left, so that the message fits
    // and its sidecar doesn't. One page more, and both would.
    let bytes = pattern(100_000);
    let (refused, taken) = (disk.fill(25 * 4096), site.path("upload"));
    fs::write(&taken, &bytes).expect("writes");
    for key in ["new", "old"] {
        let answer = site.curl(["-T", taken.to_str().expect("is text"), &server.url(key)]);
        assert_eq!(answer.status, 507, "{answer:?}");
    }
    fs::remove_file(refused).expect("removes");
    assert_eq!(files_below(&site.objects()), before);
    assert_eq!(site.get(&server, "old").body, old);
    assert_eq!(site.get(&server, "new").status, 404);

    let ballast = disk.fill(26 * 4096);
    assert_eq!(site.put(&server, "new", &bytes).status, 201);
    fs::remove_file(ballast).expect("removes");
    assert_eq!(site.get(&server, "new").body, bytes);
}
