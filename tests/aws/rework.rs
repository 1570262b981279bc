//! `reencrypt`, `verify` and `adopt` on a bucket under KMS keys, beside a server that serves it.

use std::{fs, process::Output};

use serde_json::json;

use crate::{
    client::LARGE,
    standin::{header, moto, under_kms},
    support::{Site, pattern},
};

/// Runs `verb` under the configuration `text`; its exit code, last line, and words.
fn run(site: &Site, text: &str, verb: &str, more: &[&str]) -> (i32, String, String) {
    let (code, said, words) = told(site, text, verb, more);
    (code, said.lines().last().unwrap_or_default().to_owned(), words)
}

/// Runs `verb`; its exit code, what it said, and its log.
fn told(site: &Site, text: &str, verb: &str, more: &[&str]) -> (i32, String, String) {
    let path = site.path("rework.toml");
    fs::write(&path, text).expect("writes");
    let output: Output =
        site.command().args([verb, "--class", "records", "--config"]).arg(&path).args(more).output().expect("starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("is text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn a_class_moves_to_another_key_while_it_is_served() {
    let (aws, bucket) = (moto(), moto().bucket("rework-reencrypt"));
    let (old, new) = (aws.key(), aws.key());
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &old, "prefix = \"in/\"\n"));
    let objects = [("empty", vec![]), ("small", b"small".to_vec()), ("deep/er/large", pattern(LARGE))];
    for (key, bytes) in &objects {
        site.put(&server, key, bytes);
    }
    drop(server);
    let keys = format!("prefix = \"in/\"\nread_keys = [\"{old}\", \"{new}\"]\n");
    let text = under_kms(&bucket, &new, &keys);
    let server = site.serve_text(&text);
    let bytes = LARGE + 5;

    let (code, line, words) = run(&site, &text, "reencrypt", &["--dry-run"]);
    assert_eq!(
        (code, line.as_str()),
        (0, &*format!("class records: 3 would be sealed anew, 0 skipped, 0 failed, {bytes} bytes")),
        "{words}"
    );
    assert_eq!(aws.head(&bucket, "in/small")["SSEKMSKeyId"], *old, "a dry run changes nothing");
    let (code, line, words) = run(&site, &text, "reencrypt", &["--to-key", &new]);
    assert_eq!(
        (code, line.as_str()),
        (0, &*format!("class records: 3 sealed anew, 0 skipped, 0 failed, {bytes} bytes")),
        "{words}"
    );
    let (code, line, words) = run(&site, &text, "reencrypt", &[]);
    assert_eq!((code, line.as_str()), (0, "class records: 0 sealed anew, 3 skipped, 0 failed, 0 bytes"), "{words}");
    for (key, _) in &objects {
        let name = format!("in/{key}");
        let data_keys = header(&aws.raw(&site, &bucket, &name)).data_keys().to_vec();
        assert!(data_keys.len() == 1 && data_keys[0].info == new.as_bytes(), "{key}: our own encryption");
        assert_eq!(aws.head(&bucket, &name)["SSEKMSKeyId"], *new, "{key}: S3's");
    }
    assert_eq!(aws.uploads(&bucket), json!([]));
    assert_eq!(aws.objects(&bucket).len(), 3, "no canary is left");

    // The old key may go: nothing needs it any more.
    aws.does(json!({"do": "disable", "arn": old}));
    let alone = under_kms(&bucket, &new, "prefix = \"in/\"\n");
    let (code, line, words) = run(&site, &alone, "verify", &[]);
    assert_eq!(
        (code, line.as_str()),
        (0, &*format!("class records: 3 whole, 0 skipped, 0 failed, {bytes} bytes")),
        "{words}"
    );
    for (key, bytes) in &objects {
        assert!(site.get(&server, key).body == *bytes, "{key}: the server that ran all along");
    }
}

#[test]
fn verify_names_every_object_that_is_damaged() {
    let (aws, bucket, key) = (moto(), moto().bucket("rework-verify"), moto().key());
    let site = aws.site();
    let text = under_kms(&bucket, &key, "");
    let server = site.serve_text(&text);
    for name in ["good", "flipped", "short", "long"] {
        site.put(&server, name, &pattern(700_000));
    }
    drop(server);
    for (name, how) in
        [("flipped", json!({"at": 600_000})), ("short", json!({"cut": 1})), ("long", json!({"add": "x"}))]
    {
        let mut job = json!({"do": "copy", "bucket": bucket, "key": name, "to": name});
        job.as_object_mut().expect("an object").extend(how.as_object().expect("an object").clone());
        aws.does(job);
    }
    // Under another name than it was sealed for.
    aws.does(json!({"do": "copy", "bucket": bucket, "key": "good", "to": "renamed"}));
    let (code, said, words) = told(&site, &text, "verify", &[]);
    let last = "class records: 1 whole, 0 skipped, 4 failed, 700000 bytes";
    assert_eq!((code, said.lines().last()), (1, Some(last)), "{words}");
    for name in ["flipped", "short", "long", "renamed"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("{name}: "))), "{name}: {said}");
    }
}

#[test]
fn what_a_bucket_holds_in_plain_is_adopted() {
    let (aws, bucket, plain, key) =
        (moto(), moto().bucket("rework-adopt"), moto().bucket("rework-plain"), moto().key());
    let site = aws.site();
    let objects =
        [("empty", vec![]), ("small", b"small".to_vec()), ("deep/er/large", pattern(LARGE)), ("ä +", b"x".to_vec())];
    for (name, bytes) in &objects {
        let file = site.path("plain");
        fs::write(&file, bytes).expect("writes");
        let about = json!({"do": "put", "bucket": plain, "key": format!("old/{name}"), "file": file,
            "ContentType": "text/x-plain", "Metadata": {"colour": "blue"}});
        aws.does(about);
    }
    let text = under_kms(&bucket, &key, "prefix = \"in/\"\n");
    let bytes = LARGE + 6;
    let from = format!("s3://{plain}/old/");
    let (code, line, words) = run(&site, &text, "adopt", &["--from", &from]);
    assert_eq!(
        (code, line.as_str()),
        (0, &*format!("class records: 4 adopted, 0 skipped, 0 failed, {bytes} bytes")),
        "{words}"
    );
    let (code, line, words) = run(&site, &text, "adopt", &["--from", &from]);
    assert_eq!((code, line.as_str()), (0, "class records: 0 adopted, 4 skipped, 0 failed, 0 bytes"), "{words}");
    assert_eq!(aws.objects(&plain).len(), 4, "what was there is still there");
    assert_eq!(aws.uploads(&bucket), json!([]));

    let server = site.serve_text(&text);
    for (name, bytes) in &objects {
        let answer = site.get(&server, &name.replace('ä', "%C3%A4").replace(' ', "%20").replace('+', "%2B"));
        assert!(answer.status == 200 && answer.body == *bytes, "{name}: {answer:?}");
        assert_eq!(
            (answer.header("content-type"), answer.header("x-amz-meta-colour")),
            ("text/x-plain", "blue"),
            "{name}"
        );
        assert_eq!(aws.head(&bucket, &format!("in/{name}"))["SSEKMSKeyId"], *key, "{name}");
    }
    // A bucket that isn't there is a fault of the command's, named.
    let (code, _, words) = run(&site, &text, "adopt", &["--from", "s3://nowhere-at-all/"]);
    assert!(code == 1 && words.contains("nowhere-at-all"), "{code}: {words}");
}
