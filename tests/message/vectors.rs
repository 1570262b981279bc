//! Messages on file: what the official SDK wrote, opened or refused as its index
//! says; and ours, for a stranger's reader. `SEALWARD_WRITE_VECTORS=1 cargo test
//! --test message` writes ours anew, which changes only what is random.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealward::{
    fault::Tamper,
    message::{Caps, Damage, Draft, EncryptedDataKey, EncryptionContext, Header, MessageId, Opener, Sealer},
    secret::Key256,
};
use serde_json::{Value, json};

use crate::{
    independent,
    support::{End, KEY, data_key, hex, key, plaintext, read_with, seal_draft, unhex},
};

pub(crate) fn writing() -> bool {
    std::env::var_os("SEALWARD_WRITE_VECTORS").is_some()
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn json_file(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn pairs(context: &Value) -> Vec<(&str, &str)> {
    let context = context.as_object().expect("a context");
    context.iter().map(|(key, value)| (key.as_str(), value.as_str().expect("text"))).collect()
}

/// The SDK's raw AES keyring: AES-256-GCM, the context its additional data.
struct Keyring {
    namespace: String,
    name: String,
    key: Vec<u8>,
}

impl Keyring {
    fn load(file: &str) -> Self {
        let ring = json_file(&tests().join(file));
        Self {
            namespace: text(&ring, "namespace").to_owned(),
            name: text(&ring, "name").to_owned(),
            key: STANDARD.decode(text(&ring, "wrapping_key")).expect("base64"),
        }
    }

    fn unwrap(&self, wrapped: &EncryptedDataKey, context: &[u8]) -> Option<Key256> {
        if wrapped.provider != self.namespace.as_bytes() {
            return None;
        }
        let rest = wrapped.info.strip_prefix(self.name.as_bytes())?;
        let iv = rest.strip_prefix(&[0, 0, 0, 128, 0, 0, 0, 12])?.try_into().ok()?;
        Key256::from_slice(&independent::gcm_open(&self.key, iv, context, &wrapped.ciphertext)?)
    }
}

/// The data key of a message, if one of the rings opens it.
fn data_key_of(header: &Header, rings: &[Keyring]) -> Option<Key256> {
    let context = header.context().encode().expect("was read");
    rings.iter().find_map(|ring| header.data_keys().iter().find_map(|wrapped| ring.unwrap(wrapped, &context)))
}

fn open(message: &[u8], rings: &[Keyring]) -> (Vec<u8>, Result<End, &'static str>) {
    let header = match Header::parse(message, &Caps::default()) {
        Ok(Some(header)) => header,
        Ok(None) => return (Vec::new(), Ok(End::NoHeader)),
        Err(damage) => return (Vec::new(), Ok(End::Damaged(damage))),
    };
    let Some(data_key) = data_key_of(&header, rings) else { return (Vec::new(), Err("key")) };
    let (out, end) = read_with(message, &data_key);
    (out, Ok(end))
}

fn refused_as_stated(reason: &str, end: &Result<End, &'static str>) -> bool {
    let damaged = |expected: Tamper, words: &str| matches!(end, Ok(End::Damaged(Damage { reason, what })) if *reason == expected && what.contains(words));
    match reason {
        "suite" => damaged(Tamper::Suite, "0x0578"),
        "version" => damaged(Tamper::Suite, "version 1"),
        "not-framed" => damaged(Tamper::Suite, "framed"),
        "key" => matches!(end, Err("key")),
        "truncated" => matches!(end, Ok(End::NoHeader)) || damaged(Tamper::Length, ""),
        "trailing" => damaged(Tamper::Trailing, ""),
        "frame" | "iv" => damaged(Tamper::Frame, ""),
        "length" => damaged(Tamper::Frame, "length"),
        "header" => damaged(Tamper::Header, ""),
        "commitment" => damaged(Tamper::Commitment, ""),
        "context" => damaged(Tamper::Header, "context"),
        "caps" => damaged(Tamper::Caps, ""),
        other => panic!("a reason this test doesn't know: {other}"),
    }
}

#[test]
fn what_the_official_sdk_wrote_is_opened_or_refused_as_stated() {
    let index = json_file(&tests().join("vectors/index.json"));
    let vectors = index["vectors"].as_array().expect("vectors");
    let mut opened = 0;
    for vector in vectors {
        let name = text(vector, "name");
        let message = fs::read(tests().join(text(vector, "file"))).expect("a vector's file");
        assert_eq!(message.len() as u64, vector["sealed_length"].as_u64().expect("a length"), "{name}");
        let rings = vector.get("readers").unwrap_or(&vector["keyrings"]).as_array().expect("keyrings");
        let rings: Vec<Keyring> = rings.iter().map(|file| Keyring::load(file.as_str().expect("a file"))).collect();
        let (out, end) = open(&message, &rings);
        if text(vector, "expect") != "open" {
            assert!(refused_as_stated(text(vector, "reason"), &end), "{name}: {end:?}");
            continue;
        }
        opened += 1;
        assert!(matches!(end, Ok(End::Whole)), "{name}: {end:?}");
        let len = usize::try_from(vector["length"].as_u64().expect("a length")).expect("small");
        assert_eq!(out, plaintext(len), "{name}");
        let header = Header::parse(&message, &Caps::default()).expect("was read").expect("whole");
        assert_eq!(u64::from(header.frame_length()), vector["frame_length"].as_u64().expect("a length"), "{name}");
        let context = EncryptionContext::new(pairs(&vector["context"])).expect("valid");
        assert_eq!(header.context(), &context, "{name}");
        // Each ring opens it alone, where several wrapped its key.
        for ring in rings {
            assert!(data_key_of(&header, &[ring]).is_some(), "{name}");
        }
        let layout = sealward::message::Layout::new(header.len(), header.frame_length());
        let extent = layout.extent(message.len() as u64).expect("a whole message's length");
        assert_eq!(extent.plaintext_length(), out.len() as u64, "{name}");
    }
    assert!(opened >= 10 && vectors.len() >= opened + 10, "both kinds are there");
}

fn ours(name: &str) -> PathBuf {
    tests().join("vectors/sealward").join(name)
}

fn write(name: &str, value: &Value) {
    fs::create_dir_all(ours("")).expect("a directory");
    let text = serde_json::to_string_pretty(value).expect("JSON") + "\n";
    fs::write(ours(name), text).expect("written");
}

#[test]
fn our_bindings_on_file_hold() {
    if writing() {
        let nonce = [0xA0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let ids: Vec<Value> = [
            ("archive", "records", "2024/05/invoice.pdf"),
            ("archive", "records", "2024/05/invoice.pdF"),
            ("archiv", "erecords", "2024/05/invoice.pdf"),
            ("ab", "c", ""),
            ("a", "bc", ""),
            ("", "", "abc"),
            ("archive", "records", "ünïcode/鍵 with spaces"),
        ]
        .into_iter()
        .map(|(vault, class, key)| {
            let id = independent::message_id(nonce, vault, class, key);
            json!({ "nonce": hex(&nonce), "vault": vault, "class": class, "key": key, "message_id": hex(&id) })
        })
        .collect();
        write(
            "binding.json",
            &json!({
                "rule": "message_id = nonce[16] || SHA-256(\"sealward-mid-v1\\0\" || nonce || lp(vault) || lp(class) || lp(key))[0..16]; lp = u16 length, big-endian, and the bytes",
                "ids": ids,
            }),
        );
    }
    let file = json_file(&ours("binding.json"));
    let ids = file["ids"].as_array().expect("ids");
    assert!(ids.len() >= 7);
    for id in ids {
        let bytes: [u8; 32] = unhex(text(id, "message_id")).try_into().expect("32 bytes");
        for other in ids {
            let same = ["vault", "class", "key"].iter().all(|part| id[part] == other[part]);
            let (vault, class, key) = (text(other, "vault"), text(other, "class"), text(other, "key"));
            assert_eq!(MessageId::from(bytes).is_bound_to(vault, class, key), same, "{id} {other}");
        }
    }
}

fn our_draft(id: [u8; 32], context: &[(&str, &str)], data_keys: Vec<EncryptedDataKey>, frame_length: u32) -> Draft {
    Draft {
        id: id.into(),
        context: EncryptionContext::new(context.iter().copied()).expect("valid"),
        data_keys,
        frame_length,
    }
}

fn write_messages() {
    let metadata = r#"{"content-type":"application/pdf","x-amz-meta-patient":"Zoë Müller"}"#;
    let sealed_class = [("sealward-class", "records"), ("sealward-vault", "archive"), ("sealward-meta", "sealed")];
    let strict = [&sealed_class[..], &[("sealward-key", "2024/05/invoice.pdf")]].concat();
    let two = vec![data_key("first"), data_key("break glass")];
    let messages: Vec<Value> = [
        ("empty", 0_usize, 4096_u32, &sealed_class[..], vec![data_key("first")]),
        ("one byte", 1, 4096, &sealed_class, vec![data_key("first")]),
        ("whole frames, an empty final frame", 48, 16, &sealed_class, vec![data_key("first")]),
        ("three frames and a tail", 59, 16, &sealed_class, vec![data_key("first")]),
        ("strict, two data keys", 4097, 4096, &strict, two),
        ("no context", 100, 64, &[], vec![data_key("first")]),
    ]
    .into_iter()
    .zip(1_u8..)
    .map(|((name, len, frame_length, context, data_keys), nonce)| {
        let id = independent::message_id([nonce; 16], "archive", "records", "2024/05/invoice.pdf");
        let draft = our_draft(id, context, data_keys, frame_length);
        let beside = Sealer::new(draft.clone(), &key(KEY)).expect("valid").seal_metadata(metadata.as_bytes());
        let wrapped: Vec<Value> = draft
            .data_keys
            .iter()
            .map(|k| json!({ "provider": hex(&k.provider), "info": hex(&k.info), "ciphertext": hex(&k.ciphertext) }))
            .collect();
        json!({
            "name": name,
            "data_key": hex(&KEY),
            "vault": "archive", "class": "records", "key": "2024/05/invoice.pdf",
            "message_id": hex(&id),
            "context": context.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
            "encrypted_data_keys": wrapped,
            "frame_length": frame_length,
            "length": len,
            "message": STANDARD.encode(seal_draft(draft, &plaintext(len))),
            "metadata": metadata,
            "sealed_metadata": beside.expect("seals"),
        })
    })
    .collect();
    write(
        "messages.json",
        &json!({
            "plaintext_rule": "byte i = (i * 31 + 7) mod 251",
            "note": "bytes are hex, messages and sealed metadata base64; the data key is given, so the encrypted data keys are made up",
            "sealed_metadata_rule": "nonce[12] || AES-256-GCM(HKDF-SHA-512(data key, salt = message id, info \"sealward-metadata-v1\"), nonce, aad = message id || SHA-256(header)) with its tag",
            "messages": messages,
        }),
    );
}

#[test]
fn our_messages_on_file_open_here_and_by_the_text() {
    if writing() {
        write_messages();
    }
    let file = json_file(&ours("messages.json"));
    let messages = file["messages"].as_array().expect("messages");
    assert!(messages.len() >= 6);
    for vector in messages {
        let name = text(vector, "name");
        let data_key: [u8; 32] = unhex(text(vector, "data_key")).try_into().expect("32 bytes");
        let message = STANDARD.decode(text(vector, "message")).expect("base64");
        let expected = plaintext(usize::try_from(vector["length"].as_u64().expect("a length")).expect("small"));
        let (out, end) = read_with(&message, &key(data_key));
        assert!(matches!(end, End::Whole), "{name}: {end:?}");
        assert_eq!(out, expected, "{name}");
        assert_eq!(independent::open(&data_key, &message), Some(expected.clone()), "{name}");

        let header = Header::parse(&message, &Caps::default()).expect("a header").expect("whole");
        assert!(header.id().is_bound_to(text(vector, "vault"), text(vector, "class"), text(vector, "key")));
        let sealed = text(vector, "sealed_metadata");
        let by_text = independent::open_metadata(&data_key, header.as_bytes(), sealed).expect("by the text");
        let opener = Opener::new(header.clone(), &key(data_key)).expect("believed");
        assert_eq!(opener.open_metadata(sealed).expect("its own").expose(), text(vector, "metadata"));
        assert_eq!(by_text, text(vector, "metadata").as_bytes());

        // Sealing has no choice of its own: the same draft gives the same bytes.
        let id = unhex(text(vector, "message_id")).try_into().expect("32 bytes");
        let keys = header.data_keys().to_vec();
        let draft = our_draft(id, &pairs(&vector["context"]), keys, header.frame_length());
        assert_eq!(data_key, KEY);
        assert_eq!(seal_draft(draft, &expected), message, "{name}");
    }
}
