//! One frame: its bytes, its iv, its additional data.

use super::{MessageId, TAG_LEN};

/// Bytes of an iv.
pub const IV_LEN: usize = 12;
/// Bytes of a regular frame beside its ciphertext: sequence number, iv, tag.
pub const FRAME_OVERHEAD: u32 = 32;
/// Bytes of a final frame beside its ciphertext: end marker, sequence number, iv, length, tag.
pub const FINAL_FRAME_OVERHEAD: u32 = 40;

/// Bytes before a regular frame's ciphertext.
pub(super) const HEAD: usize = 4 + IV_LEN;
/// Bytes before a final frame's ciphertext.
pub(super) const FINAL_HEAD: usize = 4 + 4 + IV_LEN + 4;
/// What a final frame begins with.
pub(super) const END: u32 = 0xFFFF_FFFF;
/// The largest sequence number.
pub(super) const MAX_SEQUENCE: u32 = 0xFFFF_FFFE;

const _: () = assert!(HEAD + TAG_LEN == FRAME_OVERHEAD as usize);
const _: () = assert!(FINAL_HEAD + TAG_LEN == FINAL_FRAME_OVERHEAD as usize);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Final,
}

impl Kind {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Regular => b"AWSKMSEncryptionClient Frame",
            Self::Final => b"AWSKMSEncryptionClient Final Frame",
        }
    }
}

/// Eight zero bytes and the sequence number. The header's own iv is that of sequence 0.
pub(super) fn iv(sequence: u32) -> [u8; IV_LEN] {
    let mut iv = [0; IV_LEN];
    iv[IV_LEN - 4..].copy_from_slice(&sequence.to_be_bytes());
    iv
}

/// A frame's additional authenticated data, on the stack.
pub(super) struct FrameAad {
    bytes: [u8; 32 + 34 + 4 + 8],
    len: usize,
}

impl FrameAad {
    pub(super) fn new(id: &MessageId, kind: Kind, sequence: u32, plaintext: u64) -> Self {
        let mut aad = Self { bytes: [0; 78], len: 0 };
        aad.push(id.as_bytes());
        aad.push(kind.label());
        aad.push(&sequence.to_be_bytes());
        aad.push(&plaintext.to_be_bytes());
        aad
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }
}
