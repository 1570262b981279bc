//! Whatever is changed in a message is found, named, and never read as plaintext.

use proptest::prelude::*;
use sealward::{fault::Tamper, message::Layout};

use crate::{
    independent,
    support::{End, KEY, header, key, opener, plaintext, read, read_pieces, read_with, seal},
};

const FRAME: usize = 16;
const STRIDE: usize = FRAME + 32;
/// Three regular frames and a final one of eleven bytes.
const LEN: usize = 3 * FRAME + 11;

fn message() -> (Vec<u8>, usize) {
    let message = seal(&plaintext(LEN), 16);
    let head = header(&message).len();
    assert_eq!(message.len(), head + 3 * STRIDE + 51);
    (message, head)
}

/// What may come out when frame `index` is the first that doesn't verify: all
/// before it but the last, which is held back.
fn released(index: usize) -> Vec<u8> {
    plaintext(LEN)[..index.saturating_sub(1) * FRAME].to_vec()
}

#[track_caller]
fn reason(end: &End) -> Tamper {
    match end {
        End::Damaged(damage) => damage.reason,
        other => panic!("not found: {other:?}"),
    }
}

/// Refused for `expected` at frame `index`, in one piece and byte by byte.
#[track_caller]
fn refused(message: &[u8], expected: Tamper, index: usize) {
    let (out, end) = read(message);
    assert_eq!((reason(&end), out), (expected, released(index)));
    let (out, end) = read_pieces(message, &key(KEY), |body| (0..body.len()).map(|at| at..at + 1).collect());
    assert_eq!((reason(&end), out), (expected, released(index)));
    assert_eq!(independent::open(&KEY, message), None, "a stranger's reader refuses it too");
}

#[test]
fn a_flip_of_any_byte_is_found_and_named() {
    let (message, head) = message();
    for at in 0..message.len() {
        for bit in 0..8 {
            let mut changed = message.clone();
            changed[at] ^= 1 << bit;
            let (out, end) = read(&changed);
            if at < head {
                assert!(out.is_empty());
                let expected: &[Tamper] = match at {
                    0..3 => &[Tamper::Foreign, Tamper::Suite],
                    3..35 => &[Tamper::Commitment],
                    _ if at >= head - 16 => &[Tamper::Header],
                    _ if at >= head - 48 => &[Tamper::Commitment],
                    // A length or a count: the rest of the header is misread.
                    _ => &[Tamper::Header, Tamper::Caps, Tamper::Commitment, Tamper::Suite],
                };
                match end {
                    // A length may reach past all there is.
                    End::NoHeader => assert!((35..head - 48).contains(&at)),
                    end => assert!(expected.contains(&reason(&end)), "byte {at}: {end:?}"),
                }
            } else {
                let index = ((at - head) / STRIDE).min(3);
                assert_eq!(out, released(index), "byte {at}");
                // The final frame's own marker or length may ask for bytes that never come.
                let late = index == 3 && (at - head - 3 * STRIDE < 4 || (20..24).contains(&(at - head - 3 * STRIDE)));
                let reason = reason(&end);
                assert!(reason == Tamper::Frame || (late && reason == Tamper::Length), "byte {at}: {end:?}");
            }
        }
    }
}

#[test]
fn a_cut_anywhere_is_found() {
    let (message, head) = message();
    for cut in 0..message.len() {
        let (out, end) = read(&message[..cut]);
        if cut < head {
            assert!(matches!(end, End::NoHeader), "cut at {cut}: {end:?}");
            assert!(out.is_empty());
        } else {
            assert_eq!(reason(&end), Tamper::Length, "cut at {cut}");
            assert_eq!(out, released(((cut - head) / STRIDE).min(3)), "cut at {cut}");
        }
    }
}

#[test]
fn a_cut_that_passes_the_arithmetic_fails_at_its_final_frame() {
    let (message, head) = message();
    let opener = opener(&message);
    let mut passed = 0;
    for cut in head..message.len() {
        let Ok(extent) = opener.layout().extent(cut as u64) else { continue };
        passed += 1;
        let start = usize::try_from(opener.layout().frame_at(extent.regular)).expect("small");
        let damage = opener.open_final(extent.regular, &mut message[start..cut].to_vec()).expect_err("no final frame");
        assert_eq!(damage.reason, Tamper::Frame, "cut at {cut}");
    }
    assert!(passed >= 3, "there are such cuts");
    for k in 0..3 {
        let cut = head + k * STRIDE + 40;
        assert_eq!(opener.layout().extent(cut as u64).expect("passes").plaintext_length(), (k * FRAME) as u64);
        refused(&message[..cut], Tamper::Length, k);
    }
}

