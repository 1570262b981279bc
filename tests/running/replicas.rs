//! Replicas that come and go under load: what was acknowledged is there, and no request fails but those that were
//! under way on the one that was killed.

use std::thread;

use crate::{
    fleet::{FRONT, Fleet, NAMES, alone, load::Load},
    servers::Database as _,
    site::meanwhile,
    support::{Answer, eventually, swapped::resumed},
};

/// Uploads that a replica is at.
const UNDER_WAY: &str = "sealward_uploads_in_flight";

/// Each is ended and started again, one is killed, and one is cut off from the database.
#[test]
fn only_what_was_under_way_on_a_killed_replica_fails_and_nothing_acknowledged_is_lost() {
    alone("replicas::only_what_was_under_way_on_a_killed_replica_fails_and_nothing_acknowledged_is_lost", || {
        let mut fleet = Fleet::start("spool");
        let load = Load::new(&fleet);
        let change = || {
            load.await_rounds();
            renew_each(&mut fleet, &load);
            let failed = kill_one(&mut fleet, &load);
            cut_one_off(&fleet, &load);
            assert_eq!(load.failed().len(), failed, "{:?}", load.failed());
        };
        meanwhile(Load::clients(), |client, going| load.go_on(client, going), change);

        // What was stored and not acknowledged may be recorded too; there is no more of it than failed.
        let (names, stored) = (fleet.names(), load.stored());
        assert!(stored.len() > 100, "{}", stored.len());
        let lost: Vec<_> = stored.iter().filter(|name| names.binary_search(name).is_err()).collect();
        assert!(lost.is_empty(), "the catalogue lacks {lost:?}");
        // With the one that was stored by hand.
        let most = stored.len() + 1 + load.failed().len();
        assert!(names.len() <= most, "{} of {most}", names.len());
        thread::scope(|scope| {
            for replica in 0..NAMES.len() {
                let (load, place) = (&load, fleet.replica(replica).https);
                scope.spawn(move || load.is_whole_at(place));
            }
        });
    });
}

/// One after the other, as it is done for a new release: an upload that is halfway at each comes to its end there.
fn renew_each(fleet: &mut Fleet, load: &Load) {
    for (replica, name) in NAMES.iter().enumerate() {
        let before = load.again().len();
        let held = load.hold(fleet, replica, &format!("held-{name}"));
        let port = held.connection.port;
        fleet.end(replica);
        assert!(fleet.replica(replica).metric(UNDER_WAY) > 0.0, "{name} doesn't wait for the upload");
        let answer = held.finish(load).unwrap_or_else(|broken| panic!("{name} cuts the upload: {broken:?}"));
        assert_eq!(answer.status, 201, "{name}: {}", String::from_utf8_lossy(&answer.body));
        fleet.await_end(replica);
        assert_eq!(fleet.served(port), *name);
        fleet.serve(replica);
        load.await_rounds();
        only_kept_ones_were_sent_again(fleet, load, before, replica);
    }
    assert!(load.failed().is_empty(), "{:?}", load.failed());
}

/// Since there were `before` of them. An ended server ends its connections, and who keeps one may find that out by a
/// request: once for each of those clients, and of no other server.
fn only_kept_ones_were_sent_again(fleet: &Fleet, load: &Load, before: usize, replica: usize) {
    let again = load.again().split_off(before);
    assert!(again.len() <= Load::keeping(), "{again:?}");
    for port in again {
        assert_eq!(fleet.served(port), NAMES[replica], "{port}");
    }
}

/// How many requests failed by it.
fn kill_one(fleet: &mut Fleet, load: &Load) -> usize {
    const TWO: usize = 1;
    let before = load.again().len();
    let held = load.hold(fleet, TWO, "held");
    eventually("it is under way", || fleet.replica(TWO).metric(UNDER_WAY) > 0.0);
    let port = held.connection.port;
    fleet.kill(TWO);
    load.await_rounds();
    assert!(held.finish(load).is_err(), "nobody was there to answer");
    assert_eq!(fleet.served(port), NAMES[TWO]);
    let failed = load.failed();
    for one in &failed {
        assert_eq!(fleet.served(one.port), NAMES[TWO], "{one:?}");
    }
    fleet.serve(TWO);
    load.await_rounds();
    assert_eq!(load.failed().len(), failed.len(), "{:?}", load.failed());
    only_kept_ones_were_sent_again(fleet, load, before, TWO);
    let mut reader = load.connect();
    let answer = reader.ask(&fleet.site.token, "GET", "held", b"").expect("an answer");
    assert_eq!(answer.status, 404, "an object is there whole or not at all");
    failed.len()
}

