//! Heads: what is refused, for which reason, and before what is allocated.

use sealward::{
    fault::Tamper,
    message::{Caps, Damage, EncryptionContext, Header, MAX_FRAME_LENGTH, Opener, SealError, Sealer},
};

use crate::{
    independent::{close_header, context, open_header, spec},
    support::{KEY, data_key, draft, key, plaintext, read_whole, seal_draft},
};

fn parse(bytes: &[u8]) -> Result<Option<Header>, Damage> {
    Header::parse(bytes, &Caps::default())
}

#[track_caller]
fn refused(bytes: &[u8], reason: Tamper, words: &str) {
    let damage = parse(bytes).expect_err("refused");
    assert_eq!(damage.reason, reason, "{damage}");
    assert!(damage.to_string().contains(words), "{damage}");
}

/// A header with those context bytes, under a true commitment and tag.
fn with_context(context: &[u8]) -> Vec<u8> {
    let plain = open_header(&spec(16, false));
    let old = usize::from(u16::from_be_bytes([plain[35], plain[36]]));
    let len = u16::try_from(context.len()).expect("short").to_be_bytes();
    close_header([&plain[..35], &len, context, &plain[37 + old..]].concat(), &KEY)
}

fn pairs(count: u16, texts: &[&[u8]]) -> Vec<u8> {
    let mut out = count.to_be_bytes().to_vec();
    for text in texts {
        out.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
        out.extend(*text);
    }
    out
}

#[test]
fn a_head_that_is_not_all_there_asks_for_more() {
    let head = close_header(open_header(&spec(16, false)), &KEY);
    for len in 0..head.len() {
        assert!(parse(&head[..len]).expect("so far so good").is_none(), "{len}");
    }
    assert_eq!(parse(&head).expect("a header").expect("whole").len(), head.len());
    assert_eq!(parse(&[&head[..], b"frames"].concat()).expect("a header").expect("whole").as_bytes(), head);
}

#[test]
fn an_unread_suite_is_named() {
    for suite in [0x0578_u16, 0x0178, 0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0214, 0x0346, 0x0378] {
        refused(&[&[2], &suite.to_be_bytes()[..]].concat(), Tamper::Suite, &format!("{suite:#06x}"));
        refused(&[&[2], &suite.to_be_bytes()[..]].concat(), Tamper::Suite, "only 0x0478");
    }
    refused(&[1], Tamper::Suite, "version 1");
    refused(&[1, 0x80, 0x03, 0x78], Tamper::Suite, "0x0478");
    let mut unframed = open_header(&spec(16, false));
    let at = unframed.len() - 5;
    unframed[at] = 1;
    refused(&unframed[..=at], Tamper::Suite, "framed");
    unframed[at] = 3;
    refused(&unframed[..=at], Tamper::Header, "content type 3");
}

#[test]
fn what_is_no_message_at_all_is_foreign() {
    for bytes in [&b"\0"[..], b"%PDF-1.7", b"PK\x03\x04", b"\x02\xFF\xFF", b"\x02\x00\x00", b"\x03\x04\x78", b"{}"] {
        assert_eq!(parse(bytes).expect_err("foreign").reason, Tamper::Foreign);
    }
}

#[test]
fn too_many_data_keys_are_refused_at_their_count() {
    let one = open_header(&spec(16, false));
    let at = 37 + usize::from(u16::from_be_bytes([one[35], one[36]]));
    for (count, reason) in [(0_u16, Tamper::Header), (17, Tamper::Caps), (0xFFFF, Tamper::Caps)] {
        // Nothing of the keys themselves is there yet.
        let head = [&one[..at], &count.to_be_bytes()].concat();
        assert_eq!(parse(&head).expect_err("refused").reason, reason);
    }
    assert!(parse(&[&one[..at], &16_u16.to_be_bytes()].concat()).expect("within the cap").is_none());
    let caps = Caps { data_keys: 1, ..Caps::default() };
    let head = [&one[..at], &2_u16.to_be_bytes()].concat();
    assert_eq!(Header::parse(&head, &caps).expect_err("over").reason, Tamper::Caps);
}

#[test]
fn a_frame_length_over_the_cap_is_refused_where_it_stands() {
    for (frame_length, reason) in [(0, Tamper::Header), (MAX_FRAME_LENGTH + 1, Tamper::Caps), (u32::MAX, Tamper::Caps)]
    {
        let head = open_header(&spec(frame_length, false));
        assert_eq!(parse(&head).expect_err("refused").reason, reason);
    }
    assert!(parse(&close_header(open_header(&spec(MAX_FRAME_LENGTH, false)), &KEY)).expect("at the cap").is_some());
    let caps = Caps { frame_length: 15, ..Caps::default() };
    assert_eq!(Header::parse(&open_header(&spec(16, false)), &caps).expect_err("over").reason, Tamper::Caps);
}

#[test]
fn a_head_over_the_cap_is_never_waited_for() {
    let head = close_header(open_header(&spec(16, false)), &KEY);
    let caps = |header| Caps { header, ..Caps::default() };
    assert!(Header::parse(&head, &caps(head.len())).expect("exactly").is_some());
    let tight = caps(head.len() - 1);
    assert!(Header::parse(&head[..head.len() - 2], &tight).expect("may come").is_none());
    assert_eq!(Header::parse(&head[..head.len() - 1], &tight).expect_err("full").reason, Tamper::Caps);
    assert_eq!(Header::parse(&head, &tight).expect_err("over").reason, Tamper::Caps);

    let long = vec![7_u8; 0xFFFF];
    let mut huge = spec(16, false);
    let keys = [(&b"local"[..], &b"first"[..], &long[..])];
    huge.data_keys = &keys;
    refused(&close_header(open_header(&huge), &KEY), Tamper::Caps, "65536 bytes");
}

