//! The arithmetic between positions in the plaintext and in the sealed bytes.
//!
//! Lengths computed here are claims: only a verified final frame proves them.

use super::{Damage, FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, frame};
use crate::fault::Tamper;

/// Where frames begin, for one header length and one frame length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    header: u64,
    frame: u32,
}

/// How a message's frames fall: some regular ones, then the final one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Regular frames.
    pub regular: u64,
    /// Plaintext bytes in the final frame.
    pub tail: u32,
    frame: u32,
}

/// The frames that hold a range of plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    /// Index of the first frame, from 0.
    pub first: u64,
    /// Index of the last frame; [`Extent::regular`] is the final one's.
    pub last: u64,
    /// Plaintext bytes of the first frame before the range.
    pub skip: u32,
    /// Plaintext bytes in the range.
    pub take: u64,
}

impl Layout {
    /// The layout of messages with `header` bytes of header and frames of
    /// `frame` plaintext bytes (at least 1).
    pub fn new(header: usize, frame: u32) -> Self {
        Self { header: header as u64, frame: frame.max(1) }
    }

    /// Plaintext bytes of a regular frame.
    pub fn frame_length(&self) -> u32 {
        self.frame
    }

    /// Sealed bytes of a regular frame.
    pub fn stride(&self) -> u64 {
        u64::from(self.frame) + u64::from(FRAME_OVERHEAD)
    }

    /// Bytes of the header.
    pub fn header_length(&self) -> u64 {
        self.header
    }

    /// The most plaintext that sequence numbers allow.
    pub fn max_plaintext(&self) -> u64 {
        u64::from(frame::MAX_SEQUENCE) * u64::from(self.frame) - 1
    }

    /// Where frame `index` begins, from 0; the final one is no exception.
    /// Saturates, so that an absurd index lies beyond every message instead of inside one.
    pub fn frame_at(&self, index: u64) -> u64 {
        self.header.saturating_add(index.saturating_mul(self.stride()))
    }

    /// How `plaintext` bytes fall into frames as this crate writes them: a
    /// full final frame is never written.
    pub fn split(&self, plaintext: u64) -> Extent {
        let frame = u64::from(self.frame);
        #[allow(clippy::cast_possible_truncation)] // a remainder of a u32
        Extent { regular: plaintext / frame, tail: (plaintext % frame) as u32, frame: self.frame }
    }

    /// Sealed bytes of a whole message of `plaintext` bytes. Saturates: a length
    /// that a client merely announces must not wrap round to a small one.
    pub fn sealed_length(&self, plaintext: u64) -> u64 {
        let extent = self.split(plaintext);
        self.frame_at(extent.regular).saturating_add(extent.final_length())
    }

    /// How `sealed` bytes in all fall into frames: computed, not proved.
    ///
    /// # Errors
    /// [`Damage`] when no whole message has that length.
    pub fn extent(&self, sealed: u64) -> Result<Extent, Damage> {
        let damage = || Damage::new(Tamper::Length, format!("{sealed} bytes is no length of a whole message"));
        let body = sealed.checked_sub(self.header + u64::from(FINAL_FRAME_OVERHEAD)).ok_or_else(damage)?;
        let (regular, tail) = (body / self.stride(), body % self.stride());
        if tail > u64::from(self.frame) || regular >= u64::from(frame::MAX_SEQUENCE) {
            return Err(damage());
        }
        #[allow(clippy::cast_possible_truncation)] // at most `frame`
        Ok(Extent { regular, tail: tail as u32, frame: self.frame })
    }
}

impl Extent {
    /// Plaintext bytes in all.
    pub fn plaintext_length(&self) -> u64 {
        self.regular * u64::from(self.frame) + u64::from(self.tail)
    }

    /// Sealed bytes of the final frame.
    pub fn final_length(&self) -> u64 {
        u64::from(self.tail) + u64::from(FINAL_FRAME_OVERHEAD)
    }

    /// Plaintext bytes of frame `index`.
    pub fn plaintext_of(&self, index: u64) -> u32 {
        if index < self.regular { self.frame } else { self.tail }
    }

    /// The frames that hold the plaintext bytes `first..=last`, which must lie
    /// inside: `None` otherwise.
    pub fn frames(&self, first: u64, last: u64) -> Option<FrameRange> {
        if first > last || last >= self.plaintext_length() {
            return None;
        }
        let frame = u64::from(self.frame);
        #[allow(clippy::cast_possible_truncation)] // less than `frame`
        let (first_frame, skip) = ((first / frame).min(self.regular), first % frame);
        // A full final frame holds what would else be one regular frame more.
        #[allow(clippy::cast_possible_truncation)]
        Some(FrameRange {
            first: first_frame,
            last: (last / frame).min(self.regular),
            skip: skip as u32,
            take: last - first + 1,
        })
    }
}