/// Its spool takes what is to be written down, and haproxy sends it nobody new.
fn cut_one_off(fleet: &Fleet, load: &Load) {
    const THREE: usize = 2;
    let metric = |series: &str| fleet.replica(THREE).metric(series);
    let before = load.again();
    // Those that keep their connection have it to the others, perhaps.
    let mut known = load.connect_to(fleet, THREE);
    assert_eq!(known.ask(&fleet.site.token, "GET", "held", b"").expect("an answer").status, 404);
    Fleet::cut_off(THREE);
    let answer = known.ask(&fleet.site.token, "PUT", "while-cut-off", b"spooled").expect("an answer");
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    assert!(metric("sealward_catalog_spool_records") >= 1.0);
    eventually("haproxy has noticed", || !fleet.is_up(THREE));
    let readiness = fleet.readiness(THREE);
    assert_eq!(readiness.status, 200, "{readiness:?}");
    assert!(readiness.text().contains("the database of the catalog doesn't answer"), "{readiness:?}");
    load.await_rounds();
    // It couldn't tell who that is.
    let newcomer = fleet.token("newcomer");
    for _ in 0..NAMES.len() {
        assert_eq!(load.connect().ask(&newcomer, "GET", "while-cut-off", b"").expect("an answer").status, 200);
    }

    Fleet::join_again(THREE);
    eventually("haproxy sends it clients again", || fleet.is_up(THREE));
    eventually("its spool is empty", || metric("sealward_catalog_spool_records") < 1.0);
    assert!(metric("sealward_catalog_records_total{outcome=\"replayed\"}") >= 1.0);
    assert!(fleet.names().contains(&"while-cut-off".to_owned()));
    load.await_rounds();
    assert_eq!(load.again(), before, "no connection was ended");
}

#[test]
fn a_session_that_was_begun_at_one_is_resumed_at_the_others() {
    alone("replicas::a_session_that_was_begun_at_one_is_resumed_at_the_others", || {
        let fleet = Fleet::start("spool");
        let session = fleet.site.path("session");
        assert!(!resumed(fleet.replica(0), &session), "begun");
        for (replica, name) in NAMES.iter().enumerate() {
            assert!(resumed(fleet.replica(replica), &session), "{name}");
        }
    });
}

/// Without a spool, whoever is cut off denies uploads: haproxy has to send them to others, and everybody to
/// somebody when there are no others.
#[test]
fn who_denies_uploads_is_passed_over_and_all_who_do_are_still_read_from() {
    alone("replicas::who_denies_uploads_is_passed_over_and_all_who_do_are_still_read_from", || {
        const THREE: usize = 2;
        let mut fleet = Fleet::start("deny");
        assert_eq!(put(&fleet, "before").status, 201);
        // Each knows the token from here on.
        for replica in 0..NAMES.len() {
            assert_eq!(fleet.site.get(fleet.replica(replica), "before").text(), SENT);
        }
        Fleet::cut_off(THREE);
        let refused = put_at(&fleet, &fleet.replica(THREE).url("refused"));
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_ne!(refused.header("retry-after"), "");
        eventually("haproxy has noticed", || !fleet.is_up(THREE));
        for number in 0..2 * NAMES.len() {
            let name = format!("after-{number}");
            assert_eq!((put(&fleet, &name).status, get(&fleet, &name).text()), (201, SENT.to_owned()));
        }
        Fleet::join_again(THREE);
        eventually("haproxy sends it clients again", || fleet.is_up(THREE));

        fleet.database.kill();
        eventually("all of them have noticed", || {
            put(&fleet, "refused");
            (0..NAMES.len()).all(|replica| !fleet.is_up(replica))
        });
        for _ in NAMES {
            assert_eq!(get(&fleet, "before").text(), SENT);
            assert_eq!(put(&fleet, "refused").status, 503);
        }
        fleet.database.restart();
        eventually("haproxy sends them clients again", || (0..NAMES.len()).all(|replica| fleet.is_up(replica)));
        assert_eq!(put(&fleet, "afterwards").status, 201);
        assert_eq!(get(&fleet, "afterwards").text(), SENT);
    });
}

/// What is stored by [`put`].
const SENT: &str = "a small object";

/// By way of haproxy.
fn put(fleet: &Fleet, name: &str) -> Answer {
    put_at(fleet, &format!("https://{FRONT}/files/{name}"))
}

fn put_at(fleet: &Fleet, url: &str) -> Answer {
    fleet.site.curl(["-X", "PUT", "-d", SENT, url])
}

fn get(fleet: &Fleet, name: &str) -> Answer {
    fleet.site.curl([format!("https://{FRONT}/files/{name}")])
}