#[test]
fn a_context_has_one_form() {
    let good = pairs(2, &[b"a", b"1", b"b", b"2"]);
    assert!(parse(&with_context(&good)).expect("in order").is_some());
    for (bytes, words) in [
        (pairs(2, &[b"b", b"1", b"a", b"2"]), "out of order"),
        (pairs(2, &[b"a", b"1", b"a", b"2"]), "double"),
        // U+FF61 comes after U+10000 in UTF-16, and before it in UTF-8.
        (pairs(2, &["\u{10000}".as_bytes(), b"1", "\u{ff61}".as_bytes(), b"2"]), "out of order"),
        ([&good[..], &[0]].concat(), "bytes follow"),
        (pairs(1, &[b"a", b"1", b"b", b"2"]), "bytes follow"),
        (pairs(0, &[]), "zero"),
        (pairs(0, &[b"a", b"1"]), "zero"),
        (pairs(3, &[b"a", b"1", b"b", b"2"]), "ends early"),
        (good[..good.len() - 1].to_vec(), "ends early"),
        (vec![0], "ends early"),
        (pairs(1, &[b"\xFF", b"1"]), "UTF-8"),
        (pairs(1, &[b"a", b"\xC3\x28"]), "UTF-8"),
    ] {
        refused(&with_context(&bytes), Tamper::Header, words);
    }
    // An empty one has no count; pairs come sorted, whatever order they were given in.
    assert!(parse(&with_context(&[])).expect("empty").expect("whole").context().is_empty());
    let given = [("b", "2"), ("\u{10000}", "4"), ("a", "1"), ("\u{ff61}", "3")];
    let ours = EncryptionContext::new(given).expect("valid");
    assert_eq!(ours.encode().expect("fits"), context(&given));
    assert_eq!(parse(&with_context(&context(&given))).expect("in order").expect("whole").context(), &ours);
}

#[test]
fn a_context_we_would_not_write_is_refused_when_drafted() {
    for (name, value) in [("", "x".to_owned()), ("aws-crypto-public-key", "x".to_owned()), ("a", "x".repeat(65_536))] {
        assert!(matches!(EncryptionContext::new([(name, value)]), Err(SealError::Context(_))), "{name}");
    }
    assert!(EncryptionContext::new([("a", "x".repeat(65_528))]).is_ok(), "65,535 bytes in all");
    assert!(EncryptionContext::new([("a", "x".repeat(65_529))]).is_err());
}

#[test]
fn a_draft_that_no_reader_takes_is_not_sealed() {
    let seal = |change: &dyn Fn(&mut sealward::message::Draft)| {
        let mut draft = draft(4096);
        change(&mut draft);
        Sealer::new(draft, &key(KEY)).map(|sealer| sealer.header().as_bytes().to_vec())
    };
    assert_eq!(seal(&|draft| draft.frame_length = 0), Err(SealError::FrameLength));
    assert_eq!(seal(&|draft| draft.frame_length = MAX_FRAME_LENGTH + 1), Err(SealError::FrameLength));
    assert_eq!(seal(&|draft| draft.data_keys.clear()), Err(SealError::DataKeys));
    assert_eq!(seal(&|draft| draft.data_keys = vec![data_key("k"); 17]), Err(SealError::DataKeys));
    assert_eq!(seal(&|draft| draft.data_keys[0].ciphertext = vec![0; 65_536]), Err(SealError::DataKeys));
    assert_eq!(seal(&|draft| draft.data_keys[0].ciphertext = vec![0; 65_535]), Err(SealError::HeaderSize));
    // The largest that is taken is one that is read.
    let smallest = seal(&|_| {}).expect("valid").len();
    let room = Caps::default().header - smallest + 48;
    let largest = seal(&|draft| draft.data_keys[0].ciphertext = vec![0; room]).expect("fits");
    assert_eq!(largest.len(), Caps::default().header);
    assert!(parse(&largest).expect("read").is_some());
    assert_eq!(seal(&|draft| draft.data_keys[0].ciphertext = vec![0; room + 1]), Err(SealError::HeaderSize));
    assert!(parse(&seal(&|draft| draft.data_keys = vec![data_key("k"); 16]).expect("fits")).expect("read").is_some());
}

#[test]
fn several_data_keys_come_back_in_order() {
    let mut draft = draft(16);
    draft.data_keys = ["first", "second region", "break glass"].map(data_key).to_vec();
    draft.data_keys[1].provider = b"aws-kms".to_vec();
    draft.data_keys[2].ciphertext = Vec::new();
    let expected = draft.data_keys.clone();
    let message = seal_draft(draft, &plaintext(40));
    assert_eq!(crate::support::header(&message).data_keys(), expected);
    assert_eq!(read_whole(&message), plaintext(40));
}

#[test]
fn a_true_tag_under_another_key_is_not_believed() {
    let other = close_header(open_header(&spec(16, false)), &[8; 32]);
    let damage = Opener::new(parse(&other).expect("parses").expect("whole"), &key(KEY)).err().expect("refused");
    assert_eq!(damage.reason, Tamper::Commitment);
}
