//! One input through everything that reads a message. The fuzzer calls it, and so
//! does a test of the main crate, for every file of the corpus.

use sealward::{
    message::{Caps, Draft, FrameWriter, Header, Opener, Sealer, StreamOpener},
    secret::Key256,
};

/// The data key of the corpus's messages.
pub(crate) const KEY: [u8; 32] = [7; 32];

/// Small, so that allocations beyond them would show.
const CAPS: Caps = Caps { header: 8 << 10, data_keys: 4, frame_length: 64 << 10 };

/// Reads `input` as a message; panics where reading breaks a promise. Returns
/// whether it was opened to its end.
pub(crate) fn message(input: &[u8]) -> bool {
    let Ok(Some(header)) = Header::parse(input, &CAPS) else { return false };
    assert!(header.len() <= CAPS.header && header.len() <= input.len());
    assert!((1..=CAPS.data_keys).contains(&header.data_keys().len()));
    assert!((1..=CAPS.frame_length).contains(&header.frame_length()));
    assert_eq!(header.as_bytes(), &input[..header.len()]);
    for len in [0, 1, header.len() / 2, header.len() - 1] {
        assert!(matches!(Header::parse(&input[..len], &CAPS), Ok(None)), "a head that is cut only lacks bytes");
    }
    let body = &input[header.len()..];
    if let Ok(opener) = Opener::new(header.clone(), &key()) {
        return frames(opener, body);
    }
    // Chance never commits: give what parses a true commitment, to get to the frames.
    resealed(&header, body);
    false
}

fn key() -> Key256 {
    Key256::from_slice(&KEY).expect("32 bytes")
}

/// `body` as frames: as one piece, in small pieces, and by place. All agree.
fn frames(opener: Opener, body: &[u8]) -> bool {
    let (layout, header) = (opener.layout(), opener.header().clone());
    let whole = stream(opener, body, body.len().max(1));
    let again = Opener::new(header, &key()).expect("was believed before");
    let by_place = by_place(&again, layout.header_length(), body);
    let pieces = stream(again, body, 13);
    assert_eq!(whole, pieces, "the pieces don't matter");
    assert_eq!(whole.1.then_some(whole.0), by_place, "nor does the way of reading");
    whole.1
}

fn stream(opener: Opener, body: &[u8], piece: usize) -> (Vec<u8>, bool) {
    let mut stream = StreamOpener::new(opener);
    let mut out = Vec::new();
    let good = body.chunks(piece).all(|piece| stream.push(piece, &mut out).is_ok());
    assert!(out.len() <= body.len(), "plaintext is shorter than what sealed it");
    let end = stream.finish();
    assert!(good || end.is_err(), "damage is final");
    if let Ok(len) = end {
        assert_eq!(len, out.len() as u64);
    }
    (out, end.is_ok())
}

fn by_place(opener: &Opener, header: u64, body: &[u8]) -> Option<Vec<u8>> {
    let layout = opener.layout();
    let extent = layout.extent(header + body.len() as u64).ok()?;
    let mut out = Vec::new();
    for index in 0..=extent.regular {
        let start = usize::try_from(layout.frame_at(index) - header).expect("inside the body");
        let mut slot = body[start..].to_vec();
        let opened = if index == extent.regular {
            opener.open_final(index, &mut slot)
        } else {
            slot.truncate(usize::try_from(layout.stride()).expect("under the cap"));
            opener.open_regular(index, &mut slot)
        };
        out.extend_from_slice(&slot[opened.ok()?]);
    }
    assert_eq!(out.len() as u64, extent.plaintext_length());
    Some(out)
}

/// The same header under our key: `body` as its frames, and as a plaintext.
fn resealed(header: &Header, body: &[u8]) {
    let draft = Draft {
        id: *header.id(),
        context: header.context().clone(),
        data_keys: header.data_keys().to_vec(),
        frame_length: header.frame_length(),
    };
    let sealer = Sealer::new(draft, &key()).expect("what was read can be written");
    assert_eq!(sealer.header().len(), header.len());
    let sealed = sealer.header().clone();
    let believe = || Opener::new(sealed.clone(), &key()).expect("its own key");
    // True frames under a changed head verify here: the head is ours again now.
    frames(believe(), body);

    let mut writer = FrameWriter::new(sealer);
    writer.grant(u64::MAX);
    let mut message = Vec::new();
    for piece in body.chunks(977) {
        assert_eq!(writer.write(&mut message, piece), Ok(piece.len()));
    }
    writer.finish(&mut message).expect("seals");
    assert_eq!(stream(believe(), &message, 1009), (body.to_vec(), true), "what is sealed comes back");
}
