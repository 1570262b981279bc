//! Objects come back as they went in, with what is said of them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::CrcAlgorithm;

use crate::{
    client::{BOTH, nothing_stored, refused, upload},
    support::{Site, files_below, pattern},
};

const SMALL_FRAMES: &str = "frame_length = \"4KiB\"";
const F: usize = 4 << 10;

#[test]
fn a_receipt_says_what_was_stored() {
    let site = Site::new();
    let server = site.serve("", "");
    for version in BOTH {
        let key = format!("folder/{version}");
        let first = upload(&site, &server, &key, b"123456789", &[version]);
        assert_eq!(first.status, 201, "{first:?}");
        let second = upload(&site, &server, &key, &pattern(1000), &[version]);
        assert_eq!(second.status, 200, "{second:?}");

        let receipt = first.json();
        assert_eq!(receipt["key"], key);
        assert_eq!(receipt["size"], 9);
        assert_eq!(receipt["class"], "records");
        assert!(receipt["key_id"].as_str().is_some_and(|name| name.ends_with("key-1")), "{receipt}");
        // The check value of the algorithm's own catalogue.
        assert_eq!(receipt["crc64nvme"], STANDARD.encode(0xAE8B_1486_0A79_9888_u64.to_be_bytes()));
        let created = receipt["created"].as_str().expect("a time");
        let format = &time::format_description::well_known::Rfc3339;
        let created = time::OffsetDateTime::parse(created, format).expect("RFC 3339");
        assert!((time::OffsetDateTime::now_utc() - created).abs() < time::Duration::minutes(2));
        assert_eq!(first.header("etag"), format!("\"{}\"", receipt["etag"].as_str().expect("a tag")));
        assert_eq!(first.header("content-type"), "application/json");
        assert_ne!(first.header("etag"), second.header("etag"));

        let crc = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &pattern(1000));
        assert_eq!(second.json()["crc64nvme"], STANDARD.encode(crc.to_be_bytes()));
        let read = site.curl([version, &server.url(&key)]);
        assert_eq!(read.header("etag"), second.header("etag"));
        assert_eq!(read.body, pattern(1000));
    }
}

#[test]
fn every_size_comes_back_whole() {
    let site = Site::new();
    for class in [SMALL_FRAMES, ""] {
        let server = site.serve(class, "");
        let frame = if class.is_empty() { 256 << 10 } else { F };
        for size in [0, 1, frame - 1, frame, frame + 1, 3 * frame, (5 << 20) + 1] {
            let bytes = pattern(size);
            let stored = site.put(&server, "object", &bytes);
            assert_eq!(stored.json()["size"], size);
            for version in BOTH {
                let whole = site.curl([version, &server.url("object")]);
                assert_eq!((whole.status, whole.exit), (200, 0), "{size}");
                assert!(whole.body == bytes, "{size} bytes came back as others");
                assert_eq!(whole.header("content-length"), size.to_string());
                let head = site.curl(["-I", version, &server.url("object")]);
                assert_eq!((head.status, head.exit), (200, 0), "{head:?}");
                assert_eq!(head.header("content-length"), size.to_string(), "{head:?}");
            }
        }
        server.stop();
    }
}

#[test]
fn what_lies_in_the_store_is_not_what_was_sent() {
    let site = Site::new();
    let server = site.serve("", "");
    let marker = b"nobody reads this on the disk".repeat(40);
    let label = "x-amz-meta-note: nor-this-label";
    assert_eq!(upload(&site, &server, "object", &marker, &["-H", label]).status, 201);
    for file in files_below(&site.objects()) {
        let bytes = std::fs::read(&file).expect("reads");
        for hidden in [&marker[..29], b"nor-this-label"] {
            assert!(!bytes.windows(hidden.len()).any(|window| window == hidden), "{}", file.display());
        }
    }
}

#[test]
fn head_says_what_get_says() {
    let site = Site::new();
    let server = site.serve("", "");
    upload(&site, &server, "page", b"<p>hello</p>", &["-H", "Content-Type: text/html", "-H", "x-amz-meta-a: 1"]);
    for version in BOTH {
        let get = site.curl([version, &server.url("page")]);
        let head = site.curl([version, "-I", &server.url("page")]);
        let comparable = |answer: &crate::support::Answer| {
            let mut headers = answer.headers.clone();
            headers.retain(|(name, _)| !matches!(name.as_str(), "x-request-id" | "date"));
            headers.sort();
            headers
        };
        assert_eq!(comparable(&get), comparable(&head));
        assert_eq!(head.header("accept-ranges"), "bytes");
        // curl -I shows the head as the body; without it there is none.
        let head = site.curl([version, "-X", "HEAD", "--head", "-o", "/dev/null", &server.url("page")]);
        assert_eq!(head.exit, 0, "{head:?}");
        // A range is for GET alone.
        let head = site.curl([version, "-I", "-r", "0-0", &server.url("page")]);
        assert_eq!((head.status, head.header("content-length")), (200, "12"));
        let gone = site.curl([version, "-I", &server.url("none")]);
        assert_eq!((gone.status, gone.exit), (404, 0), "{gone:?}");
        assert_eq!(gone.header("x-request-id").len(), 36);
    }
}

