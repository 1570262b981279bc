//! A small KMS: what it wraps is sealed under one key of this process, and bound to the key's ARN
//! and the encryption context.

use std::collections::BTreeMap;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    State,
    answers::{Answer, Body},
    counts::OPERATIONS,
};

/// The key that every alias stands for.
pub(crate) const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/5ea1ed00-1111-2222-3333-444444444444";

type Context = BTreeMap<String, String>;

/// The key that wraps.
pub(crate) struct Kms(LessSafeKey);

/// What any of the calls says.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    key_id: String,
    key_spec: String,
    encryption_context: Context,
    plaintext: String,
    ciphertext_blob: String,
}

impl Default for Kms {
    fn default() -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &random::<32>()).expect("has its length")))
    }
}

impl Kms {
    /// Ciphertext of `plaintext`: the ARN and its length, a nonce, what is sealed.
    fn wrap(&self, arn: &str, context: &Context, plaintext: &[u8]) -> String {
        let nonce = random::<NONCE_LEN>();
        let mut sealed = plaintext.to_vec();
        let aad = bound(arn, context);
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad.as_slice()), &mut sealed)
            .expect("is short");
        let length = u8::try_from(arn.len()).expect("`named` saw to it");
        STANDARD.encode([&[length][..], arn.as_bytes(), &nonce, &sealed].concat())
    }

    /// The ARN and the plaintext of a ciphertext that came of `wrap` under this context.
    fn open(&self, blob: &str, context: &Context) -> Option<(String, Vec<u8>)> {
        let blob = STANDARD.decode(blob).ok()?;
        let (length, rest) = blob.split_first()?;
        let (arn, rest) = rest.split_at_checked(usize::from(*length))?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let arn = str::from_utf8(arn).ok()?;
        let mut sealed = sealed.to_vec();
        let aad = bound(arn, context);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plaintext = self.0.open_in_place(nonce, Aad::from(aad.as_slice()), &mut sealed).ok()?;
        Some((arn.to_owned(), plaintext.to_vec()))
    }
}

/// Answers one request.
///
/// # Errors
/// When its body ended early, which ends the connection.
pub(crate) async fn answer(state: &'static State, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            state.counts.failed.add(1);
            return Err(error);
        }
    };
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.strip_prefix("TrentService.").unwrap_or_default();
    if let Some(at) = OPERATIONS.iter().position(|known| *known == operation) {
        state.counts.kms[at].add(1);
    }
    let (status, told) = match act(&state.kms, operation, &body) {
        Ok(told) => (StatusCode::OK, told),
        Err(code) => {
            state.counts.failed.add(1);
            (StatusCode::BAD_REQUEST, json!({ "__type": code, "message": code }))
        }
    };
    let mut answer = Answer::new(Body::Said(told.to_string().into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    Ok(answer)
}

/// What is answered, or the refusal's type.
fn act(kms: &Kms, operation: &str, body: &[u8]) -> Result<Value, &'static str> {
    let asked: Asked = serde_json::from_slice(body).map_err(|_| "SerializationException")?;
    let context = &asked.encryption_context;
    match operation {
        "DescribeKey" => {
            let arn = named(&asked.key_id);
            Ok(json!({ "KeyMetadata": {
                "AWSAccountId": "111122223333",
                "KeyId": arn.rsplit('/').next(),
                "Arn": arn,
                "CreationDate": 1.0,
                "Enabled": true,
                "KeySpec": "SYMMETRIC_DEFAULT",
                "KeyState": "Enabled",
                "KeyUsage": "ENCRYPT_DECRYPT",
            }}))
        }
        "GenerateDataKey" if asked.key_spec == "AES_256" => {
            let (arn, key) = (named(&asked.key_id), random::<32>());
            let blob = kms.wrap(arn, context, &key);
            Ok(json!({ "CiphertextBlob": blob, "KeyId": arn, "Plaintext": STANDARD.encode(key) }))
        }
        "GenerateDataKey" => Err("ValidationException"),
        "Encrypt" => {
            let arn = named(&asked.key_id);
            let plaintext = STANDARD.decode(&asked.plaintext).map_err(|_| "SerializationException")?;
            Ok(json!({ "CiphertextBlob": kms.wrap(arn, context, &plaintext), "KeyId": arn }))
        }
        "Decrypt" => {
            let opened = kms.open(&asked.ciphertext_blob, context);
            let (arn, plaintext) = opened.ok_or("InvalidCiphertextException")?;
            if !asked.key_id.is_empty() && named(&asked.key_id) != arn {
                return Err("IncorrectKeyException");
            }
            Ok(json!({ "KeyId": arn, "Plaintext": STANDARD.encode(plaintext) }))
        }
        _ => Err("UnsupportedOperationException"),
    }
}

/// The ARN of the key that is asked for: itself, or what aliases and ids stand for.
fn named(id: &str) -> &str {
    if id.starts_with("arn:") && id.contains(":key/") && u8::try_from(id.len()).is_ok() { id } else { ARN }
}

/// What a ciphertext is bound to, each text after its length.
fn bound(arn: &str, context: &Context) -> Vec<u8> {
    let texts = context.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let mut bound = Vec::new();
    for text in [arn].into_iter().chain(texts) {
        bound.extend_from_slice(&text.len().to_be_bytes());
        bound.extend_from_slice(text.as_bytes());
    }
    bound
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
