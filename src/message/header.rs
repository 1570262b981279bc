//! The header: what stands before the first frame.

use super::{
    Damage, EncryptedDataKey, EncryptionContext, MAX_FRAME_LENGTH, MessageId, MessageKeys, SUITE, SealError, TAG_LEN,
    VERSION,
};
use super::{derive::Cipher, frame};
use crate::{fault::Tamper, secret::Key256};

/// Content type 2: framed.
const FRAMED: u8 = 2;
const COMMITMENT_LEN: usize = 32;
/// Bytes of a header beside its context and its data keys: version, suite, id,
/// two counts, content type, frame length, commitment, tag.
const FIXED_LEN: usize = 1 + 2 + 32 + 2 + 2 + 1 + 4 + COMMITMENT_LEN + TAG_LEN;

/// What a reader allocates for at most.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Bytes of a whole header. Default 64 KiB.
    pub header: usize,
    /// Data keys in one header. Default 16.
    pub data_keys: usize,
    /// Bytes of a frame. Default [`MAX_FRAME_LENGTH`].
    pub frame_length: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self { header: 64 << 10, data_keys: 16, frame_length: MAX_FRAME_LENGTH }
    }
}

/// What a writer decides before the first frame.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The message's id, fresh.
    pub id: MessageId,
    /// What the message says of itself.
    pub context: EncryptionContext,
    /// The data key, wrapped once for each who may open.
    pub data_keys: Vec<EncryptedDataKey>,
    /// Plaintext bytes of a regular frame.
    pub frame_length: u32,
}

/// A header as it was read: claims, until an [`Opener`](super::Opener) is made of it.
#[derive(Clone, Debug)]
pub struct Header {
    id: MessageId,
    context: EncryptionContext,
    data_keys: Vec<EncryptedDataKey>,
    frame_length: u32,
    commitment: [u8; COMMITMENT_LEN],
    raw: Vec<u8>,
}

impl Header {
    /// Reads a header from the start of `bytes`, which may go on after it.
    /// `None`: more bytes are needed, and never more than [`Caps::header`].
    ///
    /// # Errors
    /// [`Damage`] for what isn't a header of this format, or is over a cap.
    pub fn parse(bytes: &[u8], caps: &Caps) -> Result<Option<Self>, Damage> {
        let visible = &bytes[..bytes.len().min(caps.header)];
        match parse(visible, caps) {
            Ok(header) => Ok(Some(header)),
            Err(Stop::Damage(damage)) => Err(damage),
            Err(Stop::Short) if bytes.len() >= caps.header => {
                Err(Damage::new(Tamper::Caps, format!("the header is over {} bytes", caps.header)))
            }
            Err(Stop::Short) => Ok(None),
        }
    }

    /// The message's id.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// What the message says of itself.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// The wrapped data keys.
    pub fn data_keys(&self) -> &[EncryptedDataKey] {
        &self.data_keys
    }

    /// Plaintext bytes of a regular frame.
    pub fn frame_length(&self) -> u32 {
        self.frame_length
    }

    /// Bytes of the header, its tag included.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// The header's own bytes, its tag included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// Verifies commitment and tag under `data_key`.
    pub(super) fn verify(&self, data_key: &Key256) -> Result<(MessageKeys, Cipher), Damage> {
        let keys = MessageKeys::new(data_key, &self.id);
        if !keys.commits_to(&self.commitment) {
            return Err(Damage::new(Tamper::Commitment, "the data key does not commit to this message"));
        }
        let cipher =
            keys.encryption().map_err(|error| Damage::new(Tamper::Header, format!("key derivation: {error}")))?;
        let (signed, tag) = self.raw.split_at(self.raw.len() - TAG_LEN);
        let mut tag = tag.to_vec();
        match cipher.open(frame::iv(0), signed, &mut tag) {
            Some([]) => Ok((keys, cipher)),
            _ => Err(Damage::new(Tamper::Header, "the header's tag does not verify")),
        }
    }
}

