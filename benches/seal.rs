//! What sealing costs beside the bare cipher, as ratios taken in one run: the
//! two of a pair take turns, and the median of the per-round ratios is told, so
//! that a busy machine slows both.
//!
//! `cargo bench --bench seal [-- ROUNDS]`

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{hint::black_box, time::Instant};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA512, KeyType, Salt},
};
use sealward::{
    message::{
        DEFAULT_FRAME_LENGTH, Draft, EncryptedDataKey, EncryptionContext, FrameWriter, Header, MessageId, Opener,
        Sealer,
    },
    secret::Key256,
};

const FRAME: usize = DEFAULT_FRAME_LENGTH as usize;
const SMALL: usize = 4 << 10;
const METADATA: usize = 300;

fn main() {
    // cargo adds `--bench`; a number is how many rounds.
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(101);
    println!("{:<44} {:>11} {:>11}  {:>7}  goal", "ours / bare", "ours", "bare", "ratio");
    for (name, bytes) in [("1 MiB", 1 << 20), ("8 MiB", 8 << 20)] {
        seal(name, bytes, rounds);
        open(name, bytes, rounds);
    }
    small(rounds);
}

/// Takes turns, and tells the medians and the median ratio of times (bare / ours).
fn pair(rounds: usize, mut ours: impl FnMut() -> f64, mut bare: impl FnMut() -> f64) -> (f64, f64, f64) {
    for _ in 0..=rounds / 10 {
        ours();
        bare();
    }
    let (mut left, mut right, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (a, b) = if round % 2 == 0 {
            let a = ours();
            (a, bare())
        } else {
            let b = bare();
            (ours(), b)
        };
        left.push(a);
        right.push(b);
        ratio.push(b / a);
    }
    (median(left), median(right), median(ratio))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

#[allow(clippy::cast_precision_loss)]
fn throughput(name: &str, bytes: usize, (ours, bare, ratio): (f64, f64, f64), goal: &str) {
    let rate = |seconds: f64| format!("{:.2} GB/s", bytes as f64 / seconds / 1e9);
    println!("{name:<44} {:>11} {:>11}  {ratio:>7.3}  {goal}", rate(ours), rate(bare));
}

fn data_key() -> Key256 {
    Key256::from_slice(&[7; 32]).unwrap()
}

fn draft(context: &EncryptionContext, data_keys: &[EncryptedDataKey]) -> Draft {
    Draft {
        id: MessageId::bound("archive", "records", "a/key").unwrap(),
        context: context.clone(),
        data_keys: data_keys.to_vec(),
        frame_length: DEFAULT_FRAME_LENGTH,
    }
}

fn parts() -> (EncryptionContext, Vec<EncryptedDataKey>) {
    let context =
        EncryptionContext::new([("sealward-class", "records"), ("sealward-meta", "sealed"), ("sealward-vault", "v")]);
    let data_key = EncryptedDataKey { provider: b"aws-kms".to_vec(), info: vec![b'a'; 75], ciphertext: vec![1; 184] };
    (context.unwrap(), vec![data_key])
}

fn cipher(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

fn nonce(count: u32) -> Nonce {
    let mut iv = [0; 12];
    iv[8..].copy_from_slice(&count.to_be_bytes());
    Nonce::assume_unique_for_key(iv)
}

/// The bare cipher over `buffer`, in pieces. The key seals the same thing again and
/// again, which only a benchmark may.
fn bare_seal(key: &LessSafeKey, buffer: &mut [u8], piece: usize) {
    for (count, piece) in (1..).zip(buffer.chunks_mut(piece)) {
        let _ = black_box(key.seal_in_place_separate_tag(nonce(count), Aad::from([0; 72]), piece).unwrap());
    }
}

/// A writer whose header is done: the frames alone are timed.
fn writer(context: &EncryptionContext, data_keys: &[EncryptedDataKey]) -> FrameWriter {
    let mut writer = FrameWriter::new(Sealer::new(draft(context, data_keys), &data_key()).unwrap());
    writer.grant(u64::MAX);
    writer
}

fn seal(name: &str, bytes: usize, rounds: usize) {
    let (context, data_keys) = parts();
    let plaintext = vec![0xA5_u8; bytes];
    let key = cipher(&[7; 32]);
    let mut out = Vec::with_capacity(bytes + (bytes / FRAME) * 32 + 40);
    let mut buffer = plaintext.clone();

    let mut ours = |chunk: usize| {
        let mut writer = writer(&context, &data_keys);
        out.clear();
        timed(|| {
            for chunk in plaintext.chunks(chunk) {
                assert_eq!(writer.write(&mut out, black_box(chunk)).unwrap(), chunk.len());
            }
            black_box(writer.finish(&mut out).unwrap());
        })
    };
    // Plaintext that lies where it is sealed, as the bare cipher's does.
    let mut slots = vec![0xA5_u8; bytes / FRAME * (FRAME + 32)];
    let in_place = || {
        let mut sealer = Sealer::new(draft(&context, &data_keys), &data_key()).unwrap();
        timed(|| {
            for slot in black_box(&mut slots).chunks_exact_mut(FRAME + 32) {
                sealer.seal_regular(slot).unwrap();
            }
        })
    };
    let figures = pair(rounds, in_place, || timed(|| bare_seal(&key, black_box(&mut buffer), FRAME)));
    throughput(&format!("seal {name}, in place"), bytes, figures, ">= 0.85");
    let with_copy = || {
        timed(|| {
            buffer.copy_from_slice(black_box(&plaintext));
            bare_seal(&key, black_box(&mut buffer), FRAME);
        })
    };
    let figures = pair(rounds, || ours(16 << 10), with_copy);
    throughput(&format!("seal {name}, 16 KiB writes / memcpy + bare"), bytes, figures, "");
}

fn open(name: &str, bytes: usize, rounds: usize) {
    let (context, data_keys) = parts();
    let mut writer = writer(&context, &data_keys);
    let header = Header::clone(writer.sealer().header());
    let mut message = Vec::new();
    writer.write(&mut message, &vec![0xA5_u8; bytes]).unwrap();
    writer.finish(&mut message).unwrap();
    let opener = Opener::new(header, &data_key()).unwrap();

    let key = cipher(&[7; 32]);
    let mut sealed = vec![0xA5_u8; bytes + bytes / FRAME * 16];
    for (count, piece) in (1..).zip(sealed.chunks_mut(FRAME + 16)) {
        let (text, end) = piece.split_at_mut(FRAME);
        let tag = key.seal_in_place_separate_tag(nonce(count), Aad::from([0; 72]), text).unwrap();
        end.copy_from_slice(tag.as_ref());
    }

    // Opening in place spends the ciphertext: each round takes a fresh copy, untimed.
    let (mut slots, mut pieces) = (message.clone(), sealed.clone());
    let ours = || {
        slots.copy_from_slice(&message);
        timed(|| {
            for (index, slot) in (0..).zip(black_box(&mut slots).chunks_exact_mut(FRAME + 32)) {
                black_box(opener.open_regular(index, slot).unwrap());
            }
        })
    };
    let bare = || {
        pieces.copy_from_slice(&sealed);
        timed(|| {
            for (count, piece) in (1..).zip(black_box(&mut pieces).chunks_exact_mut(FRAME + 16)) {
                black_box(key.open_in_place(nonce(count), Aad::from([0; 72]), piece).unwrap());
            }
        })
    };
    throughput(&format!("open {name} / in 256 KiB pieces"), bytes, pair(rounds, ours, bare), ">= 0.85");
}

struct Len;

impl KeyType for Len {
    fn len(&self) -> usize {
        32
    }
}

fn derive(salt: &[u8; 32], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Salt::new(HKDF_SHA512, salt).extract(&[7; 32]).expand(&[info], Len).unwrap().fill(&mut key).unwrap();
    key
}

/// A small object from nothing but a cached data key, against the cryptography it
/// can't do without: two derivations (extract and expand), the header's tag, the
/// bytes, the metadata.
fn small(rounds: usize) {
    const TIMES: u32 = 200;
    let (context, data_keys) = parts();
    let key = data_key();
    let plaintext = [0xA5_u8; SMALL];
    let metadata = [b'x'; METADATA];
    let mut out = Vec::with_capacity(8 << 10);
    let mut object = |with_metadata: bool| {
        out.clear();
        let mut writer = FrameWriter::new(Sealer::new(draft(&context, &data_keys), &key).unwrap());
        if with_metadata {
            black_box(writer.sealer().seal_metadata(&metadata).unwrap());
        }
        out.extend_from_slice(writer.sealer().header().as_bytes());
        writer.grant(1);
        writer.write(&mut out, black_box(&plaintext)).unwrap();
        black_box(writer.finish(&mut out).unwrap());
    };
    let mut buffer = plaintext;
    let mut header = [0_u8; 400];
    let mut beside = metadata;
    let mut bare = || {
        let mut salt = [0; 32];
        salt[0] = black_box(1);
        let derived = derive(&salt, b"\x04\x78DERIVEKEY");
        black_box(derive(&salt, b"COMMITKEY"));
        let cipher = cipher(&derived);
        let _ = black_box(cipher.seal_in_place_separate_tag(nonce(0), Aad::from(&header), &mut []).unwrap());
        let _ = black_box(cipher.seal_in_place_separate_tag(nonce(1), Aad::from([0; 78]), &mut buffer).unwrap());
        let _ = black_box(cipher.seal_in_place_separate_tag(nonce(2), Aad::from([0; 64]), &mut beside).unwrap());
        header[0] = buffer[0];
    };
    for (name, with_metadata, goal) in [("4 KiB object", false, "<= 2.0 x"), ("4 KiB object and metadata", true, "")] {
        let (ours, bare, ratio) = pair(
            rounds,
            || timed(|| (0..TIMES).for_each(|_| object(with_metadata))),
            || timed(|| (0..TIMES).for_each(|_| bare())),
        );
        let each = |seconds: f64| format!("{:.2} us", seconds / f64::from(TIMES) * 1e6);
        println!("{name:<44} {:>11} {:>11}  {:>5.2} x  {goal}", each(ours), each(bare), 1.0 / ratio);
    }
}
