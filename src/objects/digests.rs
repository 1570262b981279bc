//! Digests that a client promised, computed while the body streams by.

use std::fmt;

use aws_lc_rs::digest::{self, SHA256, SHA512};
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

use crate::fault::Fault;

/// What a client can have checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `Content-MD5`
    Md5,
    /// `Content-Digest: sha-256=…`, `x-amz-checksum-sha256`
    Sha256,
    /// `Content-Digest: sha-512=…`
    Sha512,
    /// `x-amz-checksum-crc32`
    Crc32,
    /// `x-amz-checksum-crc32c`
    Crc32c,
    /// `x-amz-checksum-crc64nvme`
    Crc64Nvme,
}

impl Algorithm {
    /// Bytes of a digest.
    pub fn size(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
            Self::Crc32 => "CRC-32",
            Self::Crc32c => "CRC-32C",
            Self::Crc64Nvme => "CRC-64/NVME",
        })
    }
}

/// A digest a client says its body has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// By which algorithm.
    pub algorithm: Algorithm,
    /// Big-endian, as it goes over the wire.
    pub value: Vec<u8>,
}

/// All that is promised of a body.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    /// Promised before the body.
    pub now: Vec<Promise>,
    /// Announced for the trailer: for each field, the algorithms it may bring, of
    /// which one at least must come.
    pub late: Vec<Vec<Algorithm>>,
}

/// Computes whatever was promised, and CRC-64/NVME always: the receipt has it.
pub(super) struct Digesting {
    crc64: crc_fast::Digest,
    others: Vec<(Algorithm, Running)>,
}

enum Running {
    Md5(Box<Md5>),
    Sha(Box<digest::Context>),
    Crc(Box<crc_fast::Digest>),
    /// The one that is computed anyway.
    Crc64,
}

impl Digesting {
    pub(super) fn new(promises: &Promises) -> Self {
        let mut others: Vec<(Algorithm, Running)> = Vec::new();
        let wanted =
            promises.now.iter().map(|promise| promise.algorithm).chain(promises.late.iter().flatten().copied());
        for algorithm in wanted {
            if others.iter().any(|(other, _)| *other == algorithm) {
                continue;
            }
            let running = match algorithm {
                Algorithm::Md5 => Running::Md5(Box::default()),
                Algorithm::Sha256 => Running::Sha(Box::new(digest::Context::new(&SHA256))),
                Algorithm::Sha512 => Running::Sha(Box::new(digest::Context::new(&SHA512))),
                Algorithm::Crc32 => Running::Crc(Box::new(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc))),
                Algorithm::Crc32c => Running::Crc(Box::new(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi))),
                Algorithm::Crc64Nvme => Running::Crc64,
            };
            others.push((algorithm, running));
        }
        Self { crc64: crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme), others }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.crc64.update(bytes);
        for (_, running) in &mut self.others {
            match running {
                Running::Md5(state) => state.update(bytes),
                Running::Sha(state) => state.update(bytes),
                Running::Crc(state) => state.update(bytes),
                Running::Crc64 => {}
            }
        }
    }

    /// Checks every promise, and returns the body's CRC-64/NVME, big-endian.
    ///
    /// # Errors
    /// 400 that names the first algorithm whose promise isn't kept, or whose
    /// announced trailer never came.
    pub(super) fn finish(self, promises: &Promises, late: &[Promise]) -> Result<[u8; 8], Fault> {
        let crc64 = self.crc64.finalize().to_be_bytes();
        let computed: Vec<(Algorithm, Vec<u8>)> = self
            .others
            .into_iter()
            .map(|(algorithm, running)| {
                let value = match running {
                    Running::Md5(state) => state.finalize().to_vec(),
                    Running::Sha(state) => state.finish().as_ref().to_vec(),
                    Running::Crc(state) => state.finalize().to_be_bytes()[8 - algorithm.size()..].to_vec(),
                    Running::Crc64 => crc64.to_vec(),
                };
                (algorithm, value)
            })
            .collect();
        let came = |field: &[Algorithm]| late.iter().any(|promise| field.contains(&promise.algorithm));
        if !promises.late.iter().all(|field| came(field)) {
            return Err(Fault::bad_request(
                "a digest that was announced for the trailer never came; nothing was stored",
            ));
        }
        if late.iter().any(|promise| !computed.iter().any(|(algorithm, _)| *algorithm == promise.algorithm)) {
            return Err(Fault::bad_request(
                "a digest in the trailer can't be checked any more: announce it in Trailer or x-amz-trailer; \
                 nothing was stored",
            ));
        }
        for promise in promises.now.iter().chain(late) {
            let kept =
                computed.iter().any(|(algorithm, value)| *algorithm == promise.algorithm && *value == promise.value);
            if !kept {
                return Err(Fault::bad_request(format!(
                    "the body's {} digest is not the one promised; nothing was stored",
                    promise.algorithm
                )));
            }
        }
        Ok(crc64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of "123456789", from the algorithms' own catalogues.
    #[test]
    fn known_answers() {
        let answers: [(Algorithm, &[u8]); 4] = [
            (Algorithm::Crc32, &[0xCB, 0xF4, 0x39, 0x26]),
            (Algorithm::Crc32c, &[0xE3, 0x06, 0x92, 0x83]),
            (Algorithm::Crc64Nvme, &[0xAE, 0x8B, 0x14, 0x86, 0x0A, 0x79, 0x98, 0x88]),
            (
                Algorithm::Md5,
                &[0x25, 0xf9, 0xe7, 0x94, 0x32, 0x3b, 0x45, 0x38, 0x85, 0xf5, 0x18, 0x1f, 0x1b, 0x62, 0x4d, 0x0b],
            ),
        ];
        for (algorithm, value) in answers {
            let promises = Promises { now: vec![Promise { algorithm, value: value.to_vec() }], late: vec![] };
            let mut digesting = Digesting::new(&promises);
            digesting.update(b"1234");
            digesting.update(b"56789");
            assert!(digesting.finish(&promises, &[]).is_ok(), "{algorithm}");
            let mut digesting = Digesting::new(&promises);
            digesting.update(b"12345678");
            assert!(digesting.finish(&promises, &[]).is_err(), "{algorithm}");
        }
    }

    #[test]
    fn an_announced_digest_must_come() {
        let promises = Promises { now: vec![], late: vec![vec![Algorithm::Sha256]] };
        assert!(Digesting::new(&promises).finish(&promises, &[]).is_err());
    }
}
