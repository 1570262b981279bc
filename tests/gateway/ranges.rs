//! One range of an object, and what is no range.

use crate::{
    client::{BOTH, Raw, refused},
    support::{Site, pattern},
};

const F: usize = 4 << 10;

/// The bytes that `range` means in `bytes`, as RFC 9110 has it; none for 416.
fn meant(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.split_once('-').expect("a range");
    let (first, last) = match (first, last) {
        ("", last) => {
            let count: usize = last.parse().expect("a number");
            if count == 0 {
                return None;
            }
            (length.saturating_sub(count), length.checked_sub(1)?)
        }
        (first, "") => (first.parse().expect("a number"), length.checked_sub(1)?),
        (first, last) => {
            let last: usize = last.parse().expect("a number");
            (first.parse().expect("a number"), last.min(length.checked_sub(1)?))
        }
    };
    (first < length).then_some((first, last))
}

fn all_ranges(site: &Site, class: &str, frame: usize, sizes: &[usize]) {
    let server = site.serve(class, "");
    for &size in sizes {
        let bytes = pattern(size);
        // Once cold after each upload, and once warm.
        let key = format!("{frame}-{size}");
        site.put(&server, &key, &bytes);
        let end = size.max(1) - 1;
        let ranges = [
            "0-0".to_owned(),
            format!("{end}-{end}"),
            "-1".into(),
            "-5".into(),
            format!("-{}", size + 10),
            "-0".into(),
            "0-".into(),
            format!("0-{end}"),
            format!("0-{}", size + 99),
            format!("{}-{}", frame - 1, frame),
            format!("{}-{}", frame - 2, 2 * frame + 1),
            format!("{frame}-{}", 2 * frame - 1),
            format!("{}-", 2 * frame + 7),
            format!("{size}-"),
            format!("{size}-{}", size + 1),
            "99999999999999999999999-".into(),
        ];
        let mut connection = Raw::new(site, &server);
        for range in ranges {
            let huge = range.len() > 20;
            let answer = connection.ask(&format!("GET /files/{key}"), &format!("Range: bytes={range}\r\n"));
            match if huge { None } else { meant(&range, size) } {
                Some((first, last)) => {
                    assert_eq!(answer.status, 206, "{range} of {size}: {answer:?}");
                    assert!(answer.body == bytes[first..=last], "{range} of {size}");
                    assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/{size}"));
                    assert_eq!(answer.header("content-length"), (last - first + 1).to_string());
                    assert!(!answer.header("etag").is_empty());
                }
                None => {
                    refused(site, &answer, 416);
                    assert_eq!(answer.header("content-range"), format!("bytes */{size}"), "{range}");
                }
            }
        }
    }
}

#[test]
fn any_one_range_of_any_size_is_that_part() {
    let site = Site::new();
    all_ranges(&site, "frame_length = \"4KiB\"", F, &[0, 1, F - 1, F, F + 1, 3 * F, (5 << 20) + 1]);
}

#[test]
fn ranges_of_default_frames_too() {
    let site = Site::new();
    let frame = 256 << 10;
    all_ranges(&site, "", frame, &[1, frame, frame + 1, 3 * frame, (5 << 20) + 1]);
}

#[test]
fn http2_has_the_same_ranges() {
    let site = Site::new();
    let server = site.serve("frame_length = \"4KiB\"", "");
    let bytes = pattern(3 * F + 5);
    site.put(&server, "a", &bytes);
    for version in BOTH {
        let part = site.curl([version, "-r", "4090-8200", &server.url("a")]);
        assert_eq!((part.status, part.exit), (206, 0));
        assert!(part.body == bytes[4090..=8200]);
        let outside = site.curl([version, "-r", "99999-", &server.url("a")]);
        refused(&site, &outside, 416);
        assert_eq!(outside.header("content-range"), format!("bytes */{}", bytes.len()));
    }
}

#[test]
fn what_is_no_single_range_gets_the_whole() {
    let site = Site::new();
    let server = site.serve("", "");
    let bytes = pattern(100);
    site.put(&server, "a", &bytes);
    let mut connection = Raw::new(&site, &server);
    for range in [
        "bytes=0-1,4-5",
        "bytes=5-2",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes 0-1",
        "lines=0-1",
        "0-1",
        "bytes=0-1\r\nRange: bytes=2-3",
    ] {
        let answer = connection.ask("GET /files/a", &format!("Range: {range}\r\n"));
        assert_eq!(answer.status, 200, "{range}: {answer:?}");
        assert_eq!(answer.body, bytes, "{range}");
        assert_eq!(answer.header("content-range"), "");
    }
}

#[test]
fn if_range_asks_whether_it_is_still_the_same() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "a", b"0123456789");
    let now = site.get(&server, "a");
    let (tag, date) = (now.header("etag").to_owned(), now.header("last-modified").to_owned());
    let ask = |validator: &str| {
        let answer = site.curl(["-r", "2-3", "-H", &format!("If-Range: {validator}"), &server.url("a")]);
        (answer.status, answer.text())
    };
    // Cold and warm.
    for _ in 0..2 {
        assert_eq!(ask(&tag), (206, "23".into()));
        assert_eq!(ask(&date), (206, "23".into()));
        for other in ["\"other\"", &format!("W/{tag}"), "Sun, 06 Nov 1994 08:49:37 GMT", "nonsense"] {
            assert_eq!(ask(other), (200, "0123456789".into()), "{other}");
        }
    }
    // A condition that fails comes before any range.
    let failed = site.curl(["-r", "2-3", "-H", "If-Match: \"other\"", &server.url("a")]);
    refused(&site, &failed, 412);
    site.put(&server, "a", b"abcdefghij");
    assert_eq!(ask(&tag), (200, "abcdefghij".into()));
}
