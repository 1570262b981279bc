//! The policies of config/aws, judged by their own text: `tests/peers/stack.py` says what it comes
//! to, and the double asks here whether each call that Sealward really makes passes.
//!
//! What is known of AWS's way to read them is written down here: a denial goes before all else, a
//! condition's keys have all to hold, a negated operator holds for what isn't there, a key has to be
//! allowed by its own policy and by the caller's, and S3 asks KMS in its caller's name.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
};

use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    double::{self, Asked, BUCKET, Double, OURS, Pending, REGION, THEIRS, World},
    site::{MIB, PREFIX, config, names, put, serve_with},
    standin::{environment, installed, script},
    support::{Site, eventually, pattern},
};

/// As stack.py has it where there is no stack.
const ACCOUNT: &str = "123456789012";
const ROLE: &str = "arn:aws:iam::123456789012:role/ServerRole";
/// What the template attaches to the server's role.
const SERVER: [&str; 3] = ["WriterPolicy", "ReaderPolicy", "CataloguePolicy"];
const SSE: &str = "x-amz-server-side-encryption";
const SSE_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";

type Context = BTreeMap<String, String>;

/// Whose calls are judged, and how they come.
struct Judge {
    bucket: Vec<Value>,
    key: Vec<Value>,
    /// What the caller may; `None`: everything that isn't denied.
    caller: Option<Vec<Value>>,
    /// The version of TLS that they come over. The double speaks none, so it is told.
    tls: Option<&'static str>,
}

impl Judge {
    /// Of a caller with these policies of the template.
    fn of(policies: &[&str]) -> Self {
        let caller = policies.iter().flat_map(|name| statements(name, "PolicyDocument")).collect();
        Self { caller: Some(caller), ..Self::of_the_bucket() }
    }

    /// Of a caller who may everything.
    fn of_the_bucket() -> Self {
        let (bucket, key) = (statements("VaultPolicy", "PolicyDocument"), statements("SealingKey", "KeyPolicy"));
        Self { bucket, key, caller: None, tls: Some("1.3") }
    }

    /// Whether AWS would let it happen.
    fn passes(&self, asked: &Asked) -> bool {
        match asked.op {
            "DescribeKey" | "GenerateDataKey" | "Decrypt" | "Encrypt" => {
                let said: Value = serde_json::from_slice(&asked.body).expect("KMS is asked in JSON");
                let context = serde_json::from_value(said["EncryptionContext"].clone()).unwrap_or_default();
                self.kms(asked.op, said["KeyId"].as_str().unwrap_or_default(), &by_name(&context))
            }
            op => self.s3(op, &asked.key, asked.query.contains_key("versionId"), &asked.headers),
        }
    }

    /// Whether the key's policy and the caller's both allow it.
    fn kms(&self, op: &str, key: &str, context: &Context) -> bool {
        let Some(caller) = &self.caller else { return true };
        let action = format!("kms:{op}");
        let mut context = context.clone();
        context.insert("aws:PrincipalArn".into(), ROLE.into());
        context.insert("kms:CallerAccount".into(), ACCOUNT.into());
        let allows = |policy: &[Value]| {
            any(policy, "Allow", &action, key, &context) && !any(policy, "Deny", &action, key, &context)
        };
        key == OURS && allows(&self.key) && allows(caller)
    }

