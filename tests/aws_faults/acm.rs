//! A small ACM: one certificate, exported in the form of AWS's own sample.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    double::{Asked, Said, World},
    kms::{refusal, said},
};

pub(crate) fn operation(headers: &http::HeaderMap) -> &'static str {
    match headers["x-amz-target"].to_str().unwrap_or_default() {
        "CertificateManager.DescribeCertificate" => "DescribeCertificate",
        "CertificateManager.ExportCertificate" => "ExportCertificate",
        _ => "OtherAcm",
    }
}

pub(crate) fn act(world: &World, asked: &Asked) -> Said {
    let Some((serial, cert, key)) = &world.certificate else { return refusal("ResourceNotFoundException") };
    let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else { return refusal("SerializationException") };
    match asked.op {
        "DescribeCertificate" => said(
            200,
            &json!({ "Certificate": {
                "CertificateArn": body["CertificateArn"], "Serial": serial, "Status": "ISSUED", "Type": "PRIVATE",
            }}),
        ),
        "ExportCertificate" => {
            let phrase = STANDARD.decode(body["Passphrase"].as_str().unwrap_or_default()).unwrap_or_default();
            if phrase.len() < 4 || phrase.iter().any(|byte| b"#$%".contains(byte)) {
                return refusal("ValidationException");
            }
            said(200, &json!({ "Certificate": cert, "CertificateChain": "", "PrivateKey": sealed(key, &phrase) }))
        }
        _ => refusal("UnsupportedOperationException"),
    }
}

/// PBES2 with AES-256-CBC, PBKDF2 over HMAC-SHA-1: what AWS answers.
fn sealed(key: &str, phrase: &[u8]) -> String {
    let phrase = format!("pass:{}", String::from_utf8_lossy(phrase));
    let mut child = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1", "-passout", &phrase])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is there");
    child.stdin.take().expect("is piped").write_all(key.as_bytes()).expect("takes a key");
    String::from_utf8(child.wait_with_output().expect("ends").stdout).expect("is text")
}
