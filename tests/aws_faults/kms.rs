//! A small KMS: it wraps by remembering, and judges key and context.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::double::{ABROAD, Asked, Fault, OURS, REPLICATED, Said, THEIRS, World, Wrapped};

pub(crate) fn operation(headers: &http::HeaderMap) -> &'static str {
    match headers["x-amz-target"].to_str().unwrap_or_default() {
        "TrentService.GenerateDataKey" => "GenerateDataKey",
        "TrentService.Decrypt" => "Decrypt",
        "TrentService.Encrypt" => "Encrypt",
        "TrentService.DescribeKey" => "DescribeKey",
        _ => "OtherKms",
    }
}

/// Whether it is a replica of the one multi-Region key there is.
fn replica(arn: &str) -> bool {
    arn.ends_with(REPLICATED)
}

pub(crate) fn refusal(code: &str) -> Said {
    let status = if code == "KMSInternalException" { 500 } else { 400 };
    said(status, &json!({ "__type": code, "message": "as planned" }))
}

pub(crate) fn act(world: &mut World, asked: &Asked) -> Said {
    let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else { return refusal("SerializationException") };
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let bytes = |name: &str| STANDARD.decode(text(name)).unwrap_or_default();
    let context: BTreeMap<String, String> =
        serde_json::from_value(body["EncryptionContext"].clone()).unwrap_or_default();
    let arn = text("KeyId");
    let named = match asked.fault {
        Some(Fault::Key(other)) => other.to_owned(),
        _ => arn.clone(),
    };
    let shortened = |key: &[u8]| match asked.fault {
        Some(Fault::Short) => STANDARD.encode(&key[..31]),
        _ => STANDARD.encode(key),
    };
    if !arn.is_empty() && ![OURS, THEIRS, ABROAD].contains(&arn.as_str()) && !arn.ends_with(REPLICATED) {
        return refusal("NotFoundException");
    }
    // An endpoint knows the keys of its own region; whose it is, the signature says.
    let signed = asked.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let region = signed.split('/').nth(2).unwrap_or_default();
    if !arn.is_empty() && arn.split(':').nth(3) != Some(region) {
        return refusal("NotFoundException");
    }
    let state = if world.key_state.is_empty() { "Enabled" } else { world.key_state };
    if state != "Enabled" && asked.op != "DescribeKey" {
        return refusal(if state == "Disabled" { "DisabledException" } else { "KMSInvalidStateException" });
    }
    match asked.op {
        "DescribeKey" => said(
            200,
            &json!({ "KeyMetadata": {
                "AWSAccountId": "111122223333", "KeyId": "0a0a", "Arn": named, "CreationDate": 1.0,
                "Enabled": state == "Enabled", "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": state,
            }}),
        ),
        "GenerateDataKey" if text("KeySpec") == "AES_256" => {
            let mut key = vec![0; 32];
            aws_lc_rs::rand::fill(&mut key).expect("random bytes");
            let blob = wrap(world, &arn, context, key.clone());
            let answer =
                json!({ "CiphertextBlob": STANDARD.encode(blob), "Plaintext": shortened(&key), "KeyId": named });
            said(200, &answer)
        }
        "Encrypt" => {
            let blob = wrap(world, &arn, context, bytes("Plaintext"));
            said(200, &json!({ "CiphertextBlob": STANDARD.encode(blob), "KeyId": named }))
        }
        "Decrypt" => match world.wrapped.get(&bytes("CiphertextBlob")) {
            Some(wrapped) if !arn.is_empty() && wrapped.arn != arn && !(replica(&arn) && replica(&wrapped.arn)) => {
                refusal("IncorrectKeyException")
            }
            Some(wrapped) if wrapped.context == context => {
                let named = if arn.is_empty() { wrapped.arn.clone() } else { named };
                said(200, &json!({ "Plaintext": shortened(&wrapped.plaintext), "KeyId": named }))
            }
            _ => refusal("InvalidCiphertextException"),
        },
        _ => refusal("UnsupportedOperationException"),
    }
}

/// The ciphertext of `plaintext`: a word that only this KMS knows.
pub(crate) fn wrap(world: &mut World, arn: &str, context: BTreeMap<String, String>, plaintext: Vec<u8>) -> Vec<u8> {
    let blob = format!("wrapped-{:0160}", world.number()).into_bytes();
    world.wrapped.insert(blob.clone(), Wrapped { arn: arn.to_owned(), context, plaintext });
    blob
}

pub(crate) fn said(status: u16, body: &Value) -> Said {
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    Said { status, headers, body: body.to_string().into() }
}