    fn s3(&self, op: &str, name: &str, version: bool, headers: &HeaderMap) -> bool {
        // And what S3 asks KMS for, in its caller's name.
        let (action, asks): (&str, &[&str]) = match op {
            "PutObject" | "CreateMultipartUpload" => ("s3:PutObject", &["GenerateDataKey"]),
            "UploadPart" => ("s3:PutObject", &["GenerateDataKey", "Decrypt"]),
            "CompleteMultipartUpload" => ("s3:PutObject", &["Decrypt"]),
            "GetObject" | "HeadObject" | "Probe" => ("s3:GetObject", &["Decrypt"]),
            "DeleteObject" if version => ("s3:DeleteObjectVersion", &[]),
            "DeleteObject" => ("s3:DeleteObject", &[]),
            "AbortMultipartUpload" => ("s3:AbortMultipartUpload", &[]),
            "ListParts" => ("s3:ListMultipartUploadParts", &[]),
            "ListObjectsV2" => ("s3:ListBucket", &[]),
            "ListObjectVersions" => ("s3:ListBucketVersions", &[]),
            "ListMultipartUploads" => ("s3:ListBucketMultipartUploads", &[]),
            other => panic!("nothing is known of {other}"),
        };
        let bucket = format!("arn:aws:s3:::{BUCKET}");
        let resource = if name.is_empty() { bucket.clone() } else { format!("{bucket}/{name}") };
        let mut context: Context = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(SSE))
            .map(|(name, value)| (format!("s3:{name}"), value.to_str().unwrap_or_default().to_owned()))
            .collect();
        context.insert("aws:SecureTransport".into(), self.tls.is_some().to_string());
        context.extend(self.tls.map(|version| ("s3:TlsVersion".to_owned(), version.to_owned())));
        if any(&self.bucket, "Deny", action, &resource, &context) {
            return false;
        }
        let Some(caller) = &self.caller else { return true };
        let through = Context::from([
            ("kms:ViaService".to_owned(), format!("s3.{REGION}.amazonaws.com")),
            ("kms:EncryptionContext:aws:s3:arn".to_owned(), bucket),
        ]);
        any(caller, "Allow", action, &resource, &context)
            && !any(caller, "Deny", action, &resource, &context)
            && asks.iter().all(|op| self.kms(op, OURS, &through))
    }
}

/// An encryption context, as conditions name it.
fn by_name(context: &BTreeMap<String, String>) -> Context {
    context.iter().map(|(name, value)| (format!("kms:EncryptionContext:{name}"), value.clone())).collect()
}

/// The template's resources, with the double's bucket and key.
fn resources() -> &'static Value {
    static RESOURCES: OnceLock<Value> = OnceLock::new();
    RESOURCES.get_or_init(|| {
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/aws/sealward.yaml");
        let output = Command::new(installed("aws/bin/python"))
            .arg(script("stack.py"))
            .arg("resolve")
            .arg(template)
            .arg(format!("BucketName={BUCKET}"))
            .envs(environment())
            .stdin(Stdio::null())
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let key = format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/SealingKey");
        assert!(text.contains(&key) && text.contains(ROLE), "{text}");
        serde_json::from_str(&text.replace(&key, OURS)).expect("JSON")
    })
}

fn statements(name: &str, document: &str) -> Vec<Value> {
    let statements = resources()[name]["Properties"][document]["Statement"].as_array();
    statements.unwrap_or_else(|| panic!("{name} has no {document}")).clone()
}

/// One or several, as policies write both.
fn several(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}

/// Whether a statement of that effect speaks of it. Whose it is, `Principal`, isn't asked here: a test of
/// its own holds each to the one that this reckons with.
fn any(policy: &[Value], effect: &str, action: &str, resource: &str, context: &Context) -> bool {
    policy.iter().any(|statement| {
        statement["Effect"] == effect
            && several(&statement["Action"]).iter().any(|pattern| like(pattern, action))
            && several(&statement["Resource"]).iter().any(|pattern| like(pattern, resource))
            && statement.get("Condition").is_none_or(|condition| holds(condition, context))
    })
}

fn holds(condition: &Value, context: &Context) -> bool {
    let operators = condition.as_object().expect("operators").iter();
    let mut keys = operators.flat_map(|(operator, keys)| {
        keys.as_object().expect("keys").iter().map(move |(key, values)| (operator.as_str(), key, several(values)))
    });
    keys.all(|(operator, key, values)| {
        let found = context.get(key).map(String::as_str);
        let among = |found: &str| values.contains(&found);
        match operator {
            "Null" => among(if found.is_none() { "true" } else { "false" }),
            "StringEquals" | "Bool" => found.is_some_and(among),
            "StringNotEquals" => !found.is_some_and(among),
            "StringLike" | "ArnLike" => found.is_some_and(|found| values.iter().any(|value| like(value, found))),
            "NumericLessThan" => {
                let number = |text: &str| text.parse::<f64>().expect("a number");
                found.is_some_and(|found| values.iter().any(|value| number(found) < number(value)))
            }
            other => panic!("nothing is known of {other}"),
        }
    })
}

