//! Against moto: what lies in the bucket is encrypted by S3 under the class's key
//! too, and nothing is left over.

use std::fs;

use serde_json::json;

use crate::{
    client::{LARGE, SMALL_FRAMES, everything, put_unannounced},
    standin::{moto, text, under_kms},
    support::{Site, pattern},
};

#[test]
fn objects_go_and_come() {
    let (aws, bucket) = (moto(), moto().bucket("everything"));
    let site = aws.site();
    let key = aws.key();
    let server = site.serve_text(&under_kms(&bucket, &key, SMALL_FRAMES));
    everything(aws, &site, &server, &bucket, LARGE);
    // One class, one context, no bound reached: one data key for all of it.
    let asked = |operation| {
        server.metric(&format!("sealward_kms_requests_total{{key=\"{key}\",operation=\"{operation}\",outcome=\"ok\"}}"))
    };
    assert!((1.0..=2.0).contains(&asked("generate")), "{}", server.metrics());
    assert!(asked("decrypt") <= 1.0, "{}", server.metrics());
}

#[test]
fn every_object_is_encrypted_under_the_classs_key() {
    let (aws, bucket, key) = (moto(), moto().bucket("sse"), moto().key());
    // Dual-layer encryption is nothing that moto answers to as S3 does.
    for (prefix, class, kind) in [("kms/", "", "aws:kms")] {
        let site = aws.site();
        let class = format!("{class}prefix = \"{prefix}\"\n{SMALL_FRAMES}");
        let server = site.serve_text(&under_kms(&bucket, &key, &class));
        site.put(&server, "small", b"small");
        site.put(&server, "large", &pattern(LARGE));
        assert_eq!(put_unannounced(&site, &server, "unannounced", &pattern(LARGE)).status, 201);
        let found: Vec<_> = aws.objects(&bucket).into_iter().filter(|name| name.starts_with(prefix)).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        for name in found {
            let head = aws.head(&bucket, &name);
            assert_eq!(head["ServerSideEncryption"], kind, "{name}: {head}");
            assert_eq!(head["SSEKMSKeyId"], *key, "{name}: {head}");
            // moto forgets that a multipart upload asked for it.
            if kind == "aws:kms" && name.ends_with("small") {
                assert_eq!(head["BucketKeyEnabled"], true, "{name}: {head}");
            }
        }
    }
}

/// What is said of an object lies sealed, and nothing of the plaintext is in the bucket.
#[test]
fn the_bucket_learns_nothing() {
    let (aws, bucket) = (moto(), moto().bucket("secrecy"));
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &aws.key(), ""));
    let file = site.path("marked");
    fs::write(&file, "a marked plaintext").expect("writes");
    let told = ["-H", "Content-Type: text/x-marked", "-H", "X-Amz-Meta-Owner: marked person", "-T"];
    let args = told.iter().map(std::ffi::OsStr::new);
    let stored = site.curl(args.chain([file.as_os_str(), server.url("object").as_ref()]));
    assert_eq!(stored.status, 201, "{stored:?}");
    let mut head = aws.head(&bucket, "object");
    head["ResponseMetadata"] = json!(null);
    assert!(!head.to_string().contains("marked"), "{head}");
    let raw = fs::read(aws.raw(&site, &bucket, "object")).expect("reads");
    assert!(!raw.windows(6).any(|window| window == b"marked"));
    assert!(!server.log().contains("marked person"));
}

/// Parts are whole frames, and large enough for S3 to take.
#[test]
fn parts_are_as_s3_wants_them() {
    let (aws, bucket) = (moto(), moto().bucket("parts"));
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &aws.key(), SMALL_FRAMES));
    for key in ["announced", "unannounced"] {
        let stored = match key {
            "announced" => site.put(&server, key, &pattern(LARGE)),
            _ => put_unannounced(&site, &server, key, &pattern(LARGE)),
        };
        assert_eq!(stored.status, 201, "{stored:?}");
        let etag = text(&aws.head(&bucket, key)["ETag"]);
        let parts: u32 = etag.trim_matches('"').rsplit_once('-').expect("of parts").1.parse().expect("a number");
        // moto refuses a Complete whose parts, but for the last, are under 5 MiB.
        assert!((2..=4).contains(&parts), "{key}: {etag}");
    }
}

#[test]
fn delete_leaves_a_marker_or_nothing() {
    let aws = moto();
    for (bucket, delete, versions, markers) in [("marker", "marker", 2, 1), ("versions", "versions", 0, 0)] {
        let bucket = format!("delete-{bucket}");
        aws.does(json!({"do": "bucket", "name": bucket, "versioned": true}));
        let site = aws.site();
        // Of the canary nothing is left in either way.
        let class = format!("delete = \"{delete}\"\n");
        let server = site.serve_text(&under_kms(&bucket, &aws.key(), &class));
        site.put(&server, "object", b"first");
        site.put(&server, "object", b"second");
        assert_eq!(site.curl(["-X", "DELETE", &server.url("object")]).status, 204);
        assert_eq!(site.get(&server, "object").status, 404);
        let left = aws.does(json!({"do": "versions", "bucket": bucket}));
        assert_eq!((left["versions"].as_u64(), left["markers"].as_u64()), (Some(versions), Some(markers)), "{delete}");
    }
}

/// A policy that denies: the client learns that the operator is wanted, and no more.
#[test]
fn a_denied_bucket_is_said_plainly() {
    let (aws, bucket) = (moto(), moto().bucket("denied"));
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &aws.key(), ""));
    site.put(&server, "object", b"before");
    aws.does(json!({"do": "bucket_policy", "bucket": bucket, "policy": deny("s3:PutObject", &bucket)}));
    for size in [10, LARGE] {
        let file = site.path("denied.tmp");
        fs::write(&file, pattern(size)).expect("writes");
        let refused = site.curl(["-T".as_ref(), file.as_os_str(), server.url("new").as_ref()]);
        assert_eq!(refused.status, 503, "{size}: {refused:?}");
        assert!(refused.text().contains("the operator has to mend that"), "{refused:?}");
        assert!(!refused.text().contains("arn:") && !refused.text().contains(&bucket), "{refused:?}");
    }
    server.wait_for_line(|line| line.contains("(403)"));
    assert_eq!(site.get(&server, "object").body, b"before");
    assert_eq!(aws.objects(&bucket), ["object"]);
}

pub(crate) fn deny(action: &str, bucket: &str) -> serde_json::Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Deny", "Principal": "*", "Action": action,
            "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
        }],
    })
}

/// Environment beside the configuration: the endpoint may be KMS's and S3's own.
#[test]
fn each_service_may_have_its_own_endpoint() {
    let (aws, bucket) = (moto(), moto().bucket("endpoints"));
    let mut site: Site = aws.site();
    site.environment.retain(|(name, _)| name != "AWS_ENDPOINT_URL");
    let site = site.with("AWS_ENDPOINT_URL_KMS", &aws.endpoint).with("AWS_ENDPOINT_URL_S3", &aws.endpoint);
    let server = site.serve_text(&under_kms(&bucket, &aws.key(), ""));
    site.put(&server, "object", b"found");
    assert_eq!(site.get(&server, "object").body, b"found");
}
