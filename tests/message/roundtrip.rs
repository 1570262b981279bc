//! What is sealed comes back: whole, in pieces, by range, and through a stranger's reader.

use std::ops::Range;

use proptest::{collection::vec, prelude::*};
use sealward::message::{FrameWriter, Opener, Sealer};

use crate::{
    independent,
    support::{KEY, draft, header, key, opener, plaintext, read_pieces, read_whole, seal},
};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() }
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 0..300_usize, 3 => 0..40_960_usize]
}

/// Mostly odd ones, and some that stand in a configuration.
fn frame_lengths() -> impl Strategy<Value = u32> {
    prop_oneof![1..48_u32, 1..8193_u32, Just(4096), Just(65_536), Just(262_144)]
}

/// Cuts `len` bytes into pieces of those sizes, round and round.
fn cut(len: usize, sizes: &[usize]) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if at == len {
            break;
        }
        let end = len.min(at + size);
        pieces.push(at..end);
        at = end;
    }
    pieces
}

/// Seals into a part buffer a grant, as an upload does; the parts in order.
fn seal_in_parts(plaintext: &[u8], frame_length: u32, sizes: &[usize], grants: &[u64]) -> Vec<Vec<u8>> {
    let mut writer = FrameWriter::new(Sealer::new(draft(frame_length), &key(KEY)).expect("a valid draft"));
    let mut grants = grants.iter().copied().cycle();
    let mut parts = Vec::new();
    let mut part = writer.sealer().header().as_bytes().to_vec();
    let mut begin = part.len();
    let mut granted = 0;
    for piece in cut(plaintext.len(), sizes) {
        let mut rest = &plaintext[piece];
        while !rest.is_empty() {
            if writer.is_full() {
                if granted > 0 {
                    assert_eq!(
                        part.len() - begin,
                        granted * (frame_length as usize + 32),
                        "a full part is whole frames"
                    );
                    parts.push(std::mem::take(&mut part));
                    begin = 0;
                }
                let frames = grants.next().expect("endless");
                granted = usize::try_from(frames).expect("few");
                writer.grant(frames);
            }
            let taken = writer.write(&mut part, rest).expect("seals");
            assert!(taken > 0, "room was granted");
            rest = &rest[taken..];
        }
    }
    assert_eq!(writer.plaintext(), plaintext.len() as u64);
    let sealed = writer.finish(&mut part).expect("ends");
    assert!(part.len() - begin <= granted * (frame_length as usize + 32) + 40, "the last part fits its buffer");
    parts.push(part);
    assert_eq!(sealed.sealed, parts.iter().map(|part| part.len() as u64).sum::<u64>());
    parts
}

fn slice(opener: &Opener, message: &[u8], range: Range<u64>) -> Vec<u8> {
    let layout = opener.layout();
    let extent = layout.extent(message.len() as u64).expect("a whole message's length");
    let frames = extent.frames(range.start, range.end - 1).expect("inside");
    let mut out = Vec::new();
    for index in frames.first..=frames.last {
        let start = usize::try_from(layout.frame_at(index)).expect("small");
        let regular = index < extent.regular;
        let len = if regular { layout.stride() } else { extent.final_length() };
        let mut slot = message[start..start + usize::try_from(len).expect("small")].to_vec();
        let place = if regular { opener.open_regular(index, &mut slot) } else { opener.open_final(index, &mut slot) }
            .expect("verifies");
        assert_eq!(place.len(), extent.plaintext_of(index) as usize);
        out.extend_from_slice(&slot[place]);
    }
    let skip = frames.skip as usize;
    out[skip..skip + usize::try_from(frames.take).expect("small")].to_vec()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_plaintext_comes_back_however_it_was_cut(
        len in lengths(),
        frame_length in frame_lengths(),
        written in vec(1..5000_usize, 1..8),
        grants in vec(1..9_u64, 1..5),
        read in vec(1..5000_usize, 1..8),
    ) {
        let plaintext = plaintext(len);
        let message = seal_in_parts(&plaintext, frame_length, &written, &grants).concat();
        let (out, _) = read_pieces(&message, &key(KEY), |body| cut(body.len(), &read));
        prop_assert_eq!(&out, &plaintext);
        prop_assert_eq!(independent::open(&KEY, &message), Some(plaintext));
    }

    #[test]
    fn any_range_is_that_slice(len in 1..40_960_usize, frame_length in frame_lengths(), ends in any::<(u64, u64)>()) {
        let plaintext = plaintext(len);
        let message = seal(&plaintext, frame_length);
        let opener = opener(&message);
        let (a, b) = (ends.0 % len as u64, ends.1 % len as u64);
        for (first, last) in [(a.min(b), a.max(b)), (0, 0), (0, len as u64 - 1), (len as u64 - 1, len as u64 - 1)] {
            let expected = &plaintext[usize::try_from(first).expect("small")..=usize::try_from(last).expect("small")];
            prop_assert_eq!(slice(&opener, &message, first..last + 1), expected);
        }
    }

    #[test]
    fn what_a_stranger_seals_opens_too(len in 0..9000_usize, frame_length in 1..3000_u32, full_final: bool) {
        // A multiple, often: that is where full final frames are.
        let len = if full_final { len - len % frame_length as usize } else { len };
        let plaintext = plaintext(len);
        let message = independent::seal(&independent::spec(frame_length, full_final), &plaintext);
        prop_assert_eq!(read_whole(&message), plaintext.clone());
        if len > 0 {
            prop_assert_eq!(slice(&opener(&message), &message, 0..len as u64), plaintext);
        }
    }
}

