//! What every chapter here needs: a sealer, a reader, a plaintext.

use std::ops::Range;

use sealward::{
    message::{
        Caps, Damage, Draft, EncryptedDataKey, EncryptionContext, FrameWriter, Header, MessageId, Opener, Sealer,
        StreamOpener,
    },
    secret::Key256,
};

/// The data key of nearly every message here.
pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) fn key(bytes: [u8; 32]) -> Key256 {
    Key256::from_slice(&bytes).expect("32 bytes")
}

/// Text whose every position is told from its neighbours.
pub(crate) fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 31 + 7) % 251).expect("below 251")).collect()
}

pub(crate) fn data_key(name: &str) -> EncryptedDataKey {
    EncryptedDataKey { provider: b"local".to_vec(), info: name.as_bytes().to_vec(), ciphertext: vec![1; 48] }
}

pub(crate) fn context() -> EncryptionContext {
    EncryptionContext::new([("sealward-class", "records"), ("sealward-vault", "archive")]).expect("valid")
}

pub(crate) fn draft(frame_length: u32) -> Draft {
    Draft {
        id: MessageId::bound("archive", "records", "a/key").expect("random"),
        context: context(),
        data_keys: vec![data_key("first")],
        frame_length,
    }
}

/// The whole message of `draft`, in one buffer.
pub(crate) fn seal_draft(draft: Draft, plaintext: &[u8]) -> Vec<u8> {
    let mut writer = FrameWriter::new(Sealer::new(draft, &key(KEY)).expect("a valid draft"));
    let mut out = writer.sealer().header().as_bytes().to_vec();
    writer.grant(u64::MAX);
    assert_eq!(writer.write(&mut out, plaintext), Ok(plaintext.len()));
    let sealed = writer.finish(&mut out).expect("seals");
    assert_eq!((sealed.plaintext, sealed.sealed), (plaintext.len() as u64, out.len() as u64));
    out
}

pub(crate) fn seal(plaintext: &[u8], frame_length: u32) -> Vec<u8> {
    seal_draft(draft(frame_length), plaintext)
}

pub(crate) fn header(message: &[u8]) -> Header {
    Header::parse(message, &Caps::default()).expect("a header").expect("a whole header")
}

pub(crate) fn opener(message: &[u8]) -> Opener {
    Opener::new(header(message), &key(KEY)).expect("a header to believe")
}

/// How reading a whole message ended.
#[derive(Debug)]
pub(crate) enum End {
    Whole,
    /// The head isn't all there.
    NoHeader,
    Damaged(Damage),
}

/// Reads `message` as a stream of pieces; what came out, and how it ended.
pub(crate) fn read_pieces<'a>(
    message: &[u8],
    data_key: &Key256,
    pieces: impl FnOnce(&[u8]) -> Vec<Range<usize>> + 'a,
) -> (Vec<u8>, End) {
    let mut out = Vec::new();
    let header = match Header::parse(message, &Caps::default()) {
        Ok(Some(header)) => header,
        Ok(None) => return (out, End::NoHeader),
        Err(damage) => return (out, End::Damaged(damage)),
    };
    let body = &message[header.len()..];
    let mut stream = match Opener::new(header, data_key) {
        Ok(opener) => StreamOpener::new(opener),
        Err(damage) => return (out, End::Damaged(damage)),
    };
    for piece in pieces(body) {
        if let Err(damage) = stream.push(&body[piece], &mut out) {
            // Damage is final, whatever is tried after it.
            let before = out.len();
            assert!(stream.push(&[0], &mut out).is_err());
            assert_eq!(out.len(), before);
            assert!(stream.finish().is_err());
            return (out, End::Damaged(damage));
        }
    }
    match stream.finish() {
        Ok(len) => {
            assert_eq!(len, out.len() as u64);
            (out, End::Whole)
        }
        Err(damage) => (out, End::Damaged(damage)),
    }
}

/// Reads `message` in one piece.
pub(crate) fn read(message: &[u8]) -> (Vec<u8>, End) {
    read_with(message, &key(KEY))
}

#[allow(clippy::single_range_in_vec_init)] // one piece: the whole body
pub(crate) fn read_with(message: &[u8], data_key: &Key256) -> (Vec<u8>, End) {
    read_pieces(message, data_key, |body| vec![0..body.len()])
}

/// The plaintext of a message that must be whole.
#[track_caller]
pub(crate) fn read_whole(message: &[u8]) -> Vec<u8> {
    match read(message) {
        (plaintext, End::Whole) => plaintext,
        (_, end) => panic!("refused: {end:?}"),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}
