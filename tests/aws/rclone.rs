//! Against rclone's S3 server: signatures are judged. It has no KMS and no
//! encryption at rest, so data keys come from the local keyring and
//! `require_sse_kms` is off.

use crate::{
    check::{online, start},
    client::{SMALL_FRAMES, put_unannounced, range},
    standin::{rclone, under_keyring},
    support::pattern,
};

/// In one request: it answers `CreateMultipartUpload` with another root element than S3's
/// `InitiateMultipartUploadResult`, which the SDK refuses to read.
const LARGE: usize = 7 << 20;

#[test]
fn what_we_sign_is_believed() {
    let (aws, bucket) = (rclone(), rclone().bucket("signed"));
    let site = aws.site();
    let server = site.serve_text(&under_keyring(&bucket, &format!("{SMALL_FRAMES}\ncanary = \"seal\"\n")));
    let large = pattern(LARGE);
    for (key, size) in [("small", 10), ("large", LARGE), ("a%20b%2Bc/%C3%A4%26%3D~%27%28%29", 10)] {
        let stored = site.put(&server, key, &large[..size]);
        assert_eq!(stored.status, 201, "{key}: {stored:?}");
        let read = site.get(&server, key);
        assert!(read.status == 200 && read.body == large[..size], "{key}: {read:?}");
    }
    assert_eq!(put_unannounced(&site, &server, "unannounced", &large).status, 201);
    let part = range(&site, &server, "unannounced", "5000000-5000009");
    assert_eq!((part.status, part.body.as_slice()), (206, &large[5_000_000..5_000_010]), "{part:?}");
    let listed = site.curl([server.url("?list")]).json();
    assert_eq!(listed["objects"].as_array().map(Vec::len), Some(4), "{listed}");
    assert_eq!(site.curl(["-X", "DELETE", &server.url("small")]).status, 204);
    assert_eq!(site.get(&server, "small").status, 404);
}

/// With another secret nothing starts; with the canary off, every request says
/// that the operator is wanted.
#[test]
fn a_wrong_signature_is_said_plainly() {
    let (aws, bucket) = (rclone(), rclone().bucket("unsigned"));
    let site = aws.site().with("AWS_SECRET_ACCESS_KEY", "another");
    let text = under_keyring(&bucket, "");
    for (code, words) in [online(&site, &text), start(&site, &text)] {
        assert!(matches!(code, 1 | 2), "{code} {words}");
        // A HEAD is refused without a code; the start stops there.
        assert!(words.contains("reach the store") && words.contains("(403)"), "{words}");
    }
    assert!(online(&site, &text).1.contains("SignatureDoesNotMatch"), "what has a body tells the code");
    let server = site.serve_text(&under_keyring(&bucket, "canary = \"off\"\n"));
    let file = site.path("unsigned.tmp");
    std::fs::write(&file, b"unsigned").expect("writes");
    let put = site.curl(["-T".as_ref(), file.as_os_str(), server.url("object").as_ref()]);
    for answer in [put, site.get(&server, "object"), site.curl([server.url("?list")])] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.text().contains("the operator has to mend that"), "{answer:?}");
    }
    assert_eq!(aws.objects(&bucket), [""; 0]);
}

/// The store that doesn't enforce conditions is found out at the start.
#[test]
fn a_store_without_conditions_is_found_out() {
    let (aws, bucket) = (rclone(), rclone().bucket("conditions"));
    let (code, words) = online(&aws.site(), &under_keyring(&bucket, ""));
    assert_eq!(code, 2, "{words}");
    assert!(words.contains("the store doesn't enforce If-None-Match"), "{words}");
}