#[test]
fn every_small_length_comes_back_in_single_bytes() {
    for frame_length in [1, 2, 15, 16, 17, 32] {
        for len in 0..70 {
            let plaintext = plaintext(len);
            let message = seal(&plaintext, frame_length);
            let (out, end) = read_pieces(&message, &key(KEY), |body| cut(body.len(), &[1]));
            assert_eq!(out, plaintext, "{end:?}");
        }
    }
}

#[test]
fn every_range_of_a_small_message_is_its_slice() {
    for (len, full_final) in [(47, false), (48, false), (48, true), (49, false), (5, false), (16, true)] {
        let plaintext = plaintext(len);
        let message = independent::seal(&independent::spec(16, full_final), &plaintext);
        let opener = opener(&message);
        for first in 0..len {
            for last in first..len {
                assert_eq!(slice(&opener, &message, first as u64..last as u64 + 1), &plaintext[first..=last]);
            }
        }
        let extent = opener.layout().extent(message.len() as u64).expect("whole");
        assert!(extent.frames(0, len as u64).is_none(), "a range past the end has no frames");
        assert!(extent.frames(len as u64, len as u64).is_none());
        assert!(extent.frames(1, 0).is_none(), "nor has a range turned round");
    }
}

#[test]
fn whole_frames_are_followed_by_an_empty_final_frame() {
    for (frames, frame_length) in [(0, 16), (1, 16), (3, 16), (2, 4096)] {
        let message = seal(&plaintext(frames * frame_length as usize), frame_length);
        let extent = opener(&message).layout().extent(message.len() as u64).expect("whole");
        assert_eq!((extent.regular, extent.tail), (frames as u64, 0), "a full final frame is never written");
        let end = &message[message.len() - 40..];
        assert_eq!(end[..4], [0xFF; 4]);
        assert_eq!(end[20..24], [0; 4]);
    }
}

#[test]
fn both_sealers_write_the_same_bytes() {
    for len in [0, 1, 15, 16, 17, 48, 100] {
        let spec = independent::spec(16, false);
        let mut draft = draft(16);
        draft.id = spec.id.into();
        draft.context = sealward::message::EncryptionContext::new(spec.context.iter().copied()).expect("valid");
        draft.data_keys[0].ciphertext = vec![9; 48];
        let ours = crate::support::seal_draft(draft, &plaintext(len));
        assert_eq!(ours, independent::seal(&spec, &plaintext(len)));
    }
}

#[test]
fn an_empty_write_or_no_room_takes_nothing() {
    let mut writer = FrameWriter::new(Sealer::new(draft(16), &key(KEY)).expect("valid"));
    let mut out = Vec::new();
    assert!(writer.is_full(), "no room before the first grant");
    assert_eq!(writer.write(&mut out, b"waits"), Ok(0));
    writer.grant(2);
    assert_eq!(writer.write(&mut out, b""), Ok(0));
    assert!(out.is_empty());
    assert_eq!(writer.write(&mut out, &plaintext(100)), Ok(32), "what fits, and no more");
    assert!(writer.is_full());
    assert_eq!(out.len(), 2 * (16 + 32));
}

#[test]
fn a_header_says_what_its_draft_said() {
    let message = seal(b"", 4096);
    let header = header(&message);
    assert_eq!(header.context(), &crate::support::context());
    assert_eq!(header.data_keys(), [crate::support::data_key("first")]);
    assert_eq!(header.frame_length(), 4096);
    assert_eq!(header.as_bytes(), &message[..header.len()]);
    assert!(header.id().is_bound_to("archive", "records", "a/key"));
}