#[test]
fn bytes_after_the_final_frame_are_found() {
    let (message, head) = message();
    let opener = opener(&message);
    for extra in [&[0][..], &[0xFF; 40], &[0; 48], &message, &message[head..], &message[message.len() - 51..]] {
        let longer = [&message[..], extra].concat();
        let (out, end) = read(&longer);
        assert_eq!(reason(&end), Tamper::Trailing);
        assert_eq!(out, plaintext(LEN), "all of it was verified before");
        assert_eq!(independent::open(&KEY, &longer), None);
        // By length alone, as a range is read.
        if let Ok(extent) = opener.layout().extent(longer.len() as u64) {
            let start = usize::try_from(opener.layout().frame_at(extent.regular)).expect("small");
            let damage = opener.open_final(extent.regular, &mut longer[start..].to_vec()).expect_err("not there");
            assert_eq!(damage.reason, Tamper::Frame);
        }
    }
}

#[test]
fn frames_out_of_their_place_are_found() {
    let (message, head) = message();
    let (other, other_head) = self::message();
    let frame = |message: &[u8], head: usize, index: usize| -> Vec<u8> {
        let start = head + index * STRIDE;
        message[start..message.len().min(start + if index == 3 { 51 } else { STRIDE })].to_vec()
    };
    let own: Vec<Vec<u8>> = (0..4).map(|index| frame(&message, head, index)).collect();
    let theirs: Vec<Vec<u8>> = (0..4).map(|index| frame(&other, other_head, index)).collect();
    let join = |frames: &[&Vec<u8>]| {
        [&message[..head], &frames.iter().flat_map(|f| f.iter().copied()).collect::<Vec<u8>>()].concat()
    };
    let [a, b, c, z] = [&own[0], &own[1], &own[2], &own[3]];

    assert_eq!(join(&[a, b, c, z]), message);
    refused(&join(&[b, a, c, z]), Tamper::Frame, 0);
    refused(&join(&[a, c, b, z]), Tamper::Frame, 1);
    refused(&join(&[a, a, b, c, z]), Tamper::Frame, 1);
    refused(&join(&[a, b, c, c, z]), Tamper::Frame, 3);
    refused(&join(&[b, c, z]), Tamper::Frame, 0);
    refused(&join(&[a, b, z]), Tamper::Frame, 2);
    refused(&join(&[z]), Tamper::Frame, 0);
    // Another message of the same data key, in every place.
    refused(&join(&[&theirs[0], b, c, z]), Tamper::Frame, 0);
    refused(&join(&[a, &theirs[1], c, z]), Tamper::Frame, 1);
    refused(&join(&[a, b, &theirs[2], z]), Tamper::Frame, 2);
    refused(&join(&[a, b, c, &theirs[3]]), Tamper::Frame, 3);
    // Renumbered to where they stand now.
    let renumbered = |frame: &[u8], sequence: u8| {
        let mut frame = frame.to_vec();
        (frame[3], frame[15]) = (sequence, sequence);
        frame
    };
    refused(&join(&[&renumbered(b, 1), &renumbered(a, 2), c, z]), Tamper::Frame, 0);
    refused(&join(&[a, b, &renumbered(b, 3), z]), Tamper::Frame, 2);
}

#[test]
fn a_regular_frame_is_no_final_frame() {
    let spec = independent::spec(16, false);
    let head = independent::close_header(independent::open_header(&spec), &KEY);
    let text = plaintext(LEN);
    let regular = independent::regular(&spec, 1, &text[..FRAME]);
    // The head of a final frame before a regular frame's ciphertext and tag.
    let mut dressed = [&[0xFF; 4], &regular[..16], &16_u32.to_be_bytes(), &regular[16..]].concat();
    refused(&[&head[..], &dressed].concat(), Tamper::Frame, 0);
    let last = independent::last(&spec, 1, &text[..FRAME]);
    dressed = [&last[4..20], &last[24..]].concat();
    refused(&[&head[..], &dressed, &independent::last(&spec, 2, b"")].concat(), Tamper::Frame, 0);
    // And one with the right tag but a wrong length is none either.
    refused(&[&head[..], &independent::last(&spec, 1, &text[..=FRAME])].concat(), Tamper::Frame, 0);
    refused(&[&head[..], &independent::last(&spec, 2, &text[..3])].concat(), Tamper::Frame, 0);
    refused(&[&head[..], &independent::regular(&spec, 0, &text[..FRAME])].concat(), Tamper::Frame, 0);
}

