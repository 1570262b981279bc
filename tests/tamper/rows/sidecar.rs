//! What stands beside the message: hints, and sealed metadata.

use crate::{
    lab::{Forgery, Lab},
    object::{Object, Sidecar, hex},
    verdict::{Row, all, row},
};

const METADATA: &[&str] = &["metadata"];

fn beside(name: &str, change: impl Fn(&mut Object) + 'static) -> Row {
    row(name, METADATA, move |_, _, object| change(object))
}

fn entry(name: &'static str, value: &'static str) -> Row {
    beside(&format!("{name}: {value}"), move |object| object.set(name, value))
}

fn without(name: &'static str) -> Row {
    beside(&format!("without {name}"), move |object| {
        object.entries.remove(name).expect("was there");
    })
}

fn text(name: &str, text: impl Fn(&Object) -> String + 'static) -> Row {
    beside(name, move |object| object.sidecar = Sidecar::Text(text(object).into_bytes()))
}

#[test]
fn hints_that_are_missing_or_disagree_are_refused() {
    all(&[
        without("sealward-format"),
        without("sealward-header"),
        without("sealward-frame"),
        entry("sealward-format", "2"),
        entry("sealward-format", ""),
        entry("sealward-header", "0"),
        entry("sealward-header", "65536"),
        entry("sealward-header", "18446744073709551616"),
        entry("sealward-header", "-1"),
        entry("sealward-frame", "0"),
        entry("sealward-frame", "8192"),
        entry("sealward-frame", "4097"),
        entry("sealward-frame", "four"),
        entry("sealward-x", ""),
        entry("sealward-checksum", "AAAA"),
        beside("a header longer by one", |object| object.set("sealward-header", object.header + 1)),
        beside("a header shorter by one", |object| object.set("sealward-header", object.header - 1)),
        beside("a header's length in other digits", |object| {
            object.set("sealward-header", format!("+{}", object.header));
        }),
    ]);
}

#[test]
fn sealed_metadata_that_is_not_the_messages_own_is_refused() {
    let of_another = |lab: &Lab, key: &str, object: &mut Object| {
        let other = lab.other("records", &format!("other-{key}"));
        object.set("sealward-metadata", &other.entries["sealward-metadata"]);
    };
    let of_an_older = |lab: &Lab, key: &str, object: &mut Object| {
        let older = object.entries["sealward-metadata"].clone();
        *object = lab.other("records", key);
        object.set("sealward-metadata", older);
    };
    let not_an_object = |lab: &Lab, key: &str, object: &mut Object| {
        *object = lab.forge(&Forgery { metadata: Some("[]"), ..Forgery::honest("records", key) });
    };
    let in_plain = |lab: &Lab, key: &str, object: &mut Object| {
        let sealed = lab.other("records", key);
        object.set("sealward-metadata", &sealed.entries["sealward-metadata"]);
    };
    all(&[
        row("of another object", METADATA, of_another),
        row("of an older version", METADATA, of_an_older),
        row("that is no object of JSON", METADATA, not_an_object),
        row("in a class of plain metadata", METADATA, in_plain).class("plain"),
        without("sealward-metadata"),
        entry("sealward-metadata", ""),
        entry("sealward-metadata", "AAAA"),
        entry("sealward-metadata", "not base64!"),
        entry("sealward-metadata", "{\"content-type\":\"text/html\"}"),
        beside("with a letter changed", |object| {
            let sealed = object.entries["sealward-metadata"].clone();
            let other = if sealed.as_bytes()[20] == b'A' { "B" } else { "A" };
            object.set("sealward-metadata", format!("{}{other}{}", &sealed[..20], &sealed[21..]));
        }),
        beside("cut short", |object| {
            let sealed = object.entries["sealward-metadata"].clone();
            object.set("sealward-metadata", &sealed[..sealed.len() - 4]);
        }),
        beside("with a space behind it", |object| {
            let sealed = object.entries["sealward-metadata"].clone() + " ";
            object.set("sealward-metadata", sealed);
        }),
    ]);
}

#[test]
fn a_sidecar_that_is_not_the_messages_own_is_refused() {
    all(&[
        beside("none", |object| object.sidecar = Sidecar::Missing),
        text("an empty one", |_| String::new()),
        text("no JSON", |_| "entries: {}".into()),
        text("an empty object", |_| "{}".into()),
        text("cut short", |object| {
            let text = String::from_utf8(object.sidecar_text()).expect("text");
            text[..text.len() - 2].to_owned()
        }),
        text("with a field more", |object| {
            let text = String::from_utf8(object.sidecar_text()).expect("text");
            text.replacen('{', "{\"version\":2,", 1)
        }),
        text("of a megabyte and more", |object| {
            let text = String::from_utf8(object.sidecar_text()).expect("text");
            text + &" ".repeat(1 << 20)
        }),
        text("that bears another id", |object| {
            let text = String::from_utf8(object.sidecar_text()).expect("text");
            text.replace(&hex(&object.message[3..35]), &"ab".repeat(32))
        }),
        text("that bears half the id", |object| {
            let text = String::from_utf8(object.sidecar_text()).expect("text");
            text.replace(&hex(&object.message[3..35]), &hex(&object.message[3..19]))
        }),
    ]);
}
