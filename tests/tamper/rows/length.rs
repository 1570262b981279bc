//! Not ours, cut short, or longer than it was.

use crate::{
    object::{Form, Object},
    verdict::{Row, Shows, all, row},
};

#[test]
fn what_was_never_a_message_is_refused() {
    let becomes =
        |name: &str, bytes: Vec<u8>| row(name, &["foreign"], move |_, _, object| object.message = bytes.clone());
    let noise = (0..20_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    all(&[
        becomes("a text file", b"Dear Sir or Madam, this file was never sealed by anybody at all.\n".repeat(9)),
        becomes("an empty file", Vec::new()),
        becomes("a single byte", vec![2]),
        becomes("noise", noise),
        becomes("zeros", vec![0; 20_000]),
        becomes("base64 of a message", b"AgR4".repeat(500)),
        row("34 bytes of a message", &["foreign"], |_, _, object| object.message.truncate(34)),
        row("35 bytes of a message", &["length"], |_, _, object| object.message.truncate(35)),
        row("a folder", &["foreign"], |_, _, object| object.form = Form::Folder),
        row("a link to itself, elsewhere", &["foreign"], |_, _, object| object.form = Form::Link),
    ]);
}

/// Cuts the message to where `end` says.
fn cut(name: &str, reasons: &'static [&'static str], end: impl Fn(&Object) -> usize + 'static) -> Row {
    row(name, reasons, move |_, _, object| {
        let end = end(object);
        object.message.truncate(end);
    })
}

#[test]
fn what_was_cut_is_refused() {
    let at_the_end = |row: Row| row.shows(Shows::AtTheEnd);
    let mut rows = vec![
        cut("inside the header", &["length"], |object| object.header / 2),
        cut("before the header's last byte", &["length"], |object| object.header - 1),
        cut("after the header", &["length"], |object| object.header),
        cut("one short of a final frame", &["length"], |object| object.header + 39),
        cut("where no message ends", &["length"], |object| object.at(1).start + 20),
        cut("inside the final frame's head", &["length"], |object| object.at(3).start + 10),
        at_the_end(cut("inside the first frame", &["frame"], |object| object.at(0).start + 100)),
        at_the_end(cut("before the final frame's tag", &["frame"], |object| object.sealed - 16)),
        at_the_end(cut("before the last byte", &["frame"], |object| object.sealed - 1)),
    ];
    for frame in 1..=3 {
        let boundary = move |object: &Object| object.at(frame).start;
        rows.push(at_the_end(cut(&format!("after frame {frame}"), &["frame"], boundary)));
    }
    for frame in 0..=3 {
        // The arithmetic passes: only the final frame tells.
        let arithmetic = move |object: &Object| object.at(frame).start + 40;
        rows.push(at_the_end(cut(&format!("40 bytes into frame {frame}"), &["frame"], arithmetic)));
    }
    // Of whole frames only: the final one, which was empty, is gone or cut.
    for (name, left) in
        [("without its empty final frame", 0), ("with half its empty final frame", 20), ("one byte short", 39)]
    {
        let cut = cut(name, &["frame", "length"], move |object| object.at(3).start + left).length(3 * 4096);
        rows.push(if left == 0 { at_the_end(cut) } else { cut });
    }
    // A single frame, which is the final one.
    for (name, by) in [("a small object's last byte", 1), ("a small object's tag", 16)] {
        rows.push(at_the_end(cut(name, &["frame"], move |object| object.sealed - by).length(500)));
    }
    all(&rows);
}

/// Adds to the message.
fn longer(name: &str, reasons: &'static [&'static str], more: impl Fn(&Object) -> Vec<u8> + 'static) -> Row {
    row(name, reasons, move |_, _, object| {
        let more = more(object);
        object.message.extend(more);
    })
    .shows(Shows::AtTheEnd)
}

#[test]
fn what_was_made_longer_is_refused() {
    all(&[
        longer("by a byte", &["frame"], |_| vec![0]),
        longer("by 32 bytes", &["frame"], |_| vec![0; 32]),
        longer("by a frame of zeros", &["frame"], |object| vec![0; object.at(0).len()]),
        longer("by its own last regular frame", &["frame"], |object| object.frame(2)),
        longer("by its own final frame", &["frame"], |object| object.frame(3)),
        longer("by itself", &["frame"], |object| object.message.clone()),
        longer("by its own body", &["frame"], |object| object.message[object.header..].to_vec()),
        // The final frame is at most a frame's length: no message has this one.
        longer("to no message's length", &["length"], |_| vec![0; 4096 - 1000 + 1]).shows(Shows::AtOnce),
        longer("by a byte, with an empty final frame", &["frame"], |_| vec![7]).length(3 * 4096),
        longer("by 4096 bytes, with an empty final frame", &["frame"], |_| vec![7; 4096]).length(3 * 4096),
    ]);
}
