//! A second sealer and reader, written from the format's text and from nothing
//! in `src`: what both agree on is the format, not a habit of one of them.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hmac::{self, HMAC_SHA512},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What to seal, and how oddly.
#[derive(Clone)]
pub(crate) struct Spec<'a> {
    pub(crate) data_key: [u8; 32],
    pub(crate) id: [u8; 32],
    pub(crate) context: &'a [(&'a str, &'a str)],
    pub(crate) data_keys: &'a [(&'a [u8], &'a [u8], &'a [u8])],
    pub(crate) frame_length: u32,
    /// Ends a plaintext of q frames in a full final frame, as some peers do.
    pub(crate) full_final: bool,
}

pub(crate) fn spec(frame_length: u32, full_final: bool) -> Spec<'static> {
    Spec {
        data_key: crate::support::KEY,
        id: [0x5A; 32],
        context: &[("purpose", "peer"), ("z", ""), ("é", "naïve")],
        data_keys: &[(b"local", b"first", &[9; 48])],
        frame_length,
        full_final,
    }
}

/// HKDF-SHA-512 (RFC 5869) for up to one block of output, by hand.
pub(crate) fn hkdf(data_key: &[u8], id: &[u8], info: &[u8]) -> [u8; 32] {
    let extracted = hmac::sign(&hmac::Key::new(HMAC_SHA512, id), data_key);
    let expanded = hmac::sign(&hmac::Key::new(HMAC_SHA512, extracted.as_ref()), &[info, &[1]].concat());
    expanded.as_ref()[..32].try_into().expect("32 of 64 bytes")
}

fn cipher(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"))
}

/// Ciphertext ‖ tag.
pub(crate) fn gcm_seal(key: &[u8], iv: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut bytes = plaintext.to_vec();
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(aad), &mut bytes)
        .expect("AES-GCM seals");
    bytes
}

pub(crate) fn gcm_open(key: &[u8], iv: [u8; 12], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let plain = cipher(key).open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(aad), &mut bytes).ok()?;
    Some(plain.to_vec())
}

fn put16(out: &mut Vec<u8>, field: &[u8]) {
    out.extend(u16::try_from(field.len()).expect("short").to_be_bytes());
    out.extend(field);
}

/// The encryption context as key providers authenticate it.
pub(crate) fn context(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    if pairs.is_empty() {
        return out;
    }
    let mut pairs = pairs.to_vec();
    pairs.sort_by_key(|(key, _)| key.as_bytes());
    out.extend(u16::try_from(pairs.len()).expect("few").to_be_bytes());
    for (key, value) in pairs {
        put16(&mut out, key.as_bytes());
        put16(&mut out, value.as_bytes());
    }
    out
}

/// Commitment and tag onto a header that ends in its frame length.
pub(crate) fn close_header(mut head: Vec<u8>, data_key: &[u8; 32]) -> Vec<u8> {
    let id: [u8; 32] = head[3..35].try_into().expect("32 bytes");
    head.extend(hkdf(data_key, &id, b"COMMITKEY"));
    let tag = gcm_seal(&hkdf(data_key, &id, b"\x04\x78DERIVEKEY"), [0; 12], &head, b"");
    head.extend(tag);
    head
}

/// The header up to and with its frame length.
pub(crate) fn open_header(spec: &Spec<'_>) -> Vec<u8> {
    let mut head = vec![2, 4, 0x78];
    head.extend(spec.id);
    put16(&mut head, &context(spec.context));
    head.extend(u16::try_from(spec.data_keys.len()).expect("few").to_be_bytes());
    for (provider, info, ciphertext) in spec.data_keys {
        put16(&mut head, provider);
        put16(&mut head, info);
        put16(&mut head, ciphertext);
    }
    head.push(2);
    head.extend(spec.frame_length.to_be_bytes());
    head
}

pub(crate) fn frame_aad(id: &[u8], label: &str, sequence: u32, len: usize) -> Vec<u8> {
    [id, b"AWSKMSEncryptionClient ", label.as_bytes(), &sequence.to_be_bytes(), &(len as u64).to_be_bytes()].concat()
}

fn iv(sequence: u32) -> [u8; 12] {
    let mut iv = [0; 12];
    iv[8..].copy_from_slice(&sequence.to_be_bytes());
    iv
}

