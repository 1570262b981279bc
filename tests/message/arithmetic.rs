//! Positions and lengths agree with one another, from nothing to the last sequence number.

use proptest::prelude::*;
use sealward::{
    fault::Tamper,
    message::{Layout, MAX_FRAME_LENGTH},
};

const LAST_SEQUENCE: u64 = 0xFFFF_FFFE;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sealed_lengths_and_extents_are_inverse(
        header in 92..66_000_usize,
        frame in prop_oneof![1..=MAX_FRAME_LENGTH, Just(4096), Just(262_144)],
        wish in prop_oneof![0..1_u64 << 50, 0..1_u64 << 20],
        near in -2..=2_i64,
    ) {
        let layout = Layout::new(header, frame);
        // Somewhere, and at a whole number of frames, give or take.
        for wish in [wish, (wish - wish % u64::from(frame)).saturating_add_signed(near)] {
            let plaintext = wish.min(layout.max_plaintext());
            let sealed = layout.sealed_length(plaintext);
            let extent = layout.extent(sealed).expect("a whole message's length");
            prop_assert_eq!(extent, layout.split(plaintext));
            prop_assert_eq!(extent.plaintext_length(), plaintext);
            prop_assert!(extent.tail < frame, "a full final frame is never written");
            prop_assert_eq!(layout.frame_at(extent.regular) + extent.final_length(), sealed);
            prop_assert_eq!(sealed, header as u64 + plaintext + 32 * (plaintext / u64::from(frame)) + 40);
        }
    }

    #[test]
    fn a_range_lies_in_its_frames(frame in 1..=MAX_FRAME_LENGTH, len in 1..1_u64 << 50, ends: (u64, u64)) {
        let layout = Layout::new(100, frame);
        let len = len.min(layout.max_plaintext());
        let (a, b) = (ends.0 % len, ends.1 % len);
        let (first, last) = (a.min(b), a.max(b));
        let extent = layout.split(len);
        let frames = extent.frames(first, last).expect("inside");
        prop_assert_eq!(frames.first * u64::from(frame) + u64::from(frames.skip), first);
        prop_assert!(frames.skip < frame);
        prop_assert_eq!(frames.take, last - first + 1);
        prop_assert!(frames.first <= frames.last && frames.last <= extent.regular);
        let held: u64 = last - frames.last * u64::from(frame);
        prop_assert!(held < u64::from(extent.plaintext_of(frames.last)));
        prop_assert!(extent.frames(first, len).is_none());
    }
}

#[test]
fn every_small_sealed_length_is_a_messages_or_is_refused() {
    for frame in 1..12 {
        let layout = Layout::new(10, frame);
        for sealed in 0..400_u64 {
            // Some q and r make it, with the final frame full at most: or nothing does.
            let made = (0..sealed).find_map(|q| {
                let rest = sealed.checked_sub(10 + q * layout.stride() + 40)?;
                (rest <= u64::from(frame)).then_some((q, rest))
            });
            match layout.extent(sealed) {
                Ok(extent) => assert_eq!(Some((extent.regular, u64::from(extent.tail))), made),
                Err(damage) => assert_eq!((damage.reason, made), (Tamper::Length, None)),
            }
        }
    }
}

#[test]
fn the_last_sequence_number_is_the_end() {
    for frame in [1, 16, 4096, 262_144, MAX_FRAME_LENGTH] {
        let layout = Layout::new(500, frame);
        let most = layout.max_plaintext();
        assert_eq!(most, LAST_SEQUENCE * u64::from(frame) - 1);
        let extent = layout.extent(layout.sealed_length(most)).expect("the longest message");
        assert_eq!((extent.regular, extent.plaintext_length()), (LAST_SEQUENCE - 1, most));
        assert_eq!(layout.extent(layout.sealed_length(most + 1)).expect_err("one more").reason, Tamper::Length);
        // A peer's full final frame is the one byte that fits still.
        let full = layout.extent(layout.sealed_length(most) + 1).expect("as a peer writes it");
        assert_eq!((full.tail, full.plaintext_length()), (frame, most + 1));
        assert_eq!(layout.extent(u64::MAX).expect_err("absurd").reason, Tamper::Length);
    }
}

#[test]
fn absurd_lengths_never_wrap_to_small_ones() {
    for frame in [1, 4096, MAX_FRAME_LENGTH] {
        let layout = Layout::new(500, frame);
        for plaintext in [u64::MAX, u64::MAX - 1, u64::MAX / 2] {
            assert!(layout.sealed_length(plaintext) >= plaintext);
        }
        assert_eq!(layout.frame_at(u64::MAX), u64::MAX);
    }
    assert_eq!(Layout::new(0, 0).frame_length(), 1, "a frame has at least one byte");
}
