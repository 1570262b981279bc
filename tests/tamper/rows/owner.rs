//! Whole messages under true keys that are another object's, another class's, or
//! sealed under keys that the class may not open.

use crate::{
    ask::{Ask, End, Http, ask, tampers},
    lab::{Forgery, LENGTH, Lab},
    object::Object,
    support::pattern,
    verdict::{Row, all, row},
};

/// A message forged for the row's own key, with one thing other than it should be.
fn forged(
    name: &str,
    class: &'static str,
    reasons: &'static [&'static str],
    change: impl for<'a> Fn(&mut Forgery<'a>, &'a str) + 'static,
) -> Row {
    row(name, reasons, move |lab, key, object| {
        let mut forgery = Forgery::honest(class, key);
        change(&mut forgery, key);
        *object = lab.forge(&forgery);
    })
    .class(class)
}

fn set<'a>(forgery: &mut Forgery<'a>, entry: &'a str, value: &'a str) {
    forgery.context.retain(|(name, _)| *name != entry);
    forgery.context.push((entry, value));
}

#[test]
fn what_an_honest_writer_forges_is_believed() {
    // Else the rows below would prove nothing.
    let lab = Lab::new();
    let honest = |class, key: &'static str, change: &dyn Fn(&mut Forgery<'static>)| {
        let mut forgery = Forgery::honest(class, key);
        change(&mut forgery);
        lab.forge(&forgery).lay(&lab.stem(class, key));
        assert_eq!(ask(&lab, class, key, Ask::Whole(Http::One), &pattern(LENGTH)), End::True, "{class}");
        assert_eq!(ask(&lab, class, key, Ask::Range(Http::Two, "9-"), &pattern(LENGTH)), End::True, "{class}");
    };
    honest("records", "a", &|_| {});
    honest("records", "b", &|forgery| forgery.frame = 1000);
    honest("strict", "c", &|forgery| set(forgery, "sealward-key", "c"));
    honest("plain", "d", &|forgery| {
        set(forgery, "sealward-meta", "plain");
        forgery.metadata = None;
    });
    for name in ["novel", "former"] {
        honest("novel", "e", &|forgery| {
            forgery.bound = ("novels", name, "e");
            set(forgery, "sealward-class", name);
            set(forgery, "sealward-vault", "novels");
        });
    }
    assert!(tampers(&lab.server).iter().all(|(_, count)| *count == 0));
}

#[test]
fn messages_of_other_objects_are_refused() {
    all(&[
        row("renamed, its sidecar too", &["message_id"], |lab, key, object| {
            *object = lab.other("records", &format!("other-{key}"));
        }),
        row("under the header of another", &["message_id"], |lab, key, object| {
            let other = lab.other("records", &format!("other-{key}"));
            object.message[..other.header].copy_from_slice(&other.message[..other.header]);
        }),
        row("under the id of another", &["message_id"], |lab, key, object| {
            let other = lab.other("records", &format!("other-{key}"));
            object.message[3..35].copy_from_slice(&other.message[3..35]);
        }),
        row("in another class's folder", &["context"], |lab, key, object| {
            *object = lab.stored("records", key, LENGTH);
        })
        .class("fine"),
        row("below another class's prefix", &["context"], |lab, key, object| {
            *object = lab.stored("shelf-b", key, LENGTH);
        })
        .class("shelf-a"),
        forged("bound to another key", "records", &["message_id"], |forgery, _| forgery.bound.2 = "another.bin"),
        forged("bound to another class", "records", &["message_id"], |forgery, _| forgery.bound.1 = "fine"),
        forged("bound to another vault", "records", &["message_id"], |forgery, _| forgery.bound.0 = "fine"),
        forged("bound to a former name, sealed under the present", "novel", &["message_id"], |forgery, key| {
            forgery.bound = ("novels", "former", key);
            set(forgery, "sealward-vault", "novels");
        }),
        forged("sealed under a former name, bound to the present", "novel", &["message_id"], |forgery, key| {
            forgery.bound = ("novels", "novel", key);
            set(forgery, "sealward-class", "former");
            set(forgery, "sealward-vault", "novels");
        }),
    ]);
}

