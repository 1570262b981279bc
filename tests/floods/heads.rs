//! HTTP/1.1 that has no end: heads, and what is around a body's bytes.

use crate::{
    attackers::Toll,
    lab::{Lab, MEMORY},
};

/// Eight clients, for a second and what it takes to end what they have begun.
const SECONDS: &str = "1";

fn attack(lab: &Lab, kind: &str) -> Toll {
    lab.flooded(kind, || lab.attack("http1", &[kind, SECONDS]))
}

/// Every connection was ended, nearly all with one of these statuses: what is said to somebody
/// who only sends may be lost to them.
fn refused(toll: &Toll, statuses: &[&str]) {
    let ended = toll.ended_for(&[statuses, &["closed"]].concat());
    assert!(ended == toll.connections && toll.open == 0, "{toll:?}");
    let unsaid = toll.ended.get("closed").copied().unwrap_or(0);
    assert!(unsaid * 2 < ended, "{toll:?}");
}

#[test]
fn a_head_without_end_is_refused() {
    let lab = Lab::new("");
    let kinds = ["endless", "fields", "giant-field", "giant-name", "giant-target", "giant-method", "empty-lines"];
    for kind in kinds {
        refused(&attack(&lab, kind), &["400", "414", "431"]);
    }
    assert_eq!(lab.app.asked("\"GET / "), 0, "the others ask for something else");
    lab.calm(MEMORY);
}

#[test]
fn what_is_around_a_body_has_an_end() {
    let lab = Lab::new("body_idle_timeout = \"1s\"");
    for kind in ["extensions", "trailers", "chunk-size"] {
        refused(&attack(&lab, kind), &["400", "408", "431"]);
    }
    lab.calm(MEMORY);
}