/// `*` stands for any text.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((first, rest)) => text
            .strip_prefix(first)
            .is_some_and(|text| text.char_indices().any(|(at, _)| like(rest, &text[at..])) || like(rest, "")),
    }
}

/// As the double takes it.
fn taken(judge: Judge) -> double::Judge {
    Arc::new(move |asked: &Asked| judge.passes(asked))
}

fn world(judge: Judge) -> World {
    World { judge: Some(taken(judge)), versioned: true, ..World::default() }
}

/// Also of what goes on in the background, which would only say so in the log.
#[track_caller]
fn nothing_is_denied(double: &Double) {
    let world = double.world();
    assert!(world.denied.is_empty(), "{:?}", world.denied);
}

#[test]
fn all_that_sealward_does_passes_the_templates_policies() {
    let site = Site::new();
    let double = Double::start(world(Judge::of(&SERVER)));
    let left = Pending { key: format!("{PREFIX}left"), begun: "2020-01-01T00:00:00.000Z".into(), ..Pending::default() };
    double.world().uploads.insert("upload-left".into(), left);
    let server = serve_with(&site, &double, "exclusive = true", "");
    let (small, large) = (pattern(1000), pattern(20 * MIB));
    for (key, bytes) in [("small", &small), ("large", &large)] {
        assert_eq!(put(&site, &server, key, bytes, &[]).status, 201);
        assert!(site.get(&server, key).body == *bytes);
    }
    assert!(double.calls("UploadPart").0 > 1, "it goes in parts");
    assert_eq!(site.curl(["-r", "5000000-5000009", &server.url("large")]).body, large[5_000_000..5_000_010]);
    assert_eq!(put(&site, &server, "small", b"again", &[]).status, 200);
    assert_eq!(site.curl([server.url("?list")]).json()["objects"].as_array().map(Vec::len), Some(2));
    assert_eq!(site.curl(["-X", "DELETE", &server.url("small")]).status, 204);
    eventually("what was left unfinished is aborted", || double.world().uploads.is_empty());
    eventually("the probe has asked", || !double.asked("Probe").is_empty());
    nothing_is_denied(&double);
    assert_eq!(names(&double.world()), ["large"]);
    assert!(double.calls("ListObjectVersions").0 > 0, "the canary was ended with its versions");
}

#[test]
fn the_catalogues_secrets_are_sealed_by_its_own_policy() {
    let tokens = config("", "[catalog]\nurl = \"sqlite:catalog.db\"\n")
        .replace("tokens = \"tokens.json\"", "tokens = { catalog = true }");
    let site = Site::new();
    let double = Double::start(world(Judge::of(&SERVER)));
    drop(site.serve_among(&tokens, &double.environment()));
    nothing_is_denied(&double);

    // Each is needed: the others let nothing else be sealed than objects.
    let (site, double) = (Site::new(), Double::start(world(Judge::of(&SERVER[..2]))));
    assert!(site.try_serve(&tokens, &double.environment()).is_err(), "it must not serve");
    assert!(double.world().denied.iter().any(|(op, _)| *op == "GenerateDataKey"));
}

