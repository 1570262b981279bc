//! A message belongs to one object, and its metadata to one message.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use sealward::{
    fault::Tamper,
    message::{FrameWriter, MessageId, Opener, Sealer},
};

use crate::{
    independent,
    support::{KEY, draft, header, key, opener, seal},
};

#[test]
fn an_id_is_bound_to_its_object_and_no_other() {
    let id = MessageId::bound("archive", "records", "a/key").expect("random");
    assert!(id.is_bound_to("archive", "records", "a/key"));
    for (vault, class, key) in [
        ("archive2", "records", "a/key"),
        ("archive", "record", "a/key"),
        ("archive", "records", "a/Key"),
        ("archive", "records", "a/key/"),
        ("records", "archive", "a/key"),
        ("", "records", "a/key"),
        ("archive", "", "a/key"),
        ("archive", "records", ""),
        // The same letters, shared out otherwise.
        ("archiver", "ecords", "a/key"),
        ("archiv", "erecords", "a/key"),
        ("archive", "recordsa", "/key"),
        ("archive", "record", "sa/key"),
        ("archiverecords", "", "a/key"),
        ("", "archiverecords", "a/key"),
    ] {
        assert!(!id.is_bound_to(vault, class, key), "{vault:?} {class:?} {key:?}");
    }
}

#[test]
fn a_flip_of_any_byte_unbinds() {
    let id = MessageId::bound("v", "c", "k").expect("random");
    for at in 0..32 {
        let mut bytes = *id.as_bytes();
        bytes[at] ^= 1;
        assert!(!MessageId::from(bytes).is_bound_to("v", "c", "k"), "byte {at}");
    }
    assert!(!MessageId::unbound().expect("random").is_bound_to("v", "c", "k"));
}

#[test]
fn no_two_messages_share_an_id() {
    let ids: HashSet<_> = (0..1000).map(|_| MessageId::bound("v", "c", "k").expect("random")).collect();
    assert_eq!(ids.len(), 1000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn letters_shared_out_otherwise_are_another_object(text in "[ab\0é]{0,12}", cuts: [prop::sample::Index; 4]) {
        let chars: Vec<char> = text.chars().collect();
        let cut = |a: usize, b: usize| {
            let (a, b) = (a.min(b), a.max(b));
            [&chars[..a], &chars[a..b], &chars[b..]].map(|part| part.iter().collect::<String>())
        };
        let [a, b, c, d] = cuts.map(|cut| cut.index(chars.len() + 1));
        let (one, two) = (cut(a, b), cut(c, d));
        let id = MessageId::bound(&one[0], &one[1], &one[2]).expect("random");
        prop_assert_eq!(id.is_bound_to(&two[0], &two[1], &two[2]), one == two);
        let nonce: [u8; 16] = id.as_bytes()[..16].try_into().expect("16 bytes");
        prop_assert_eq!(id.as_bytes(), &independent::message_id(nonce, &one[0], &one[1], &one[2]));
    }
}

#[test]
fn sealed_metadata_opens_beside_its_own_message_only() {
    let json = r#"{"content-type":"text/plain","x-amz-meta-patient":"Zoë"}"#;
    let sealer = Sealer::new(draft(16), &key(KEY)).expect("valid");
    let sealed = sealer.seal_metadata(json.as_bytes()).expect("seals");
    assert_ne!(sealed, sealer.seal_metadata(json.as_bytes()).expect("seals"), "a nonce of its own each time");
    let mut message = sealer.header().as_bytes().to_vec();
    FrameWriter::new(sealer).finish(&mut message).expect("seals");

    let own = opener(&message);
    assert_eq!(own.open_metadata(&sealed).expect("its own").expose(), json);
    assert_eq!(independent::open_metadata(&KEY, own.header().as_bytes(), &sealed), Some(json.as_bytes().to_vec()));
    // What a stranger seals beside it opens as well.
    let stranger = independent::seal_metadata(&KEY, own.header().as_bytes(), [3; 12], json.as_bytes());
    assert_eq!(own.open_metadata(&stranger).expect("by the text").expose(), json);

    // Another message of the same data key.
    let other = seal(b"", 16);
    assert_eq!(opener(&other).open_metadata(&sealed).expect_err("another message").reason, Tamper::Metadata);
    // The same id under another header: another context, another data key beside it.
    let mut twin = draft(16);
    twin.id = *own.header().id();
    twin.data_keys.push(crate::support::data_key("second"));
    let twin = Sealer::new(twin, &key(KEY)).expect("valid");
    let twin = Opener::new(header(twin.header().as_bytes()), &key(KEY)).expect("believed");
    assert_eq!(twin.open_metadata(&sealed).expect_err("another header").reason, Tamper::Metadata);
    // Another data key.
    let mut foreign = draft(16);
    foreign.id = *own.header().id();
    let foreign = Sealer::new(foreign, &key([8; 32])).expect("valid");
    let foreign = Opener::new(header(foreign.header().as_bytes()), &key([8; 32])).expect("believed");
    assert_eq!(foreign.open_metadata(&sealed).expect_err("another key").reason, Tamper::Metadata);
}

#[test]
fn changed_metadata_is_found() {
    let sealer = Sealer::new(draft(16), &key(KEY)).expect("valid");
    let sealed = sealer.seal_metadata(b"{\"a\":1}").expect("seals");
    let opener = Opener::new(header(sealer.header().as_bytes()), &key(KEY)).expect("believed");
    let refused = |text: &str| {
        let damage = opener.open_metadata(text).expect_err("changed");
        assert_eq!(damage.reason, Tamper::Metadata);
        assert!(!damage.to_string().contains("\"a\""), "nothing of it is told");
    };
    let raw = STANDARD.decode(&sealed).expect("base64");
    for at in 0..raw.len() {
        let mut changed = raw.clone();
        changed[at] ^= 0x10;
        refused(&STANDARD.encode(&changed));
        refused(&STANDARD.encode(&raw[..at]));
    }
    for at in 0..sealed.len() {
        refused(&sealed[..at]);
    }
    refused(&STANDARD.encode([&raw[..], &[0]].concat()));
    refused(&format!("{sealed} "));
    refused("not base64!");
    refused(sealed.trim_end_matches('='));
    let latin1 = independent::seal_metadata(&KEY, sealer.header().as_bytes(), [1; 12], b"\xE9");
    refused(&latin1);
}

#[test]
fn metadata_may_be_empty_or_long() {
    let sealer = Sealer::new(draft(16), &key(KEY)).expect("valid");
    let opener = Opener::new(header(sealer.header().as_bytes()), &key(KEY)).expect("believed");
    for text in [String::new(), "{}".to_owned(), "x".repeat(5000)] {
        let sealed = sealer.seal_metadata(text.as_bytes()).expect("seals");
        assert_eq!(opener.open_metadata(&sealed).expect("its own").expose(), text);
    }
}