#[test]
fn the_final_frames_claimed_length_is_checked() {
    let (message, head) = message();
    let at = head + 3 * STRIDE + 20;
    for claimed in [0_u32, 1, 10, 17, 16, 12, 0xFFFF_FFFF, 0x8000_0000] {
        let mut changed = message.clone();
        changed[at..at + 4].copy_from_slice(&claimed.to_be_bytes());
        let expected = if (12..=16).contains(&claimed) { Tamper::Length } else { Tamper::Frame };
        refused(&changed, expected, 3);
        // Read by its place, it disagrees with the length it has.
        let damage = opener(&message).open_final(3, &mut changed[head + 3 * STRIDE..].to_vec()).expect_err("changed");
        assert_eq!(damage.reason, Tamper::Frame);
    }
}

#[test]
fn a_single_frame_opens_only_where_it_belongs_and_whole() {
    let (message, head) = message();
    let opener = opener(&message);
    let first = &message[head..head + STRIDE];
    assert_eq!(opener.open_regular(0, &mut first.to_vec()).expect("verifies"), 16..16 + FRAME);
    for index in [1, 2, 3, 0xFFFF_FFFC, 0xFFFF_FFFD, 0xFFFF_FFFE, 0xFFFF_FFFF, u64::MAX - 1, u64::MAX] {
        assert_eq!(opener.open_regular(index, &mut first.to_vec()).expect_err("elsewhere").reason, Tamper::Frame);
        let end = &message[head + 3 * STRIDE..];
        let opened = opener.open_final(index, &mut end.to_vec());
        assert_eq!(opened.is_ok(), index == 3, "{index}");
    }
    for len in (0..STRIDE).chain([STRIDE + 1]) {
        let slot = &message[head..head + len];
        assert_eq!(opener.open_regular(0, &mut slot.to_vec()).expect_err("not whole").reason, Tamper::Frame);
    }
    for len in 0..51 {
        let slot = &message[head + 3 * STRIDE..head + 3 * STRIDE + len];
        assert_eq!(opener.open_final(3, &mut slot.to_vec()).expect_err("not whole").reason, Tamper::Frame);
    }
}

#[test]
fn what_does_not_verify_leaves_no_plaintext_in_its_slot() {
    let (message, head) = message();
    let mut slot = message[head..head + STRIDE].to_vec();
    *slot.last_mut().expect("a tag") ^= 1;
    opener(&message).open_regular(0, &mut slot).expect_err("changed");
    assert_ne!(slot[16..32], plaintext(LEN)[..FRAME]);
}

#[test]
fn the_last_regular_frame_waits_for_the_final_one() {
    let (message, head) = message();
    let mut stream = sealward::message::StreamOpener::new(opener(&message));
    let mut out = Vec::new();
    for (index, byte) in message[head..].iter().enumerate() {
        stream.push(&[*byte], &mut out).expect("whole");
        let seen = index + 1;
        let due = if seen == message.len() - head { LEN } else { (seen / STRIDE).min(3).saturating_sub(1) * FRAME };
        assert_eq!(out.len(), due, "after {seen} bytes of body");
    }
    assert_eq!(stream.finish(), Ok(LEN as u64));
}

#[test]
fn another_data_key_does_not_commit() {
    let (message, _) = message();
    let (out, end) = read_with(&message, &key([8; 32]));
    assert_eq!((out.len(), reason(&end)), (0, Tamper::Commitment));
}

#[test]
fn a_header_of_another_message_does_not_fit() {
    let (message, head) = message();
    let (other, other_head) = self::message();
    let crossed = [&other[..other_head], &message[head..]].concat();
    refused(&crossed, Tamper::Frame, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_single_change_of_any_message_is_read(
        len in 0..10_000_usize,
        frame_length in 1..3000_u32,
        at: prop::sample::Index,
        flip in 1..=255_u8,
    ) {
        let text = plaintext(len);
        let mut message = seal(&text, frame_length);
        let layout = Layout::new(header(&message).len(), frame_length);
        let at = at.index(message.len());
        message[at] ^= flip;
        let (out, end) = read(&message);
        prop_assert!(!matches!(end, End::Whole));
        prop_assert!(text.starts_with(&out));
        let verified = (at as u64).saturating_sub(layout.header_length()) / layout.stride();
        prop_assert!(out.len() as u64 <= verified.saturating_sub(1) * u64::from(frame_length));
        prop_assert_eq!(independent::open(&KEY, &message), None);
    }

    #[test]
    fn no_cut_of_any_message_is_read(len in 0..10_000_usize, frame_length in 1..3000_u32, at: prop::sample::Index) {
        let text = plaintext(len);
        let message = seal(&text, frame_length);
        let (out, end) = read(&message[..at.index(message.len())]);
        prop_assert!(!matches!(end, End::Whole));
        prop_assert!(text.starts_with(&out));
        prop_assert!(out.is_empty() || out.len() < len, "something is held back");
    }
}