#[test]
fn a_writer_alone_stores_and_opens_nothing() {
    let site = Site::new();
    let double = Double::start(world(Judge::of(&["WriterPolicy"])));
    let server = serve_with(&site, &double, "canary = \"seal\"", "");
    for (key, size) in [("small", 1000), ("large", 20 * MIB)] {
        assert_eq!(put(&site, &server, key, &pattern(size), &[]).status, 201);
        assert_eq!(site.get(&server, key).status, 503);
    }
    assert_eq!(names(&double.world()).iter().filter(|name| !name.starts_with('.')).count(), 2);
    assert!(double.calls("UploadPart").0 > 1, "it goes in parts");
    let judge = Judge::of(&["WriterPolicy"]);
    let ours = by_name(&BTreeMap::from([("sealward-vault".to_owned(), "records".to_owned())]));
    assert!(judge.kms("GenerateDataKey", OURS, &ours) && !judge.kms("Decrypt", OURS, &ours));
}

#[test]
fn a_reader_alone_reads_and_changes_nothing() {
    let site = Site::new();
    let double = Double::start(world(Judge::of(&SERVER)));
    let (small, large) = (pattern(1000), pattern(20 * MIB));
    let server = serve_with(&site, &double, "", "");
    for (key, bytes) in [("small", &small), ("large", &large)] {
        assert_eq!(put(&site, &server, key, bytes, &[]).status, 201);
    }
    drop(server);
    double.world().judge = Some(taken(Judge::of(&["ReaderPolicy"])));
    let server = serve_with(&site, &double, "canary = \"off\"", "");
    for (key, bytes) in [("small", &small), ("large", &large)] {
        assert!(site.get(&server, key).body == *bytes);
    }
    assert_eq!(site.curl([server.url("?list")]).json()["objects"].as_array().map(Vec::len), Some(2));
    nothing_is_denied(&double);
    assert_eq!(put(&site, &server, "new", &small, &[]).status, 503);
    assert_eq!(site.curl(["-X", "DELETE", &server.url("small")]).status, 503);
    assert_eq!(names(&double.world()), ["large", "small"]);
}

/// The two uses of the key are told apart by their context.
#[test]
fn who_may_read_the_bucket_through_s3_unwraps_no_data_key() {
    let by_s3: Vec<Value> = statements("ReaderPolicy", "PolicyDocument")
        .into_iter()
        .filter(|statement| statement["Sid"] == "DecryptTheBucket" || statement["Sid"] == "Read")
        .collect();
    assert_eq!(by_s3.len(), 2);
    let judge = Judge { caller: Some(by_s3), ..Judge::of_the_bucket() };
    assert!(judge.s3("GetObject", "records/a", false, &HeaderMap::new()));
    for context in [vec![("sealward-vault", "records")], vec![("sealward-purpose", "spool")], vec![]] {
        let context = context.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert!(!judge.kms("Decrypt", OURS, &by_name(&context)), "{context:?}");
    }
}

#[test]
fn auditors_and_operators_have_no_data_whatever_else_they_are_given() {
    let ours = by_name(&BTreeMap::from([("sealward-vault".to_owned(), "records".to_owned())]));
    for policy in ["AuditorPolicy", "OperatorPolicy"] {
        let judge = Judge::of(&[policy, "WriterPolicy", "ReaderPolicy", "CataloguePolicy"]);
        assert!(judge.kms("DescribeKey", OURS, &Context::new()), "{policy}");
        for op in ["GenerateDataKey", "Decrypt"] {
            assert!(!judge.kms(op, OURS, &ours), "{policy}: {op}");
        }
        for op in ["PutObject", "GetObject", "DeleteObject"] {
            assert!(!judge.s3(op, "records/a", false, &HeaderMap::new()), "{policy}: {op}");
        }
    }
}

/// Another vault's objects under the same key, or a key of somebody else's.
#[test]
fn a_key_is_for_its_own_vault_and_roles_for_their_own_key() {
    let judge = Judge::of(&SERVER);
    let vault = |name: &str| by_name(&BTreeMap::from([("sealward-vault".to_owned(), name.to_owned())]));
    assert!(judge.kms("Decrypt", OURS, &vault("records")));
    for (key, context) in [(OURS, vault("other")), (THEIRS, vault("records")), (OURS, Context::new())] {
        for op in ["GenerateDataKey", "Decrypt"] {
            assert!(!judge.kms(op, key, &context), "{op} {key} {context:?}");
        }
    }
}

