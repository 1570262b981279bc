//! `sealward check --online`: what would keep a server from starting is said, with
//! exit code 2, and so does the server itself.

use std::fs;

use serde_json::json;

use crate::{
    moto::deny,
    standin::{moto, under_kms},
    support::Site,
};

/// `check --online` of `text`: the exit code and all that was said.
pub(crate) fn online(site: &Site, text: &str) -> (i32, String) {
    run(site, text, &["check", "--online", "--config"])
}

/// `check` of `text` without it, which asks nobody.
pub(crate) fn offline(site: &Site, text: &str) -> (i32, String) {
    run(site, text, &["check", "--config"])
}

/// A start that should fail, by `serve` itself.
pub(crate) fn start(site: &Site, text: &str) -> (i32, String) {
    run(site, text, &["serve", "--config"])
}

fn run(site: &Site, text: &str, args: &[&str]) -> (i32, String) {
    let path = site.path("check.toml");
    fs::write(&path, text).expect("writes");
    let output = site.command().args(args).arg(&path).output().expect("starts");
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code().expect("an exit code"), words)
}

#[test]
fn what_is_well_is_said() {
    let (aws, bucket) = (moto(), moto().bucket("well"));
    let site = aws.site();
    let (code, words) = online(&site, &under_kms(&bucket, &aws.key(), ""));
    assert_eq!(code, 0, "{words}");
    assert!(!words.contains("FAIL") && words.contains("the largest object"), "{words}");
    assert!(words.contains("the same bytes came back") && words.contains("S3 answers aws:kms"), "{words}");
    assert_eq!(aws.objects(&bucket), [""; 0], "the canary is gone");
}

#[test]
fn what_is_missing_is_named() {
    let (aws, bucket, key) = (moto(), moto().bucket("missing-parts"), moto().key());
    let site = aws.site();
    let elsewhere = key.replace(&key[key.len() - 6..], "000000");
    let ended = aws.key();
    aws.does(json!({"do": "end_key", "arn": ended}));
    let hmac = aws.does(json!({"do": "key", "KeyUsage": "GENERATE_VERIFY_MAC", "KeySpec": "HMAC_256"}))["arn"].clone();
    let hmac = hmac.as_str().expect("an ARN");
    let forbidden = aws.key();
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "kms:DescribeKey", "Resource": "*"}],
    });
    aws.does(json!({"do": "key_policy", "arn": forbidden, "policy": policy}));
    for (bucket, key, expected) in [
        ("no-such-bucket-at-all", key.as_str(), "NoSuchBucket"),
        (&bucket, elsewhere.as_str(), "NotFoundException"),
        (&bucket, ended.as_str(), "its state is PendingDeletion"),
        (&bucket, hmac, "not ENCRYPT_DECRYPT"),
        (&bucket, forbidden.as_str(), "AccessDenied"),
    ] {
        for (code, words) in [online(&site, &under_kms(bucket, key, "")), start(&site, &under_kms(bucket, key, ""))] {
            assert!(matches!(code, 1 | 2), "{expected}: {code} {words}");
            assert!(words.contains(expected), "{expected}: {words}");
            assert!(words.contains("records"), "{expected}: the class is named: {words}");
        }
    }
}

#[test]
fn what_is_denied_is_named() {
    let aws = moto();
    for (name, action, step) in [
        ("put", "s3:PutObject", "seal and store a canary"),
        ("get", "s3:GetObject", "read it raw"),
        ("delete", "s3:DeleteObject", "remove it"),
    ] {
        let bucket = aws.bucket(&format!("denied-{name}"));
        aws.does(json!({"do": "bucket_policy", "bucket": bucket, "policy": deny(action, &bucket)}));
        let site = aws.site();
        let (code, words) = online(&site, &under_kms(&bucket, &aws.key(), ""));
        assert_eq!(code, 2, "{action}: {words}");
        let row = words.lines().find(|line| line.starts_with("FAIL") && line.contains(step));
        assert!(row.is_some_and(|row| row.contains(action)), "{action} is named: {words}");
        // moto refuses by a bucket policy without a code.
        assert!(words.contains("(403)"), "{action}: {words}");
    }
}

#[test]
fn no_region_and_no_credentials_are_named() {
    let (aws, bucket, key) = (moto(), moto().bucket("nameless"), moto().key());
    let mut site = aws.site();
    let text = under_kms(&bucket, &key, "");
    let region = site.environment.iter().position(|(name, _)| name == "AWS_REGION").expect("is set");
    site.environment.remove(region);
    site.environment.retain(|(name, _)| name != "AWS_DEFAULT_REGION");
    let (code, words) = online(&site, &text);
    assert!(code == 2 && words.contains("no AWS region: set AWS_REGION"), "{code} {words}");

    let in_file = text.replace("provider = \"kms\"", "provider = \"kms\"\nregion = \"eu-west-1\"");
    let (code, words) = online(&site, &in_file);
    assert_eq!(code, 0, "{words}");

    site.environment.retain(|(name, _)| !name.starts_with("AWS_ACCESS") && !name.starts_with("AWS_SECRET"));
    let (code, words) = online(&site, &in_file);
    assert!(code == 2 && words.contains("credentials"), "{code} {words}");
}
