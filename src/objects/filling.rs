//! A part as it fills. Its checksum is taken frame by frame, while the bytes are still
//! in the CPU's caches: a second pass over a whole part fetches all of it again.

use crc_fast::{CrcAlgorithm, Digest};

use crate::{
    budget::Buffer,
    message::{FrameWriter, SealError, Sealed},
    store::Payload,
};

/// A part that frames are laid into.
pub(super) struct Filling {
    buffer: Buffer,
    sum: Option<Sum>,
}

/// CRC-64/NVME of the first `done` bytes.
struct Sum {
    digest: Digest,
    done: usize,
}

impl Filling {
    pub(super) fn new(buffer: Buffer, summed: bool) -> Self {
        let sum = summed.then(|| Sum { digest: Digest::new(CrcAlgorithm::Crc64Nvme), done: 0 });
        Self { buffer, sum }
    }

    /// Lays what fits of `plaintext`; returns how many bytes.
    pub(super) fn write(&mut self, writer: &mut FrameWriter, plaintext: &[u8]) -> Result<usize, SealError> {
        let taken = writer.write(&mut self.buffer, plaintext)?;
        self.add(self.buffer.len() - writer.unsealed());
        Ok(taken)
    }

    /// Ends the message in this part.
    pub(super) fn finish(&mut self, writer: FrameWriter) -> Result<Sealed, SealError> {
        writer.finish(&mut self.buffer)
    }

    /// Bytes laid.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The part, on its way; every frame in it is sealed.
    pub(super) fn into_payload(mut self) -> Payload {
        self.add(self.buffer.len());
        let crc64 = self.sum.map(|sum| sum.digest.finalize());
        Payload { bytes: self.buffer.into_bytes(), crc64 }
    }

    /// Adds what is sealed by now, up to `end`, to the checksum.
    fn add(&mut self, end: usize) {
        if let Some(sum) = &mut self.sum
            && end > sum.done
        {
            sum.digest.update(&self.buffer[sum.done..end]);
            sum.done = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Budget,
        message::{Draft, EncryptedDataKey, EncryptionContext, Sealer},
        secret::Key256,
    };

    #[test]
    fn the_checksum_is_that_of_every_sealed_byte_however_they_came() {
        for pieces in [[1, 3, 200, 5], [64, 64, 64, 64], [0, 300, 0, 1]] {
            let draft = Draft {
                id: [1; 32].into(),
                context: EncryptionContext::default(),
                data_keys: vec![EncryptedDataKey { provider: vec![], info: vec![], ciphertext: vec![] }],
                frame_length: 64,
            };
            let sealer = Sealer::new(draft, &Key256::from_slice(&[7; 32]).expect("32 bytes")).expect("valid");
            let mut buffer = Budget::new(1 << 20).try_buffer(4096).expect("room");
            buffer.extend_from_slice(sealer.header().as_bytes());
            let mut writer = FrameWriter::new(sealer);
            writer.grant(9);
            let mut filling = Filling::new(buffer, true);
            for piece in pieces {
                assert_eq!(filling.write(&mut writer, &vec![9; piece]).expect("fits"), piece);
            }
            filling.finish(writer).expect("ends");
            let payload = filling.into_payload();
            let whole = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &payload.bytes);
            assert_eq!(payload.crc64, Some(whole), "{pieces:?}");
        }
    }
}