#[test]
fn what_is_said_of_an_object_comes_back() {
    let site = Site::new();
    for class in ["", "metadata = \"plain\""] {
        let server = site.serve(class, "");
        let said = [
            ("content-type", "text/csv; charset=utf-8"),
            ("content-disposition", "inline; filename=\"a.csv\""),
            ("content-language", "de, en"),
            ("content-encoding", "gzip"),
            ("cache-control", "max-age=60, must-revalidate"),
            ("expires", "Sun, 06 Nov 2044 08:49:37 GMT"),
            ("x-amz-meta-owner", "somebody"),
            ("x-amz-meta-empty", ""),
        ];
        let lines: Vec<String> = said
            .iter()
            .map(|(name, value)| if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") })
            .collect();
        let args: Vec<&str> = lines.iter().flat_map(|line| ["-H", line]).collect();
        assert!(matches!(upload(&site, &server, "said", b"1,2", &args).status, 200 | 201));
        for version in BOTH {
            let read = site.curl([version, &server.url("said")]);
            assert_eq!(read.status, 200, "{read:?}");
            for (name, value) in said {
                let plain = !class.is_empty();
                let expected = match name {
                    "content-disposition" if plain => "attachment",
                    // Shared caches are kept out, whatever was said.
                    "cache-control" => "private, max-age=60, must-revalidate",
                    _ => value,
                };
                assert_eq!(read.header(name), expected, "{name} of {read:?}");
            }
            assert_eq!(read.header("x-content-type-options"), "nosniff");
        }
        assert!(matches!(upload(&site, &server, "unsaid", b"1,2", &["-H", "Content-Type:"]).status, 200 | 201));
        let read = site.get(&server, "unsaid");
        assert_eq!(read.header("content-type"), "application/octet-stream");
        assert_eq!(read.header("cache-control"), "private");
        assert_eq!(read.header("content-disposition"), if class.is_empty() { "" } else { "attachment" });
        server.stop();
        std::fs::remove_dir_all(site.objects()).expect("removes");
    }
}

#[test]
fn a_public_cache_needs_the_class_s_leave() {
    let site = Site::new();
    let public = ["-H", "Cache-Control: max-age=60, Public"];
    let server = site.serve("", "");
    let answer = upload(&site, &server, "a", b"a", &public);
    assert!(refused(&site, &answer, 400).contains("allow_public_cache"));
    nothing_stored(&site);
    server.stop();
    let server = site.serve("allow_public_cache = true", "");
    assert_eq!(upload(&site, &server, "a", b"a", &public).status, 201);
    assert_eq!(site.get(&server, "a").header("cache-control"), "max-age=60, Public");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let site = Site::new();
    let server = site.serve("", "");
    let long = format!("x-amz-meta-long: {}", "v".repeat(1400));
    let most = format!("x-amz-meta-most: {}", "v".repeat(1300));
    for (header, status, words) in [
        (long.as_str(), 400, "1400"),
        ("x-amz-meta-sealward: 1", 400, "reserved"),
        ("X-Amz-Meta-Sealward-Format: 1", 400, "reserved"),
        ("Content-Encoding: aws-chunked", 415, "aws-chunked"),
        ("Content-Encoding: gzip, aws-chunked", 415, "aws-chunked"),
        ("Content-Range: bytes 0-0/1", 400, "Content-Range"),
    ] {
        for version in BOTH {
            let answer = upload(&site, &server, "a", b"a", &[version, "-H", header]);
            let detail = refused(&site, &answer, status);
            assert!(detail.contains(words), "{header}: {detail}");
        }
    }
    let twice = upload(&site, &server, "a", b"a", &["-H", "x-amz-meta-a: 1", "-H", "x-amz-meta-a: 2"]);
    refused(&site, &twice, 400);
    nothing_stored(&site);
    assert_eq!(upload(&site, &server, "a", b"a", &["-H", &most]).status, 201);
    assert_eq!(site.get(&server, "a").header("x-amz-meta-most").len(), 1300);
}

#[test]
fn a_store_whose_clock_is_wrong_is_served_all_the_same() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "old", b"bytes");
    for date in ["1960-01-01", "2400-01-01"] {
        let file = site.objects().join("old.sealed");
        let touched = std::process::Command::new("touch").args(["-d", date]).arg(&file).status().expect("touch");
        assert!(touched.success());
        assert_eq!(site.get(&server, "old").status, 200, "{date}");
        assert_eq!(site.curl([server.url("?list")]).status, 200, "{date}");
    }
}