impl Draft {
    /// Writes the header under `data_key`.
    pub(super) fn seal(self, data_key: &Key256) -> Result<(Header, MessageKeys, Cipher), SealError> {
        if self.frame_length == 0 || self.frame_length > MAX_FRAME_LENGTH {
            return Err(SealError::FrameLength);
        }
        // What this writes, its own reader takes: an object over a cap would be lost.
        let caps = Caps::default();
        let count = u16::try_from(self.data_keys.len()).map_err(|_| SealError::DataKeys)?;
        if count == 0 || self.data_keys.len() > caps.data_keys || !self.data_keys.iter().all(EncryptedDataKey::fits) {
            return Err(SealError::DataKeys);
        }
        let context = self.context.encode()?;
        let context_len = u16::try_from(context.len()).map_err(|_| SealError::Context("it is over 65,535 bytes"))?;
        let keys = MessageKeys::new(data_key, &self.id);
        let commitment = keys.commitment()?;

        let data_keys_len: usize = self.data_keys.iter().map(EncryptedDataKey::encoded_len).sum();
        let len = FIXED_LEN + context.len() + data_keys_len;
        if len > caps.header {
            return Err(SealError::HeaderSize);
        }
        let mut raw = Vec::with_capacity(len);
        raw.push(VERSION);
        raw.extend_from_slice(&SUITE.to_be_bytes());
        raw.extend_from_slice(self.id.as_bytes());
        raw.extend_from_slice(&context_len.to_be_bytes());
        raw.extend_from_slice(&context);
        raw.extend_from_slice(&count.to_be_bytes());
        for data_key in &self.data_keys {
            data_key.encode(&mut raw);
        }
        raw.push(FRAMED);
        raw.extend_from_slice(&self.frame_length.to_be_bytes());
        raw.extend_from_slice(&commitment);
        let cipher = keys.encryption()?;
        let tag = cipher.seal(frame::iv(0), &raw, &mut [])?;
        raw.extend_from_slice(&tag);

        let Self { id, context, data_keys, frame_length } = self;
        Ok((Header { id, context, data_keys, frame_length, commitment, raw }, keys, cipher))
    }
}

enum Stop {
    Short,
    Damage(Damage),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// Reads forward; short input is told apart from wrong input.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(len).ok_or(Stop::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, Stop> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn field(&mut self) -> Result<&'a [u8], Stop> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }
}

fn parse(bytes: &[u8], caps: &Caps) -> Result<Header, Stop> {
    let mut cursor = Cursor { bytes, at: 0 };
    match cursor.u8()? {
        VERSION => {}
        1 => {
            return Err(Damage::new(
                Tamper::Suite,
                "an AWS Encryption SDK message of version 1; only version 2, suite 0x0478, is read",
            )
            .into());
        }
        other => {
            return Err(
                Damage::new(Tamper::Foreign, format!("not a sealed message: it begins with {other:#04x}")).into()
            );
        }
    }
    let suite = cursor.u16()?;
    if suite != SUITE {
        return Err(unread_suite(suite).into());
    }
    let id = MessageId::from(cursor.array::<32>()?);
    let context = EncryptionContext::decode(cursor.field()?)?;
    let count = usize::from(cursor.u16()?);
    if count == 0 {
        return Err(Damage::new(Tamper::Header, "the header has no data key").into());
    }
    if count > caps.data_keys {
        return Err(Damage::new(Tamper::Caps, format!("{count} data keys, over {}", caps.data_keys)).into());
    }
    let mut data_keys = Vec::with_capacity(count);
    for _ in 0..count {
        data_keys.push(EncryptedDataKey {
            provider: cursor.field()?.to_vec(),
            info: cursor.field()?.to_vec(),
            ciphertext: cursor.field()?.to_vec(),
        });
    }
    match cursor.u8()? {
        FRAMED => {}
        1 => return Err(Damage::new(Tamper::Suite, "a message that isn't framed; only framed ones are read").into()),
        other => return Err(Damage::new(Tamper::Header, format!("unknown content type {other}")).into()),
    }
    let frame_length = cursor.u32()?;
    if frame_length == 0 {
        return Err(Damage::new(Tamper::Header, "a frame length of zero").into());
    }
    if frame_length > caps.frame_length {
        return Err(
            Damage::new(Tamper::Caps, format!("frames of {frame_length} bytes, over {}", caps.frame_length)).into()
        );
    }
    let commitment = cursor.array()?;
    cursor.take(TAG_LEN)?;
    let raw = bytes[..cursor.at].to_vec();
    Ok(Header { id, context, data_keys, frame_length, commitment, raw })
}

fn unread_suite(suite: u16) -> Damage {
    let name = match suite {
        0x0578 => " (AES-256-GCM, HKDF-SHA-512, key commitment, ECDSA P-384 signature)",
        0x0014 | 0x0046 | 0x0078 | 0x0114 | 0x0146 | 0x0178 | 0x0214 | 0x0346 | 0x0378 => " (without key commitment)",
        _ => {
            return Damage::new(Tamper::Foreign, format!("not a sealed message: unknown algorithm suite {suite:#06x}"));
        }
    };
    Damage::new(
        Tamper::Suite,
        format!(
            "algorithm suite {suite:#06x}{name} is not read; only 0x0478 is \
             (name AES_256_GCM_HKDF_SHA512_COMMIT_KEY to the tool that writes)"
        ),
    )
}
