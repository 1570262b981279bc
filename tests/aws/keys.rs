//! Keys in KMS: which may seal, which may open, and under which context.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    check::online,
    standin::{header, moto, under_kms},
    support::Site,
};

/// The data key's own context is the class's, and KMS holds to it.
#[test]
fn kms_binds_the_context() {
    let (aws, bucket, key) = (moto(), moto().bucket("context"), moto().key());
    let site = aws.site();
    for (binding, prefix) in [("message-id", "plain/"), ("strict", "strict/")] {
        let class = format!("prefix = \"{prefix}\"\nbinding = \"{binding}\"\n");
        let server = site.serve_text(&under_kms(&bucket, &key, &class));
        site.put(&server, "the/object", b"bound");
        assert_eq!(site.get(&server, "the/object").body, b"bound");
        let raw = header(&aws.raw(&site, &bucket, &format!("{prefix}the/object")));
        let [data_key] = raw.data_keys() else { panic!("one data key") };
        assert_eq!(data_key.provider, b"aws-kms");
        assert_eq!(data_key.info, key.as_bytes(), "the key's own ARN");
        let context: Map<String, Value> =
            raw.context().iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        assert_eq!(context["sealward-class"], "records");
        assert_eq!(context.get("sealward-key"), (binding == "strict").then(|| json!("the/object")).as_ref());

        let decrypt = |context: &Map<String, Value>| {
            let ciphertext = STANDARD.encode(&data_key.ciphertext);
            aws.ask(json!({"do": "decrypt", "arn": key, "ciphertext": ciphertext, "context": context}))
        };
        assert_eq!(decrypt(&context)["length"], 32);
        let mut other = context.clone();
        other["sealward-class"] = json!("other");
        let mut less = context.clone();
        less.remove("sealward-vault");
        for wrong in [other, less, Map::new()] {
            let answer = decrypt(&wrong);
            assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!("InvalidCiphertextException")));
        }
    }
}

/// An alias seals under what it names; moved, it seals under the next key, and the
/// class opens what either has sealed.
#[test]
fn an_alias_may_be_pointed_elsewhere() {
    let (aws, bucket) = (moto(), moto().bucket("alias"));
    let (first, second) = (aws.key(), aws.key());
    let site = aws.site();
    aws.alias("alias/moving", &first);
    let text = under_kms(&bucket, "alias/moving", &format!("read_keys = [\"{first}\", \"{second}\"]\n"));
    let server = site.serve_text(&text);
    site.put(&server, "one", b"under the first");
    assert_eq!(server.stop().code(), Some(0));
    aws.alias("alias/moving", &second);
    let server = site.serve_text(&text);
    site.put(&server, "two", b"under the second");
    assert_eq!(site.get(&server, "one").body, b"under the first");
    assert_eq!(site.get(&server, "two").body, b"under the second");
    for (name, key) in [("one", &first), ("two", &second)] {
        assert_eq!(header(&aws.raw(&site, &bucket, name)).data_keys()[0].info, key.as_bytes());
        assert_eq!(aws.head(&bucket, name)["SSEKMSKeyId"], **key, "{name}");
    }
    drop(server);

    // Pointed at a key that the class may not open, it doesn't start.
    let third = aws.key();
    aws.alias("alias/moving", &third);
    let (code, words) = online(&site, &text);
    assert_eq!(code, 2, "{words}");
    assert!(words.contains(&third) && words.contains("isn't among `read_keys`: add it there"), "{words}");
}

/// An object sealed under a key that the class doesn't list is refused, though KMS
/// would open it for us.
#[test]
fn only_listed_keys_open() {
    let (aws, bucket) = (moto(), moto().bucket("listed"));
    let (own, foreign) = (aws.key(), aws.key());
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &foreign, ""));
    site.put(&server, "planted", b"by somebody else");
    assert_eq!(server.stop().code(), Some(0));
    let server = site.serve_text(&under_kms(&bucket, &own, ""));
    // The canary of the start has asked for its own.
    let decrypts = || -> Vec<String> {
        server.metrics().lines().filter(|line| line.contains("operation=\"decrypt\"")).map(str::to_owned).collect()
    };
    let before = decrypts();
    let refused = site.get(&server, "planted");
    assert_eq!(refused.status, 502, "{refused:?}");
    assert_eq!(server.metric("sealward_tamper_total{reason=\"data_key\"}"), 1.0);
    assert_eq!(decrypts(), before, "KMS is never asked");
}

/// Further recipients open what they are named for.
#[test]
fn a_recipient_opens_alone() {
    let (aws, bucket) = (moto(), moto().bucket("recipients"));
    let (own, other) = (aws.key(), aws.key());
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &own, &format!("recipients = [\"{other}\"]\n")));
    site.put(&server, "object", b"for two");
    drop(server);
    let raw = aws.raw(&site, &bucket, "object");
    assert_eq!(header(&raw).data_keys().len(), 2);
    aws.does(json!({"do": "disable", "arn": own}));
    let opened = offline(&site, &under_kms(&bucket, &other, ""), &raw, "object");
    assert_eq!(opened, Ok(b"for two".to_vec()));
}

/// A key that is disabled under a running server: what is cached goes on inside its
/// bounds, and a fresh server says what is wrong.
#[test]
fn a_disabled_key_stops_the_start() {
    let (aws, bucket, key) = (moto(), moto().bucket("disabled"), moto().key());
    let site = aws.site();
    let text = under_kms(&bucket, &key, "");
    let server = site.serve_text(&text);
    site.put(&server, "object", b"sealed before");
    aws.does(json!({"do": "disable", "arn": key}));
    assert_eq!(site.get(&server, "object").body, b"sealed before", "from the cache");
    let (code, words) = online(&site, &text);
    assert_eq!(code, 2, "{words}");
    assert!(words.contains("can't be used: its state is Disabled"), "{words}");
    assert_eq!(server.stop().code(), Some(0));

    aws.does(json!({"do": "enable", "arn": key}));
    let server = site.serve_text(&text);
    assert_eq!(site.get(&server, "object").body, b"sealed before");
}

/// `sealward open` of `file` as the object `key`.
pub(crate) fn offline(site: &Site, text: &str, file: &std::path::Path, key: &str) -> Result<Vec<u8>, String> {
    let path = site.path("offline.toml");
    fs::write(&path, text).expect("writes");
    let output = site
        .command()
        .args(["open", "--class", "records", "--key", key, "--config"])
        .args([&path, file])
        .output()
        .expect("starts");
    if output.status.success() {
        Ok(output.stdout)
    } else {
        assert!(output.stdout.is_empty() || output.stdout.len().is_multiple_of(4096), "never a torn frame");
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
