//! What stands beside a message, as JSON in a file of its own.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Attributes, ETag, Failure, disk};
use crate::fault::Tamper;

/// The most a sidecar may have; a few KiB is what ours do.
const LARGEST: u64 = 1 << 20;

/// The first half of an id, which names its sidecar and is its entity tag.
pub(super) fn half(id: &[u8; 32]) -> String {
    hex::encode(&id[..16])
}

/// The entity tag of message `id`.
pub(super) fn etag(id: &[u8; 32]) -> ETag {
    ETag(half(id))
}

/// The text of the sidecar of message `id`.
pub(super) fn write(id: &[u8; 32], attributes: Attributes) -> Result<Vec<u8>, Failure> {
    let sidecar = Sidecar { id: hex::encode(id), entries: attributes.entries, headers: attributes.headers };
    serde_json::to_vec(&sidecar).map_err(|error| Failure::Other(format!("a sidecar could not be written: {error}")))
}

/// The sidecar at `path`; `None` where there is none, or it is another message's.
pub(super) fn read(path: &Path, id: &[u8; 32]) -> Result<Option<Attributes>, Failure> {
    let damaged = |why: &str| Failure::Damaged(Tamper::Metadata, format!("the message's sidecar {why}"));
    let file = match disk::open_plain(path) {
        Ok(Some((file, _))) => file,
        Ok(None) => return Err(damaged("is not a plain file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk::failure("open", disk::SIDECAR, &error)),
    };
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(|error| disk::failure("read", disk::SIDECAR, &error))?;
    if text.len() as u64 > LARGEST {
        return Err(damaged("is larger than any of ours"));
    }
    let sidecar: Sidecar = serde_json::from_slice(&text).map_err(|_| damaged("does not parse"))?;
    Ok((sidecar.id == hex::encode(id)).then_some(Attributes { entries: sidecar.entries, headers: sidecar.headers }))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    id: String,
    entries: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}
