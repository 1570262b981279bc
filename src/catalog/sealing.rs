//! What the catalogue keeps sealed: messages of the same format as objects.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::Away;
use crate::{
    keys::{DataKeys, OpenFailure},
    message::{Caps, Draft, EncryptionContext, FrameWriter, Header, MessageId, Opener, Sealer, StreamOpener},
};

/// The one entry of such a message's encryption context: what it is for.
const PURPOSE: &str = "sealward-purpose";
const FRAME: u32 = 64 << 10;

/// Seals and opens, under keys that app has chosen.
#[derive(Clone)]
pub struct Sealing(Arc<DataKeys>);

impl Sealing {
    /// Under `keys`.
    pub fn new(keys: Arc<DataKeys>) -> Self {
        Self(keys)
    }

    /// `plaintext` as a message, which is opened for the same `purpose` alone.
    pub(super) async fn seal(&self, purpose: &str, plaintext: &[u8]) -> Result<Vec<u8>, Away> {
        let context = context(purpose)?;
        let lease = self.0.issue(&context, true).await.map_err(|error| Away::gone(format!("no data key: {error}")))?;
        let id = MessageId::unbound().map_err(|error| Away::new(error.to_string()))?;
        let draft = Draft { id, context, data_keys: lease.encrypted().to_vec(), frame_length: FRAME };
        let sealed = || {
            let sealer = Sealer::new(draft, lease.key())?;
            let mut sealed = sealer.header().as_bytes().to_vec();
            let mut writer = FrameWriter::new(sealer);
            writer.grant(u64::MAX);
            writer.write(&mut sealed, plaintext)?;
            writer.finish(&mut sealed)?;
            Ok(sealed)
        };
        lease.charge(plaintext.len() as u64);
        sealed().map_err(|error: crate::message::SealError| Away::new(error.to_string()))
    }

    /// Whether `sealed` is under the key that seals now.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        let header = Header::parse(sealed, &Caps::default()).ok().flatten();
        header.is_some_and(|header| self.0.is_current(header.data_keys()))
    }

    /// What was sealed for `purpose`.
    pub(super) async fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Away> {
        let damage = |damage: crate::message::Damage| Away::new(format!("isn't what was sealed: {damage}"));
        let header = Header::parse(sealed, &Caps::default())
            .map_err(damage)?
            .ok_or_else(|| Away::new("isn't what was sealed: it ends inside its header"))?;
        if *header.context() != context(purpose)? {
            return Err(Away::new("isn't what was sealed: it is for another purpose"));
        }
        let opened = self.0.open(header.data_keys(), header.context()).await.map_err(|failure| match failure {
            OpenFailure::Damage(found) => damage(found),
            OpenFailure::Away(failure) => Away::gone(format!("its data key can't be unwrapped: {failure}")),
        })?;
        let start = header.len();
        let mut stream = StreamOpener::new(Opener::new(header, &opened.key).map_err(damage)?);
        let mut plaintext = Zeroizing::new(Vec::with_capacity(sealed.len()));
        stream.push(&sealed[start..], &mut plaintext).map_err(damage)?;
        stream.finish().map_err(damage)?;
        Ok(plaintext)
    }
}

fn context(purpose: &str) -> Result<EncryptionContext, Away> {
    EncryptionContext::new([(PURPOSE, purpose)]).map_err(|error| Away::new(error.to_string()))
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealing")
    }
}
