//! Sealing: frames in order, each once, in place.

use super::{
    Draft, EncryptionContext, FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, Header, Layout, MessageId, MessageKeys, SealError,
    TAG_LEN,
    derive::Cipher,
    frame::{self, FrameAad, Kind},
    metadata,
};
use crate::secret::Key256;

/// Seals one message. It is moved into its end, so that no sequence number can
/// seal two plaintexts.
pub struct Sealer {
    header: Header,
    keys: MessageKeys,
    cipher: Cipher,
    next: u32,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Plaintext bytes.
    pub plaintext: u64,
    /// Sealed bytes, the header included.
    pub sealed: u64,
}

impl Sealer {
    /// Writes the header of `draft` under `data_key`.
    ///
    /// # Errors
    /// [`SealError`] for a draft that isn't within the format.
    pub fn new(draft: Draft, data_key: &Key256) -> Result<Self, SealError> {
        let (header, keys, cipher) = draft.seal(data_key)?;
        Ok(Self { header, keys, cipher, next: 1 })
    }

    /// The header, which stands before the first frame.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The message's id.
    pub fn id(&self) -> &MessageId {
        self.header.id()
    }

    /// What the message says of itself.
    pub fn context(&self) -> &EncryptionContext {
        self.header.context()
    }

    /// Positions of this message's frames.
    pub fn layout(&self) -> Layout {
        Layout::new(self.header.len(), self.header.frame_length())
    }

    /// Seals metadata beside the message; once, before the first frame.
    ///
    /// # Errors
    /// [`SealError`] when there is no randomness.
    pub fn seal_metadata(&self, plaintext: &[u8]) -> Result<String, SealError> {
        metadata::seal_metadata(&self.keys, &self.header, plaintext)
    }

    /// Seals the next regular frame in place. `slot` is the whole frame, `frame
    /// length + 32` bytes; its plaintext stands after the first sixteen.
    ///
    /// # Errors
    /// [`SealError::TooLong`] past the last sequence number,
    /// [`SealError::FrameLength`] for a slot of another size.
    pub fn seal_regular(&mut self, slot: &mut [u8]) -> Result<(), SealError> {
        let sequence = self.next;
        // The last number is kept for the final frame.
        if sequence >= frame::MAX_SEQUENCE {
            return Err(SealError::TooLong);
        }
        let frame_length = self.header.frame_length();
        if slot.len() as u64 != u64::from(frame_length) + u64::from(FRAME_OVERHEAD) {
            return Err(SealError::FrameLength);
        }
        // Spent whatever comes: no number seals two plaintexts.
        self.next += 1;
        let iv = frame::iv(sequence);
        let (head, body) = slot.split_at_mut(frame::HEAD);
        let (plaintext, tag) = body.split_at_mut(frame_length as usize);
        head[..4].copy_from_slice(&sequence.to_be_bytes());
        head[4..].copy_from_slice(&iv);
        let aad = FrameAad::new(self.id(), Kind::Regular, sequence, u64::from(frame_length));
        tag.copy_from_slice(&self.cipher.seal(iv, aad.as_slice(), plaintext)?);
        Ok(())
    }

    /// Seals the final frame in place, and ends the message. `slot` is the whole
    /// frame, `n + 40` bytes; its plaintext stands after the first twenty-four, and
    /// is shorter than a regular frame's.
    ///
    /// # Errors
    /// [`SealError::FrameLength`] for a slot of another size.
    pub fn seal_final(self, slot: &mut [u8]) -> Result<(), SealError> {
        let room = slot.len().checked_sub(FINAL_FRAME_OVERHEAD as usize).ok_or(SealError::FrameLength)?;
        if room >= self.header.frame_length() as usize {
            return Err(SealError::FrameLength);
        }
        let sequence = self.next;
        let iv = frame::iv(sequence);
        let (head, rest) = slot.split_at_mut(frame::FINAL_HEAD);
        let len = rest.len() - TAG_LEN;
        let (plaintext, tag) = rest.split_at_mut(len);
        head[..4].copy_from_slice(&frame::END.to_be_bytes());
        head[4..8].copy_from_slice(&sequence.to_be_bytes());
        head[8..20].copy_from_slice(&iv);
        let claimed = u32::try_from(len).map_err(|_| SealError::FrameLength)?;
        head[20..].copy_from_slice(&claimed.to_be_bytes());
        let aad = FrameAad::new(self.id(), Kind::Final, sequence, len as u64);
        tag.copy_from_slice(&self.cipher.seal(iv, aad.as_slice(), plaintext)?);
        Ok(())
    }
}

/// Lays plaintext straight to where it is sealed, and seals each frame that is
/// full. One copy of each byte, into a buffer that the caller owns and empties
/// between frames.
pub struct FrameWriter {
    sealer: Sealer,
    /// Plaintext bytes of the frame that is open now.
    open: usize,
    /// Frames the buffer may still take.
    room: u64,
    plaintext: u64,
}