#[test]
fn messages_of_another_context_are_refused() {
    const CONTEXT: &[&str] = &["context"];
    all(&[
        forged("of a class that isn't listed", "novel", CONTEXT, |forgery, key| {
            forgery.bound = ("novels", "unlisted", key);
            set(forgery, "sealward-class", "unlisted");
            set(forgery, "sealward-vault", "novels");
        }),
        forged("of another vault", "records", CONTEXT, |forgery, key| {
            forgery.bound = ("elsewhere", "records", key);
            set(forgery, "sealward-vault", "elsewhere");
        }),
        forged("with one entry more", "records", CONTEXT, |forgery, _| set(forgery, "department", "7")),
        forged("with one entry of ours more", "records", CONTEXT, |forgery, _| set(forgery, "sealward-x", "")),
        forged("with one entry less", "records", CONTEXT, |forgery, _| {
            forgery.context.retain(|(entry, _)| *entry != "sealward-meta");
        }),
        forged("without a class", "records", CONTEXT, |forgery, _| {
            forgery.context.retain(|(entry, _)| *entry != "sealward-class");
        }),
        forged("with an empty context", "records", CONTEXT, |forgery, _| forgery.context.clear()),
        forged("of plain metadata, among sealed", "records", CONTEXT, |forgery, _| {
            set(forgery, "sealward-meta", "plain");
        }),
        forged("of sealed metadata, among plain", "plain", CONTEXT, |forgery, _| {
            set(forgery, "sealward-meta", "sealed");
        }),
        forged("strict, among message ids", "records", CONTEXT, |forgery, key| set(forgery, "sealward-key", key)),
        forged("by message id, among strict", "strict", CONTEXT, |_, _| {}),
        forged("strict, of another key", "strict", CONTEXT, |forgery, _| set(forgery, "sealward-key", "another.bin")),
        forged("strict, bound to another key", "strict", &["message_id"], |forgery, key| {
            set(forgery, "sealward-key", key);
            forgery.bound.2 = "another.bin";
        }),
    ]);
}

/// Puts the wrapped data key of `from` into `object`'s header.
fn rewrap(object: &mut Object, from: &Object) {
    for field in ["info", "wrapped"] {
        let (to, from) = (object.field(field), from.message[from.field(field)].to_vec());
        object.message[to].copy_from_slice(&from);
    }
}

#[test]
fn messages_under_keys_that_the_class_may_not_open_are_refused() {
    all(&[
        forged("of the same keyring, not to be read", "records", &["data_key"], |forgery, _| {
            forgery.wrapped_by = "key-2";
        }),
        forged("a stranger's of the same name", "records", &["unwrap"], |forgery, _| forgery.ring = "stranger.json"),
        row("with another message's data key", &["commitment"], |lab, key, object| {
            *object = lab.forge(&Forgery::honest("records", key));
            rewrap(object, &lab.forge(&Forgery::honest("records", key)));
        }),
        row("with the data key of another context", &["unwrap"], |lab, key, object| {
            let mut other = Forgery::honest("records", key);
            set(&mut other, "sealward-vault", "others!");
            rewrap(object, &lab.forge(&other));
        }),
        row("with a stranger's data key of the same name", &["unwrap"], |lab, key, object| {
            let stranger = Forgery { ring: "stranger.json", ..Forgery::honest("records", key) };
            rewrap(object, &lab.forge(&stranger));
        }),
        row("with a second copy of its data key", &["header"], |_, _, object| {
            let range = object.field("provider-length").start..object.field("wrapped").end;
            let one = object.message[range.clone()].to_vec();
            object.message.splice(range.start..range.start, one);
            let count = object.field("data-key-count");
            object.message[count].copy_from_slice(&[0, 2]);
            object.set("sealward-header", object.header + range.len());
        }),
    ]);
}

/// Nothing in a message says which of two is the newer: who can write to the store
/// can bring an older version of an object back, and is believed, unless a catalogue
/// knows the newest and its class enforces it (`tests/catalog/fresh`).
#[test]
fn an_older_version_of_the_same_name_is_believed() {
    let lab = Lab::new();
    let old = lab.stored("records", "contract.pdf", LENGTH);
    let new: Vec<u8> = pattern(LENGTH).into_iter().rev().collect();
    lab.upload("records", "contract.pdf", &new);
    assert_eq!(ask(&lab, "records", "contract.pdf", Ask::Whole(Http::One), &new), End::True);
    old.lay(&lab.stem("records", "contract.pdf"));
    assert_eq!(ask(&lab, "records", "contract.pdf", Ask::Whole(Http::Two), &pattern(LENGTH)), End::True);
    assert_eq!(ask(&lab, "records", "contract.pdf", Ask::Range(Http::One, "7-77"), &pattern(LENGTH)), End::True);
    assert!(tampers(&lab.server).iter().all(|(_, count)| *count == 0));
}
