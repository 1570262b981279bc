//! Opening: a header that is believed, and frames in any order, in place.

use std::ops::Range;

use super::{
    Damage, FINAL_FRAME_OVERHEAD, Header, Layout, MessageKeys,
    derive::Cipher,
    frame::{self, FrameAad, Kind},
    metadata,
};
use crate::{
    fault::Tamper,
    secret::{Key256, SecretText},
};

/// A message whose header was verified under its data key.
pub struct Opener {
    header: Header,
    keys: MessageKeys,
    cipher: Cipher,
}

impl Opener {
    /// Believes `header` if `data_key` commits to it and its tag verifies.
    ///
    /// # Errors
    /// [`Damage`] otherwise.
    pub fn new(header: Header, data_key: &Key256) -> Result<Self, Damage> {
        let (keys, cipher) = header.verify(data_key)?;
        Ok(Self { header, keys, cipher })
    }

    /// The verified header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Positions of this message's frames.
    pub fn layout(&self) -> Layout {
        Layout::new(self.header.len(), self.header.frame_length())
    }

    /// Opens the metadata that was sealed beside the message.
    ///
    /// # Errors
    /// [`Damage`] when it isn't this message's.
    pub fn open_metadata(&self, sealed: &str) -> Result<SecretText, Damage> {
        metadata::open_metadata(&self.keys, &self.header, sealed)
    }

    /// Verifies regular frame `index`, from 0, and opens it in place. `slot` is
    /// the whole frame; returns where in it the plaintext stands.
    ///
    /// # Errors
    /// [`Damage`] when it isn't that frame; the slot then holds nothing of use.
    pub fn open_regular(&self, index: u64, slot: &mut [u8]) -> Result<Range<usize>, Damage> {
        let frame_length = self.header.frame_length() as usize;
        let sequence = sequence(index)?;
        if slot.len() != frame_length + frame::HEAD + super::TAG_LEN {
            return Err(bad(index, "is cut short"));
        }
        let (head, rest) = slot.split_at_mut(frame::HEAD);
        let iv = frame::iv(sequence);
        if head[..4] != sequence.to_be_bytes() || head[4..] != iv {
            return Err(bad(index, "is not the frame due there"));
        }
        let aad = FrameAad::new(self.header.id(), Kind::Regular, sequence, frame_length as u64);
        self.cipher.open(iv, aad.as_slice(), rest).ok_or_else(|| bad(index, "does not verify"))?;
        Ok(frame::HEAD..frame::HEAD + frame_length)
    }

    /// Verifies the final frame, which is frame `index`, and opens it in place.
    /// `slot` is the whole frame.
    ///
    /// # Errors
    /// [`Damage`] when it isn't that frame.
    pub fn open_final(&self, index: u64, slot: &mut [u8]) -> Result<Range<usize>, Damage> {
        let sequence = sequence(index)?;
        let len = slot
            .len()
            .checked_sub(FINAL_FRAME_OVERHEAD as usize)
            .filter(|len| *len <= self.header.frame_length() as usize)
            .ok_or_else(|| bad(index, "has no length of a final frame"))?;
        let (head, rest) = slot.split_at_mut(frame::FINAL_HEAD);
        let iv = frame::iv(sequence);
        if head[..4] != frame::END.to_be_bytes() || head[4..8] != sequence.to_be_bytes() || head[8..20] != iv {
            return Err(bad(index, "is not the final frame due there"));
        }
        if u64::from(be32(&head[20..])) != len as u64 {
            return Err(bad(index, "claims another length than it has"));
        }
        let aad = FrameAad::new(self.header.id(), Kind::Final, sequence, len as u64);
        self.cipher.open(iv, aad.as_slice(), rest).ok_or_else(|| bad(index, "does not verify"))?;
        Ok(frame::FINAL_HEAD..frame::FINAL_HEAD + len)
    }
}

pub(super) fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn sequence(index: u64) -> Result<u32, Damage> {
    index
        .checked_add(1)
        .and_then(|sequence| u32::try_from(sequence).ok())
        .filter(|sequence| *sequence <= frame::MAX_SEQUENCE)
        .ok_or_else(|| bad(index, "is past the last sequence number"))
}

fn bad(index: u64, what: &str) -> Damage {
    Damage::new(Tamper::Frame, format!("frame {} {what}", index.saturating_add(1)))
}