/// What `any` takes for granted.
#[test]
fn denials_are_for_everybody_and_the_key_for_its_account() {
    let bucket = statements("VaultPolicy", "PolicyDocument");
    assert!(bucket.iter().all(|statement| statement["Effect"] == "Deny"), "{bucket:?}");
    assert!(bucket.iter().all(|statement| statement["Principal"] == "*"), "{bucket:?}");
    let account = json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:root")});
    let key = statements("SealingKey", "KeyPolicy");
    assert!(key.iter().all(|statement| statement["Principal"] == account), "{key:?}");
}

#[test]
fn the_buckets_policy_denies_every_wrong_word_on_encryption() {
    let judge = Judge::of_the_bucket();
    let passes = |op: &str, said: &[(&'static str, &str)]| {
        let headers = said.iter().map(|&(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).expect("a value"))
        });
        judge.s3(op, "records/a", false, &headers.collect())
    };
    let caller = "x-amz-server-side-encryption-customer-algorithm";
    for op in ["PutObject", "CreateMultipartUpload"] {
        for well in [
            &[(SSE, "aws:kms"), (SSE_KEY, OURS)][..],
            &[(SSE, "aws:kms:dsse"), (SSE_KEY, OURS)],
            // The bucket's default, which is the next test's.
            &[],
        ] {
            assert!(passes(op, well), "{op} {well:?}");
        }
        for wrong in [
            &[(SSE, "AES256")][..],
            &[(SSE, "AES256"), (SSE_KEY, OURS)],
            // Which would be the account's own key for S3.
            &[(SSE, "aws:kms")],
            &[(SSE, "aws:kms"), (SSE_KEY, THEIRS)],
            &[(SSE, "aws:kms:dsse"), (SSE_KEY, THEIRS)],
            &[(caller, "AES256")],
        ] {
            assert!(!passes(op, wrong), "{op} {wrong:?}");
        }
    }
    // They carry no word of their own, as Sealward sends them and S3 wants them.
    for op in ["UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload", "GetObject"] {
        assert!(passes(op, &[]), "{op}");
    }
}

#[test]
fn what_is_put_without_a_word_is_encrypted_with_the_key() {
    let said = &resources()["Bucket"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"];
    let default = json!({"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": OURS});
    assert_eq!(*said, json!([{"BucketKeyEnabled": true, "ServerSideEncryptionByDefault": default}]));
}

#[test]
fn the_buckets_policy_takes_tls_alone_and_no_old_one() {
    let site = Site::new();
    for tls in [None, Some("1.0"), Some("1.1")] {
        let judge = Judge { tls, ..Judge::of_the_bucket() };
        for op in ["PutObject", "GetObject", "DeleteObject", "AbortMultipartUpload"] {
            assert!(!judge.s3(op, "records/a", false, &HeaderMap::new()), "{tls:?} {op}");
        }
        assert!(!judge.s3("ListObjectsV2", "", false, &HeaderMap::new()), "{tls:?}");
        let double = Double::start(world(judge));
        let log = site.try_serve(&config("", ""), &double.environment()).err().expect("it must not serve");
        assert!(log.contains("AccessDenied"), "{log}");
        assert!(double.world().objects.is_empty());
    }
    let judge = Judge { tls: Some("1.2"), ..Judge::of_the_bucket() };
    assert!(judge.s3("GetObject", "records/a", false, &HeaderMap::new()));
}

/// Sealward itself, told of another key than the bucket's.
#[test]
fn a_class_under_another_key_stores_nothing_in_the_bucket() {
    let site = Site::new();
    let double = Double::start(world(Judge::of_the_bucket()));
    let other = config("", "").replace(OURS, THEIRS);
    let log = site.try_serve(&other, &double.environment()).err().expect("it must not serve");
    assert!(log.contains("AccessDenied"), "{log}");
    assert!(double.world().objects.is_empty() && double.world().uploads.is_empty());
}