/// Regular frame `sequence`, whatever its length.
pub(crate) fn regular(spec: &Spec<'_>, sequence: u32, plaintext: &[u8]) -> Vec<u8> {
    let key = hkdf(&spec.data_key, &spec.id, b"\x04\x78DERIVEKEY");
    let aad = frame_aad(&spec.id, "Frame", sequence, plaintext.len());
    [&sequence.to_be_bytes()[..], &iv(sequence), &gcm_seal(&key, iv(sequence), &aad, plaintext)].concat()
}

/// A final frame, whatever its length.
pub(crate) fn last(spec: &Spec<'_>, sequence: u32, plaintext: &[u8]) -> Vec<u8> {
    let key = hkdf(&spec.data_key, &spec.id, b"\x04\x78DERIVEKEY");
    let aad = frame_aad(&spec.id, "Final Frame", sequence, plaintext.len());
    [
        &[0xFF; 4][..],
        &sequence.to_be_bytes(),
        &iv(sequence),
        &u32::try_from(plaintext.len()).expect("short").to_be_bytes(),
        &gcm_seal(&key, iv(sequence), &aad, plaintext),
    ]
    .concat()
}

pub(crate) fn seal(spec: &Spec<'_>, plaintext: &[u8]) -> Vec<u8> {
    let mut message = close_header(open_header(spec), &spec.data_key);
    let frame = spec.frame_length as usize;
    let mut rest = plaintext;
    let mut sequence = 1;
    while rest.len() > frame || (rest.len() == frame && !spec.full_final) {
        message.extend(regular(spec, sequence, &rest[..frame]));
        rest = &rest[frame..];
        sequence += 1;
    }
    message.extend(last(spec, sequence, rest));
    message
}

/// Opens a whole message; `None` is any refusal.
pub(crate) fn open(data_key: &[u8; 32], message: &[u8]) -> Option<Vec<u8>> {
    let mut rest = message;
    let mut take = |n: usize| -> Option<&[u8]> {
        let (head, tail) = rest.split_at_checked(n)?;
        rest = tail;
        Some(head)
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    if take(3)? != [2, 4, 0x78] {
        return None;
    }
    let id = take(32)?;
    let context_len = number(take(2)?);
    take(context_len)?;
    for _ in 0..3 * number(take(2)?) {
        let len = number(take(2)?);
        take(len)?;
    }
    if take(1)? != [2] {
        return None;
    }
    let frame = number(take(4)?);
    if take(32)? != hkdf(data_key, id, b"COMMITKEY") {
        return None;
    }
    let tag = take(16)?;
    let key = hkdf(data_key, id, b"\x04\x78DERIVEKEY");
    let end = tag.as_ptr() as usize - message.as_ptr() as usize;
    gcm_open(&key, [0; 12], &message[..end], tag)?;
    let mut plaintext = Vec::new();
    for sequence in 1_u32.. {
        let first = take(4)?;
        let last = first == [0xFF; 4];
        let named = if last { take(4)? } else { first };
        if named != sequence.to_be_bytes() || take(12)? != iv(sequence) {
            return None;
        }
        let len = if last { number(take(4)?) } else { frame };
        if len > frame {
            return None;
        }
        let label = if last { "Final Frame" } else { "Frame" };
        plaintext.extend(gcm_open(&key, iv(sequence), &frame_aad(id, label, sequence, len), take(len + 16)?)?);
        if last {
            break;
        }
    }
    rest.is_empty().then_some(plaintext)
}

/// The message id of an object, for one nonce.
pub(crate) fn message_id(nonce: [u8; 16], vault: &str, class: &str, key: &str) -> [u8; 32] {
    let mut hashed = [b"sealward-mid-v1\0", &nonce[..]].concat();
    for part in [vault, class, key] {
        put16(&mut hashed, part.as_bytes());
    }
    [&nonce[..], &digest(&SHA256, &hashed).as_ref()[..16]].concat().try_into().expect("32 bytes")
}

fn metadata_aad(header: &[u8]) -> Vec<u8> {
    [&header[3..35], digest(&SHA256, header).as_ref()].concat()
}

pub(crate) fn seal_metadata(data_key: &[u8; 32], header: &[u8], nonce: [u8; 12], plaintext: &[u8]) -> String {
    let key = hkdf(data_key, &header[3..35], b"sealward-metadata-v1");
    STANDARD.encode([&nonce[..], &gcm_seal(&key, nonce, &metadata_aad(header), plaintext)].concat())
}

pub(crate) fn open_metadata(data_key: &[u8; 32], header: &[u8], sealed: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(12)?;
    let key = hkdf(data_key, &header[3..35], b"sealward-metadata-v1");
    gcm_open(&key, nonce.try_into().ok()?, &metadata_aad(header), sealed)
}
