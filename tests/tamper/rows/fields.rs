//! The header: a bit flipped in each of its fields, sizes over what is allocated
//! for, and messages that official tools wrote in other ways.

use crate::{
    lab::vector,
    object::Object,
    verdict::{Row, all, row},
};

/// Flips the lowest bit of byte `at` of a field; counted from its end where negative.
fn flip(field: &'static str, at: isize, reasons: &'static [&'static str]) -> Row {
    row(format!("{field}, byte {at}"), reasons, move |_, _, object| {
        let range = object.field(field);
        let from = if at < 0 { range.end } else { range.start };
        object.flip(from.checked_add_signed(at).expect("inside"));
    })
}

#[test]
fn a_flipped_bit_in_any_field_of_the_header_is_found() {
    // A wrong length makes the rest be read as what it isn't.
    const ASTRAY: &[&str] = &["header", "metadata", "caps", "context"];
    all(&[
        flip("version", 0, &["foreign"]),
        flip("suite", 0, &["suite"]),
        flip("suite", 1, &["foreign"]),
        flip("nonce", 0, &["message_id"]),
        flip("nonce", -1, &["message_id"]),
        flip("binding", 0, &["message_id"]),
        flip("binding", -1, &["message_id"]),
        flip("context-length", -1, ASTRAY),
        flip("context-length", 0, ASTRAY),
        flip("context-count", -1, &["header"]),
        flip("context-key-length", -1, ASTRAY),
        flip("context-key", 0, &["context"]),
        flip("context-value-length", -1, ASTRAY),
        flip("context-value", 0, &["context"]),
        flip("context-rest", -1, &["context"]),
        flip("data-key-count", -1, &["header"]),
        flip("data-key-count", 0, &["caps"]),
        flip("provider-length", -1, ASTRAY),
        flip("provider", 0, &["data_key"]),
        flip("info-length", -1, ASTRAY),
        flip("info", 0, &["data_key"]),
        flip("info", -13, &["data_key"]),
        flip("info", -1, &["unwrap"]),
        flip("wrapped-length", -1, ASTRAY),
        flip("wrapped", 0, &["unwrap"]),
        flip("wrapped", -1, &["unwrap"]),
        flip("content-type", 0, &["header"]),
        flip("frame-length", 0, &["caps"]),
        flip("frame-length", -1, &["metadata"]),
        flip("commitment", 0, &["commitment"]),
        flip("commitment", -1, &["commitment"]),
        flip("header-tag", 0, &["header"]),
        flip("header-tag", -1, &["header"]),
        row("a frame length that the hints agree to", &["header"], |_, _, object| {
            let at = object.field("frame-length");
            object.message[at].copy_from_slice(&8192_u32.to_be_bytes());
            object.set("sealward-frame", 8192);
        }),
        row("a frame length of zero", &["header"], |_, _, object| {
            let at = object.field("frame-length");
            object.message[at].fill(0);
        }),
        row("without frames", &["suite"], |_, _, object| {
            let at = object.field("content-type");
            object.message[at].fill(1);
        }),
    ]);
}

/// Puts `bytes` where a field was, and has the hints agree.
fn put(object: &mut Object, field: &str, bytes: &[u8]) {
    let at = object.field(field);
    let header = object.header - at.len() + bytes.len();
    object.message.splice(at, bytes.iter().copied());
    object.set("sealward-header", header);
}

#[test]
fn sizes_over_what_is_allocated_for_are_refused() {
    all(&[
        row("17 data keys", &["caps"], |_, _, object| {
            let one = object.message[object.field("provider-length").start..object.field("wrapped").end].to_vec();
            put(object, "wrapped", &[&object.message[object.field("wrapped")], &one.repeat(16)].concat());
            put(object, "data-key-count", &[0, 17]);
        }),
        row("65,535 data keys", &["caps"], |_, _, object| put(object, "data-key-count", &[0xFF; 2])),
        row("a data key of 64 KiB", &["caps"], |_, _, object| {
            put(object, "wrapped", &vec![0; 0xFFFF]);
            put(object, "wrapped-length", &[0xFF; 2]);
            object.set("sealward-header", object.header + 0xFFFF - 48);
        }),
        row("a header over 64 KiB that the hints deny", &["metadata"], |_, _, object| {
            put(object, "wrapped", &vec![0; 0xFFFF]);
            put(object, "wrapped-length", &[0xFF; 2]);
            object.set("sealward-header", object.header);
        }),
        row("a context that fills its length", &["caps"], |_, _, object| {
            let rest = object.message[object.field("context-rest")].to_vec();
            let length = u16::from_be_bytes([object.message[35], object.message[36]]);
            let value = u16::MAX - length - 8;
            let entry = [&[0, 4][..], b"zzzz", &value.to_be_bytes(), &vec![b'z'; value.into()]].concat();
            put(object, "context-rest", &[rest, entry].concat());
            object.message[35..37].fill(0xFF);
            object.message[37..39].copy_from_slice(&[0, 4]);
        }),
        row("frames of 4 GiB", &["caps"], |_, _, object| put(object, "frame-length", &[0xFF; 4])),
        row("frames of one byte over 4 MiB", &["caps"], |_, _, object| {
            put(object, "frame-length", &((4_u32 << 20) + 1).to_be_bytes());
        }),
    ]);
}

/// What an official tool wrote in another way than ours.
fn written(file: &'static str, reasons: &'static [&'static str]) -> Row {
    row(file, reasons, move |_, _, object| {
        object.message = vector(file);
        object.set("sealward-header", object.message.len());
    })
}

#[test]
fn messages_of_other_suites_and_ways_are_refused() {
    all(&[
        written("suite-0578.bin", &["suite"]),
        written("version-1-suite-0178.bin", &["suite"]),
        written("version-1-suite-0378.bin", &["suite"]),
        written("not-framed.bin", &["suite"]),
        written("frame-length-over-cap.bin", &["caps"]),
        written("no-data-key.bin", &["header"]),
        written("context-unsorted.bin", &["header"]),
        written("context-reserved-key.bin", &["header"]),
        // Whole and good, but nobody's: the hints beside it are the object's own.
        written("second-key-only.bin", &["metadata"]),
    ]);
}
