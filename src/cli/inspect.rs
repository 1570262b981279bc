//! `inspect`: what a message claims of itself.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Failure, offline::read_header, output};
use crate::message::{EncryptedDataKey, Layout, SUITE};

/// Prints the header as JSON.
pub(super) fn run(path: Option<&Path>) -> Result<(), Failure> {
    let mut input = output::Input::open(path)?;
    let (header, rest) = read_header(&mut input)?;
    let read = (header.len() + rest.len()) as u64;
    let length = match input.length() {
        Some(length) => length,
        None => read + count(&mut input)?,
    };
    // Computed from the length, and `null` where no whole message has it.
    let plaintext = Layout::new(header.len(), header.frame_length()).extent(length).ok();
    let context: Map<String, Value> =
        header.context().iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    let data_keys: Vec<Value> = header.data_keys().iter().map(describe).collect();
    let described = json!({
        "suite": format!("{SUITE:#06x}"),
        "message_id": header.id().to_string(),
        "encryption_context": context,
        "data_keys": data_keys,
        "frame_length": header.frame_length(),
        "header_length": header.len(),
        "sealed_length": length,
        "plaintext_length": plaintext.map(|extent| extent.plaintext_length()),
    });
    output::say(&serde_json::to_string_pretty(&described).map_err(Failure::new)?);
    Ok(())
}

/// Bytes that are left of the input.
fn count(input: &mut output::Input) -> Result<u64, Failure> {
    let mut counted = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        let filled = input.fill(&mut piece)?;
        counted += filled as u64;
        if filled < piece.len() {
            return Ok(counted);
        }
    }
}

/// The provider and the name of the key. A Raw AES keyring's info goes on with
/// tag length, iv length and iv, which name nothing.
fn describe(data_key: &EncryptedDataKey) -> Value {
    const RAW_AES_TAIL: usize = 4 + 4 + 12;
    let info = &data_key.info;
    let name = match info.len().checked_sub(RAW_AES_TAIL) {
        Some(len) if data_key.provider != b"aws-kms" && info[len..len + 8] == [0, 0, 0, 128, 0, 0, 0, 12] => {
            &info[..len]
        }
        _ => &info[..],
    };
    json!({
        "provider": String::from_utf8_lossy(&data_key.provider),
        "key": String::from_utf8_lossy(name),
    })
}
