//! What a client does, the same against every stand-in.

use std::fs;

use crate::{
    standin::StandIn,
    support::{Answer, Sealward, Site, pattern},
};

/// Beyond what is put in one request: three parts.
pub(crate) const LARGE: usize = (20 << 20) + 4711;
/// The class's frames, where these tests want several in little.
pub(crate) const F: usize = 64 << 10;
pub(crate) const SMALL_FRAMES: &str = "frame_length = \"64KiB\"";

/// A PUT whose length isn't said beforehand.
pub(crate) fn put_unannounced(site: &Site, server: &Sealward, key: &str, bytes: &[u8]) -> Answer {
    let file = site.path("unannounced.tmp");
    fs::write(&file, bytes).expect("writes");
    let chunked = ["-H", "Transfer-Encoding: chunked", "--http1.1", "-T"];
    let args = chunked.iter().map(std::ffi::OsStr::new);
    site.curl(args.chain([file.as_os_str(), server.url(key).as_ref()]))
}

pub(crate) fn range(site: &Site, server: &Sealward, key: &str, range: &str) -> Answer {
    site.curl(["-H", &format!("Range: bytes={range}"), &server.url(key)])
}

pub(crate) fn delete(site: &Site, server: &Sealward, key: &str) -> Answer {
    site.curl(["-X", "DELETE", &server.url(key)])
}

/// Everything a client may do with objects, of which the larger are of `large`
/// bytes, and that the bucket holds no more than it should.
pub(crate) fn everything(stand_in: &StandIn, site: &Site, server: &Sealward, bucket: &str, large: usize) {
    let length = large;
    let large = pattern(length);
    let sizes = [0, 1, F - 1, F, F + 1, 3 * F];
    for size in sizes {
        let stored = site.put(server, &format!("sizes/{size}"), &large[..size]);
        assert_eq!(stored.status, 201, "{size}: {stored:?}");
        assert_eq!(stored.json()["size"], size);
        let read = site.get(server, &format!("sizes/{size}"));
        assert_eq!((read.status, read.exit), (200, 0), "{size}: {read:?}");
        assert!(read.body == large[..size], "{size}: other bytes");
    }
    // Replaced: 200, and the new bytes at once.
    let again = site.put(server, "sizes/1", b"new");
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(site.get(server, "sizes/1").body, b"new");

    let stored = site.put(server, "large", &large);
    assert_eq!((stored.status, stored.json()["size"].as_u64()), (201, Some(length as u64)), "{stored:?}");
    let stored = put_unannounced(site, server, "unannounced", &large);
    assert_eq!((stored.status, stored.json()["size"].as_u64()), (201, Some(length as u64)), "{stored:?}");
    let stored = put_unannounced(site, server, "unannounced-small", b"few");
    assert_eq!(stored.status, 201, "{stored:?}");
    for key in ["large", "unannounced"] {
        let read = site.get(server, key);
        assert_eq!((read.status, read.exit), (200, 0), "{key}: {read:?}");
        assert!(read.body == large, "{key}: other bytes");
        let head = site.curl(["-I", &server.url(key)]);
        assert_eq!(head.header("content-length"), length.to_string(), "{head:?}");
        let middle = length / 2;
        for (first, last) in [(0, 0), (F - 1, F), (middle, middle + 3 * F), (length - 1, length - 1)] {
            let part = range(site, server, key, &format!("{first}-{last}"));
            assert_eq!(part.status, 206, "{key} {first}-{last}: {part:?}");
            assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/{length}"));
            assert!(part.body == large[first..=last], "{key} {first}-{last}: other bytes");
        }
        let tail = range(site, server, key, "-5");
        assert_eq!((tail.status, tail.body.as_slice()), (206, &large[length - 5..]), "{tail:?}");
        assert_eq!(range(site, server, key, &format!("{length}-")).status, 416);
    }

    described(site, server);
    listed(site, server, length);

    assert_eq!(delete(site, server, "large").status, 204);
    assert_eq!(site.get(server, "large").status, 404);
    assert_eq!(delete(site, server, "large").status, 404);
    assert!(!stand_in.objects(bucket).contains(&"large".to_owned()));
    assert!(!stand_in.objects(bucket).iter().any(|key| key.contains(".sealward/")), "the canary is gone");
    assert_eq!(stand_in.uploads(bucket), serde_json::json!([]));
}

/// What is said of an object comes back, and names of every kind are names.
fn described(site: &Site, server: &Sealward) {
    let file = site.path("described.tmp");
    fs::write(&file, b"described").expect("writes");
    let key = "folder/%C3%A4%20%2B%25%26%3D%27.txt";
    let stored = site.curl([
        "-T".as_ref(),
        file.as_os_str(),
        "-H".as_ref(),
        "Content-Type: text/plain; charset=utf-8".as_ref(),
        "-H".as_ref(),
        "X-Amz-Meta-Colour: bl\u{fc}e".as_ref(),
        "-H".as_ref(),
        "Cache-Control: no-cache".as_ref(),
        server.url(key).as_ref(),
    ]);
    // A header that isn't ASCII may be refused, but never changed.
    let stored = if stored.status == 400 {
        let plain = ["-H", "Content-Type: text/plain; charset=utf-8", "-H", "X-Amz-Meta-Colour: blue", "-T"];
        let args = plain.iter().map(std::ffi::OsStr::new);
        site.curl(args.chain([file.as_os_str(), server.url(key).as_ref()]))
    } else {
        stored
    };
    assert_eq!(stored.status, 201, "{stored:?}");
    let read = site.get(server, key);
    assert_eq!((read.status, read.body.as_slice()), (200, b"described".as_slice()), "{read:?}");
    assert_eq!(read.header("content-type"), "text/plain; charset=utf-8");
    assert!(read.header("x-amz-meta-colour").starts_with("bl"), "{read:?}");
    assert_eq!(delete(site, server, key).status, 204);
}

/// Lists say plaintext sizes, page by page.
fn listed(site: &Site, server: &Sealward, length: usize) {
    let list = |query: &str| site.curl([server.url(&format!("?list{query}"))]).json();
    let all = list("");
    let size_of = |key: &str| {
        let objects = all["objects"].as_array().expect("a list");
        let entry = objects.iter().find(|entry| entry["key"] == key).unwrap_or_else(|| panic!("no {key}: {all}"));
        entry["size"].as_u64()
    };
    assert_eq!(size_of("large"), Some(length as u64));
    assert_eq!(size_of("sizes/0"), Some(0));
    assert_eq!(size_of("sizes/65536"), Some(65536));
    assert_eq!(all["objects"].as_array().map(Vec::len), Some(9), "{all}");
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("&prefix=sizes/&limit=2&after={after}"));
        seen.extend(page["objects"].as_array().expect("a list").iter().map(|entry| entry["key"].clone()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}
