//! What a small range of a large object costs: read off the store's own counter.

use std::{fs::File, path::Path};

use crate::support::{Sealward, Site};

const GIB: u64 = 1 << 30;
const FRAME: u64 = 256 << 10;
const KEY: &str = "disk.img";

/// Asks for one byte, and returns how many the store was read for it.
fn cost(site: &Site, server: &Sealward, at: u64) -> u64 {
    let read = || format!("{}", server.metric("sealward_store_read_bytes_total")).parse::<u64>().expect("whole bytes");
    let before = read();
    let answer = site.curl(["--range", &format!("{at}-{at}"), &server.url(KEY)]);
    assert_eq!((answer.status, answer.exit, answer.body.as_slice()), (206, 0, &[0][..]), "{answer:?}");
    assert_eq!(answer.header("content-range"), format!("bytes {at}-{at}/{GIB}"));
    read() - before
}

/// Bytes of the object's header and of one of its frames.
fn sizes(stem: &Path, message: &Path) -> (u64, u64) {
    let folder = stem.parent().expect("a folder");
    let mut files = std::fs::read_dir(folder).expect("reads").flatten().map(|entry| entry.path());
    let sidecar = files.find(|path| path.extension().is_some_and(|end| end == "meta")).expect("a sidecar");
    let sidecar: serde_json::Value = serde_json::from_slice(&std::fs::read(sidecar).expect("reads")).expect("JSON");
    let header: u64 = sidecar["entries"]["sealward-header"].as_str().expect("a hint").parse().expect("a number");
    let sealed = std::fs::metadata(message).expect("is there").len();
    assert_eq!(sealed, header + GIB / FRAME * (FRAME + 32) + 40, "the whole of it, and an empty final frame");
    (header, FRAME + 32)
}

#[test]
fn a_byte_of_a_gibibyte_costs_a_header_and_two_frames_at_most() {
    let site = Site::new();
    let server = site.serve("", "");
    let zeros = site.path("zeros");
    File::create(&zeros).expect("makes").set_len(GIB).expect("a sparse file");
    let uploaded = site.curl(["-T".as_ref(), zeros.as_os_str(), server.url(KEY).as_ref()]);
    assert_eq!(uploaded.status, 201, "{uploaded:?}");
    std::fs::remove_file(&zeros).expect("removes");
    let stem = site.objects().join(KEY);
    let (header, frame) = sizes(&stem, &stem.with_extension("img.sealed"));

    let places = [0, GIB / 2 + 12_345, GIB - 1];
    let mut server = server;
    for at in places {
        // A server that has seen nothing of it.
        assert!(server.stop().success());
        server = site.serve("", "");
        let cold = cost(&site, &server, at);
        assert!(cold <= header + 2 * frame, "cold, byte {at}: {cold}");
        assert!(cold > frame, "cold, byte {at}: the frame itself at least: {cold}");
    }
    for at in places {
        let warm = cost(&site, &server, at);
        assert!(warm <= frame, "warm, byte {at}: {warm}");
    }
    drop(server);
    std::fs::remove_file(stem.with_extension("img.sealed")).expect("removes");
}