impl FrameWriter {
    /// A writer with no room yet: see [`Self::grant`].
    pub fn new(sealer: Sealer) -> Self {
        Self { sealer, open: 0, room: 0, plaintext: 0 }
    }

    /// The message's sealer.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Lets the writer lay `frames` more regular frames. A buffer for `n` frames
    /// has `n * (frame length + 32) + 40` bytes, so that the final one fits even
    /// where all of them are full and it is empty.
    pub fn grant(&mut self, frames: u64) {
        self.room = self.room.saturating_add(frames);
    }

    /// Whether everything granted is full.
    pub fn is_full(&self) -> bool {
        self.room == 0
    }

    /// Bytes at the end of the buffer that belong to a frame still open: not sealed yet.
    pub fn unsealed(&self) -> usize {
        if self.open == 0 { 0 } else { frame::HEAD + self.open }
    }

    /// Plaintext bytes taken so far.
    pub fn plaintext(&self) -> u64 {
        self.plaintext
    }

    /// Takes what fits of `plaintext` to the end of `out`; returns how many bytes.
    ///
    /// # Errors
    /// [`SealError::TooLong`] past the last sequence number. The message is then
    /// over, and what was laid into `out` last is plaintext still: drop both.
    pub fn write(&mut self, out: &mut Vec<u8>, plaintext: &[u8]) -> Result<usize, SealError> {
        let frame_length = self.sealer.header.frame_length() as usize;
        let mut rest = plaintext;
        while !rest.is_empty() && self.room > 0 {
            if self.open == 0 {
                out.extend_from_slice(&[0; frame::HEAD]);
            }
            let (now, later) = rest.split_at(rest.len().min(frame_length - self.open));
            out.extend_from_slice(now);
            self.open += now.len();
            rest = later;
            if self.open == frame_length {
                out.extend_from_slice(&[0; TAG_LEN]);
                let start = out.len() - (frame_length + FRAME_OVERHEAD as usize);
                self.sealer.seal_regular(&mut out[start..])?;
                self.open = 0;
                self.room -= 1;
            }
        }
        let taken = plaintext.len() - rest.len();
        self.plaintext += taken as u64;
        Ok(taken)
    }

    /// Seals what is open as the final frame, empty where nothing is.
    ///
    /// # Errors
    /// [`SealError`] from the cipher.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<Sealed, SealError> {
        let layout = self.sealer.layout();
        if self.open == 0 {
            out.extend_from_slice(&[0; frame::HEAD]);
        }
        // A final frame's head is eight bytes longer than the one laid: shift once.
        let begin = out.len() - self.open - frame::HEAD;
        let shift = frame::FINAL_HEAD - frame::HEAD;
        out.extend_from_slice(&[0; frame::FINAL_HEAD - frame::HEAD]);
        out.copy_within(begin + frame::HEAD..begin + frame::HEAD + self.open, begin + frame::HEAD + shift);
        out.extend_from_slice(&[0; TAG_LEN]);
        debug_assert_eq!(out.len() - begin, self.open + FINAL_FRAME_OVERHEAD as usize);
        self.sealer.seal_final(&mut out[begin..])?;
        Ok(Sealed { plaintext: self.plaintext, sealed: layout.sealed_length(self.plaintext) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::EncryptedDataKey;

    #[test]
    fn the_last_sequence_number_is_the_final_frames() {
        let draft = Draft {
            id: [1; 32].into(),
            context: EncryptionContext::default(),
            data_keys: vec![EncryptedDataKey { provider: vec![], info: vec![], ciphertext: vec![] }],
            frame_length: 4,
        };
        let mut sealer = Sealer::new(draft, &Key256::from_slice(&[7; 32]).expect("32 bytes")).expect("valid");
        sealer.next = frame::MAX_SEQUENCE - 1;
        let mut writer = FrameWriter::new(sealer);
        writer.grant(9);
        let mut out = Vec::new();
        assert_eq!(writer.write(&mut out, b"four"), Ok(4), "the last regular frame");
        assert_eq!(writer.write(&mut out, b"and"), Ok(3), "the final frame takes less than a whole one");
        let end = out.len() - 3 - frame::HEAD;
        let sealer = FrameWriter { sealer: resealed(&writer.sealer), open: 0, room: 9, plaintext: 0 };
        writer.finish(&mut out).expect("ends at the last number");
        assert_eq!(out[end + 4..end + 8], frame::MAX_SEQUENCE.to_be_bytes());

        let mut over = sealer;
        assert_eq!(over.write(&mut Vec::new(), b"four"), Err(SealError::TooLong), "a whole one more is too long");
    }

    /// The same state again; outside a test nothing may copy a sealer.
    fn resealed(sealer: &Sealer) -> Sealer {
        let key = Key256::from_slice(&[7; 32]).expect("32 bytes");
        let (_, cipher) = sealer.header.verify(&key).expect("its own key");
        let keys = MessageKeys::new(&key, sealer.id());
        Sealer { header: sealer.header.clone(), keys, cipher, next: sealer.next }
    }
}
