//! Damage so far in that a whole read had begun: it breaks off before it, with
//! true bytes alone, and never ends as if it were whole.

use crate::{
    lab::Lab,
    object::Object,
    verdict::{Row, Shows, all, row},
};

const FRAME: usize = 256 << 10;
/// Twenty frames of class `large` and a final one.
const LARGE: usize = 20 * FRAME + 100_000;
/// 1,100 frames of class `fine` and a final one.
const FINE: usize = 1100 * 4096 + 77;

fn large(name: &str, shows: Shows, damage: impl Fn(&mut Object) + 'static) -> Row {
    row(name, &["frame", "length"], move |_, _, object| damage(object)).class("large").length(LARGE).shows(shows)
}

fn fine(name: &str, shows: Shows, damage: impl Fn(&mut Object) + 'static) -> Row {
    large(name, shows, damage).class("fine").length(FINE)
}

/// As [`large`], of whole frames only.
fn even(name: &str, damage: impl Fn(&mut Object) + 'static) -> Row {
    large(name, Shows::FromTheLastChunk, damage).length(20 * FRAME)
}

fn flip(frame: usize) -> impl Fn(&mut Object) {
    move |object| object.flip(object.at(frame).start + 1000)
}

/// Cuts the message `more` bytes into frame `frame`.
fn cut(frame: usize, more: usize) -> impl Fn(&mut Object) {
    move |object| object.message.truncate(object.at(frame).start + more)
}

#[test]
fn a_damaged_frame_breaks_the_answer_before_it() {
    all(&[
        // Of the chunk before the head: the answer never begins.
        large("the first chunk's last frame", Shows::InAFrame, flip(2)),
        large("the second chunk's first frame", Shows::From(3 * FRAME), flip(3)),
        large("the tenth frame", Shows::From(9 * FRAME), flip(9)),
        large("the last regular frame", Shows::From(19 * FRAME), flip(19)),
        large("the last regular frame's tag", Shows::From(19 * FRAME), |object| object.flip(object.at(19).end - 1)),
        large("two swapped", Shows::From(9 * FRAME), |object| {
            let (one, two) = (object.frame(9), object.frame(10));
            let (to_one, to_two) = (object.at(9), object.at(10));
            object.message[to_one].copy_from_slice(&two);
            object.message[to_two].copy_from_slice(&one);
        }),
        large("one in another's place", Shows::From(12 * FRAME), |object| {
            let (frame, to) = (object.frame(4), object.at(12));
            object.message[to].copy_from_slice(&frame);
        }),
        fine("the frame 700", Shows::From(700 * 4096), flip(700)),
        fine("the last regular frame of many", Shows::From(1099 * 4096), flip(1099)),
    ]);
}

#[test]
fn a_whole_read_never_ends_without_the_final_frame() {
    let last = Shows::FromTheLastChunk;
    all(&[
        // The arithmetic passes and the length that is said is that of the regular
        // frames: were the last of them not held back, the answer would look whole.
        large("cut 40 bytes after its last regular frame", last, cut(20, 40)),
        fine("cut 40 bytes after the last of many", last, cut(1100, 40)),
        large("cut 40 bytes into frame 10", last, cut(10, 40)),
        large("cut 40 bytes after its first chunk", last, cut(6, 40)),
        fine("cut 40 bytes into frame 600", last, cut(600, 40)),
        large("cut after frame 10", last, cut(10, 0)),
        large("cut after its last regular frame", last, cut(20, 0)),
        large("cut inside frame 11", last, cut(11, 5000)),
        large("without its last byte", last, |object| object.message.truncate(object.sealed - 1)),
        large("longer by a byte", last, |object| object.message.push(0)),
        large("longer by a frame", last, |object| object.message.extend(object.frame(19))),
        large("longer by its own body", last, |object| object.message.extend_from_within(object.header..)),
        large("the final frame's ciphertext", last, |object| object.flip(object.at(20).start + 30)),
        large("the final frame's tag", last, |object| object.flip(object.sealed - 1)),
        even("an empty final frame's tag", |object| object.flip(object.sealed - 1)),
        even("an empty final frame left out", cut(20, 0)),
        even("an empty final frame of zeros", |object| {
            let at = object.at(20);
            object.message[at].fill(0);
        }),
        even("one of whole frames less, then its final frame", |object| {
            let range = object.at(19);
            object.message.drain(range);
        }),
        row("another's final frame", &["frame"], |lab: &Lab, key: &str, object: &mut Object| {
            let other = lab.stored("large", &format!("other-{key}"), LARGE);
            let start = object.at(20).start;
            object.message.splice(start.., other.frame(20));
        })
        .class("large")
        .length(LARGE)
        .shows(last),
    ]);
}
