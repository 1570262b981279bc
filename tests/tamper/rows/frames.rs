//! Frames in other places, of other objects, or with a bit flipped.

use crate::{
    lab::Lab,
    object::Object,
    verdict::{Row, Shows, all, row},
};

/// Puts `bytes` where `at` was.
fn put(object: &mut Object, index: usize, bytes: &[u8]) {
    let at = object.at(index);
    object.message.splice(at, bytes.iter().copied());
}

#[test]
fn frames_that_were_moved_are_refused() {
    all(&[
        row("two swapped", &["frame"], |_, _, object| {
            let (one, two) = (object.frame(0), object.frame(1));
            put(object, 0, &two);
            put(object, 1, &one);
        })
        .shows(Shows::InAFrame),
        row("one in another's place", &["frame"], |_, _, object| {
            let one = object.frame(0);
            put(object, 1, &one);
        })
        .shows(Shows::InAFrame),
        row("one renumbered for another's place", &["frame"], |_, _, object| {
            let mut one = object.frame(0);
            one[..16].copy_from_slice(&object.frame(1)[..16]);
            put(object, 1, &one);
        })
        .shows(Shows::InAFrame),
        row("one double", &["frame"], |_, _, object| {
            let one = object.frame(1);
            put(object, 1, &[&one[..], &one].concat());
        })
        .shows(Shows::AtTheEnd),
        row("one left out", &["frame"], |_, _, object| put(object, 1, &[])).shows(Shows::AtTheEnd),
        row("one left out, the rest renumbered", &["frame"], |_, _, object| {
            let (mut third, mut last) = (object.frame(2), object.frame(3));
            third[..16].copy_from_slice(&object.frame(1)[..16]);
            last[4..20].copy_from_slice(&object.frame(2)[..16]);
            put(object, 3, &last);
            put(object, 2, &third);
            put(object, 1, &[]);
        })
        .shows(Shows::AtTheEnd),
        row("the final frame first", &["frame", "length"], |_, _, object| {
            let last = object.frame(3);
            put(object, 3, &[]);
            put(object, 0, &[last, object.frame(0)].concat());
        })
        .shows(Shows::AtTheEnd),
        row("the final frame alone", &["frame"], |_, _, object| {
            let last = object.frame(3);
            object.message.truncate(object.header);
            object.message.extend(last);
        })
        .shows(Shows::AtTheEnd),
        row("a regular frame dressed as the final one", &["frame"], |_, _, object| {
            let regular = object.frame(1);
            let length = u32::try_from(object.frame).expect("capped");
            let dressed = [&[0xFF; 4], &regular[..16], &length.to_be_bytes(), &regular[16..]].concat();
            let start = object.at(1).start;
            object.message.splice(start.., dressed);
        })
        .shows(Shows::AtTheEnd),
    ]);
}

/// Takes frames of another object of the same class, sealed under the same data key.
fn splice(name: &str, shows: Shows, graft: impl Fn(&mut Object, &Object) + 'static) -> Row {
    row(name, &["frame"], move |lab: &Lab, key, object| {
        let other = lab.other("records", &format!("other-{key}"));
        let wrapped = |object: &Object| object.message[object.field("wrapped")].to_vec();
        assert_eq!(wrapped(object), wrapped(&other), "both are under one data key");
        // Names of two lengths could make headers of two; these are alike.
        assert_eq!(object.header, other.header);
        graft(object, &other);
    })
    .shows(shows)
}

#[test]
fn frames_of_another_object_are_refused() {
    all(&[
        splice("its first frame", Shows::InAFrame, |object, other| put(object, 0, &other.frame(0))),
        splice("its last regular frame", Shows::InAFrame, |object, other| put(object, 2, &other.frame(2))),
        splice("its final frame", Shows::AtTheEnd, |object, other| put(object, 3, &other.frame(3))),
        splice("its whole body", Shows::AtTheEnd, |object, other| {
            object.message.splice(object.header.., other.message[other.header..].iter().copied());
        }),
        splice("its end", Shows::AtTheEnd, |object, other| {
            let start = object.at(2).start;
            object.message.splice(start.., other.message[start..].iter().copied());
        }),
        row("the body of an older version of itself", &["frame"], |lab, key, object| {
            let newer = lab.other("records", key);
            let body = object.message[object.header..].to_vec();
            *object = newer;
            object.message.splice(object.header.., body);
        })
        .shows(Shows::AtTheEnd),
        row("a frame of an older version of itself", &["frame"], |lab, key, object| {
            let old = object.clone();
            *object = lab.stored("records", key, crate::lab::LENGTH);
            put(object, 1, &old.frame(1));
        })
        .shows(Shows::InAFrame),
    ]);
}

#[test]
fn a_flipped_bit_in_any_part_of_a_frame_is_found() {
    let mut rows = Vec::new();
    for frame in [0, 1, 2] {
        for (part, at) in [("number", 3), ("iv's zeros", 4), ("iv's number", 15), ("ciphertext", 500)] {
            let name = format!("frame {frame}'s {part}");
            let flip = move |_: &Lab, _: &str, object: &mut Object| object.flip(object.at(frame).start + at);
            rows.push(row(name, &["frame"], flip).shows(Shows::InAFrame));
        }
        let tag = move |_: &Lab, _: &str, object: &mut Object| object.flip(object.at(frame).end - 1);
        rows.push(row(format!("frame {frame}'s tag"), &["frame"], tag).shows(Shows::InAFrame));
    }
    let parts =
        [("mark", 0), ("number", 7), ("iv", 19), ("length", 23), ("length's high byte", 20), ("ciphertext", 24)];
    for (part, at) in parts {
        let flip = move |_: &Lab, _: &str, object: &mut Object| object.flip(object.at(3).start + at);
        rows.push(row(format!("the final frame's {part}"), &["frame"], flip).shows(Shows::AtTheEnd));
    }
    let tag = |_: &Lab, _: &str, object: &mut Object| object.flip(object.sealed - 1);
    rows.push(row("the final frame's tag", &["frame"], tag).shows(Shows::AtTheEnd));
    rows.push(row("an empty final frame's tag", &["frame"], tag).shows(Shows::AtTheEnd).length(2 * 4096));
    rows.push(row("an empty object's tag", &["frame"], tag).shows(Shows::AtTheEnd).length(0));
    all(&rows);
}
