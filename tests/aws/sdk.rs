//! The official SDK's KMS keyring, both ways.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    client::{F, LARGE, SMALL_FRAMES},
    keys::offline,
    standin::{StandIn, environment, header, installed, moto, script, under_kms},
    support::pattern,
};

/// The official SDK for Python, major version 4, with `jobs` for `esdk.py`.
fn sdk(jobs: &[Value]) -> Vec<Value> {
    let mut child = Command::new(installed("esdk/bin/python"))
        .arg(script("esdk.py"))
        .arg("batch")
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .envs(environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    child.stdin.take().expect("is piped").write_all(lines.as_bytes()).expect("takes its jobs");
    let output = child.wait_with_output().expect("ends");
    let text = String::from_utf8(output.stdout).expect("text");
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), jobs.len(), "{answers:?}");
    answers
}

fn keyring(aws: &StandIn, key: &str) -> Value {
    json!({"kms": key, "endpoint": aws.endpoint})
}

#[test]
fn the_sdk_opens_what_we_store() {
    let (aws, bucket, key) = (moto(), moto().bucket("sdk-opens"), moto().key());
    let stranger = aws.key();
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &key, SMALL_FRAMES));
    let bytes = pattern(LARGE);
    let sizes = [0, 1, F, 2 * F + 1, LARGE];
    let mut jobs = Vec::new();
    for size in sizes {
        let name = format!("of-{size}");
        site.put(&server, &name, &bytes[..size]);
        let raw = site.path(&name);
        fs::rename(aws.raw(&site, &bucket, &name), &raw).expect("moves");
        let context = json!({"sealward-class": "records", "sealward-vault": "records", "sealward-meta": "sealed"});
        let out = site.path(&format!("{name}.opened"));
        jobs.push(json!({"op": "open", "keyrings": [keyring(aws, &key)], "context": context, "in": raw, "out": out}));
    }
    let mut wrong = jobs[1].clone();
    wrong["keyrings"] = json!([keyring(aws, &stranger)]);
    jobs.push(wrong);
    let answers = sdk(&jobs);
    for (size, answer) in sizes.iter().zip(&answers) {
        assert_eq!(
            (&answer["ok"], &answer["length"], &answer["suite"]),
            (&json!(true), &json!(size), &json!("0x0478")),
            "{answer}"
        );
        let opened = fs::read(site.path(&format!("of-{size}.opened"))).expect("is there");
        assert!(opened == bytes[..*size], "{size}: other bytes");
    }
    assert_eq!(answers[sizes.len()]["ok"], false, "another key doesn't open it: {answers:?}");
}

/// What the SDK seals bears no binding to a name: under the class's own key and
/// context it is refused for that alone; what `sealward seal` binds opens, in the
/// SDK as well.
#[test]
fn what_the_sdk_seals_lacks_its_binding() {
    let (aws, bucket, key) = (moto(), moto().bucket("sdk-seals"), moto().key());
    let site = aws.site();
    let text = under_kms(&bucket, &key, "");
    let (plain, sealed, bare, bound) = (site.path("plain"), site.path("sealed"), site.path("bare"), site.path("bound"));
    fs::write(&plain, b"by the official SDK").expect("writes");
    let context = json!({"sealward-class": "records", "sealward-vault": "records", "sealward-meta": "sealed"});
    let seal = |out, context: &Value| json!({"op": "seal", "keyrings": [keyring(aws, &key)], "context": context, "suite": "0x0478", "in": plain, "out": out});
    let answers = sdk(&[seal(&sealed, &context), seal(&bare, &json!({}))]);
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    assert_eq!(header(&sealed).data_keys()[0].info, key.as_bytes());
    let words = offline(&site, &text, &sealed, "object").expect_err("isn't bound");
    assert!(words.contains("the message id is not bound to this vault, class and name"), "{words}");
    let words = offline(&site, &text, &bare, "object").expect_err("is nobody's");
    assert!(words.contains("the encryption context names another class, or none"), "{words}");
    // So it is in the bucket.
    aws.does(json!({"do": "put", "bucket": bucket, "key": "object", "file": sealed}));
    let server = site.serve_text(&text);
    assert_eq!(site.get(&server, "object").status, 502);
    drop(server);

    let config = site.path("sealing.toml");
    fs::write(&config, &text).expect("writes");
    let output = site
        .command()
        .args(["seal", "--class", "records", "--key", "object", "--config"])
        .args([config.as_os_str(), plain.as_os_str(), "-o".as_ref(), bound.as_os_str()])
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(offline(&site, &text, &bound, "object"), Ok(b"by the official SDK".to_vec()));
    let words = offline(&site, &text, &bound, "elsewhere").expect_err("is another's");
    assert!(words.contains("the message id is not bound to this vault, class and name"), "{words}");
    let out = site.path("opened");
    let answers =
        sdk(&[json!({"op": "open", "keyrings": [keyring(aws, &key)], "context": context, "in": bound, "out": out})]);
    assert_eq!(answers[0]["ok"], true, "{answers:?}");
    assert_eq!(fs::read(&out).expect("is there"), b"by the official SDK");
}
