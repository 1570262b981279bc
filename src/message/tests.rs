use super::*;
use crate::secret::Key256;

fn key() -> Key256 {
    Key256::from_slice(&[7; 32]).expect("32 bytes")
}

fn sealer(frame_length: u32) -> Sealer {
    let draft = Draft {
        id: MessageId::bound("vault", "class", "key").expect("random"),
        context: EncryptionContext::new([("sealward-class", "class")]).expect("valid"),
        data_keys: vec![EncryptedDataKey { provider: b"p".to_vec(), info: b"i".to_vec(), ciphertext: vec![1; 48] }],
        frame_length,
    };
    Sealer::new(draft, &key()).expect("a valid draft")
}

fn seal(plaintext: &[u8], frame_length: u32) -> Vec<u8> {
    let mut writer = FrameWriter::new(sealer(frame_length));
    let mut out = writer.sealer().header().as_bytes().to_vec();
    writer.grant(u64::MAX / 2);
    assert_eq!(writer.write(&mut out, plaintext), Ok(plaintext.len()));
    let sealed = writer.finish(&mut out).expect("seals");
    assert_eq!(sealed.sealed, out.len() as u64);
    out
}

fn open(message: &[u8], piece: usize) -> Result<Vec<u8>, Damage> {
    let header = Header::parse(message, &Caps::default())?.expect("a whole header");
    let len = header.len();
    let mut stream = StreamOpener::new(Opener::new(header, &key())?);
    let mut out = Vec::new();
    for bytes in message[len..].chunks(piece) {
        stream.push(bytes, &mut out)?;
    }
    assert_eq!(stream.finish()?, out.len() as u64);
    Ok(out)
}

#[test]
fn a_message_comes_back() {
    let plaintext: Vec<u8> = (0..1000_u32).map(|i| (i % 251) as u8).collect();
    for len in [0, 1, 15, 16, 17, 32, 999, 1000] {
        for frame in [1, 16, 17, 1000, 4096] {
            let sealed = seal(&plaintext[..len], frame);
            for piece in [1, 7, 4096] {
                assert_eq!(open(&sealed, piece).expect("opens"), &plaintext[..len]);
            }
        }
    }
}
