//! SIGKILL among many writers: every name is readable afterwards, and holds what was last
//! acknowledged, or what was sent since and nobody answered to.

use std::{
    array,
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{IN_A_FILE, assert_newest, enforced};
use crate::{
    servers::on_each,
    site::{Lab, at, meanwhile},
    support::{Answer, eventually, pattern},
};

const NAMES: usize = 6;
const ROUNDS: u64 = 5;

/// What a name holds once so many things were done to it, if anything: each is a PUT or a DELETE.
type State = fn(usize, u64) -> Option<Vec<u8>>;

#[test]
fn a_kill_among_uploads_leaves_every_name_readable() {
    killed_at_work(&mut enforced(IN_A_FILE).started(), |name, number| Some(body(name, number)));
}

#[test]
fn a_kill_among_uploads_leaves_every_name_readable_with_a_server() {
    on_each(|database| {
        database.create_user("app", "first");
        let mut lab = enforced(&at(database, "app", "first")).started();
        killed_at_work(&mut lab, |name, number| Some(body(name, number)));
    });
}

#[test]
fn a_kill_among_removals_leaves_every_name_there_or_gone() {
    let mut lab = enforced(IN_A_FILE).started();
    killed_at_work(&mut lab, |name, number| (number % 2 == 1).then(|| body(name, number)));
}

/// Another each time. Every other name's is too large for one write to the store.
fn body(name: usize, number: u64) -> Vec<u8> {
    let mut body = format!("{number} of {name}\n").into_bytes();
    if name % 2 == 1 {
        body.extend(pattern(1_500_000));
    }
    body
}

/// One writer for each name, and in each round an end of the server, each time a little later.
/// `lab` serves.
fn killed_at_work(lab: &mut Lab, state: State) {
    // What each was told last, whatever it has come to.
    let mut sent = vec![0; NAMES];
    for name in 0..NAMES {
        if let Some(body) = state(name, 0) {
            lab.put(&name.to_string(), &body);
        }
    }
    for round in 1..=ROUNDS {
        let counters = || -> [AtomicU64; NAMES] { array::from_fn(|_| AtomicU64::new(0)) };
        let (last, count) = (counters(), counters());
        let writer = |name: usize, going: &dyn Fn() -> bool| {
            let mut number = sent[name];
            while going() {
                number += 1;
                let answer = done(lab, name, number, state);
                match (answer.status, state(name, number).is_some()) {
                    (200 | 201, true) | (204 | 404, false) => {
                        last[name].store(number, Relaxed);
                        count[name].fetch_add(1, Relaxed);
                    }
                    // To be tried again, which the next one does.
                    (409 | 503, _) => {}
                    (0, _) => break,
                    _ => panic!("{name}, number {number}: {answer:?}"),
                }
            }
            number
        };
        sent = meanwhile(NAMES, writer, || {
            eventually("every name is written", || count.iter().all(|count| count.load(Relaxed) >= round));
            lab.server().signal("KILL");
        });
        lab.restart();
        for (name, (last, sent)) in last.iter().zip(&sent).enumerate() {
            readable(lab, name, last.load(Relaxed)..=*sent, state);
        }
    }
    // None of the kills has left anything that keeps the next upload from being the newest.
    for name in 0..NAMES {
        let body = format!("the last of {name}");
        lab.put(&name.to_string(), body.as_bytes());
        assert_eq!(lab.get(&name.to_string()).text(), body);
    }
    lab.kill();
    (0..NAMES).for_each(|name| assert_newest(lab, &name.to_string()));
}

/// Has `name` come to its state `number`, if it can be.
fn done(lab: &Lab, name: usize, number: u64, state: State) -> Answer {
    match state(name, number) {
        Some(body) => lab.try_put(&name.to_string(), &body),
        None => lab.remove(&name.to_string()),
    }
}

/// `name` is in one of these states, and stays in it.
fn readable(lab: &Lab, name: usize, mut numbers: RangeInclusive<u64>, state: State) {
    let found = lab.get(&name.to_string());
    let again = lab.get(&name.to_string());
    let held = match (found.status, found.exit) {
        (200, 0) => Some(found.body),
        (404, 0) => None,
        _ => panic!("{name} can't be read: {found:?}"),
    };
    let words = format!("{name}, of {numbers:?}");
    assert!(numbers.any(|number| state(name, number) == held), "{words}: it holds what it must not");
    let held_still = (again.status == 200).then_some(again.body);
    assert!(held_still == held, "{words}: it holds something else a moment later");
}
