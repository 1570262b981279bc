//! A replica is cut off from the database, takes uploads into its spool, and is gone. Its clients go on at the
//! others, and what it had spooled is written down by the replica that is given its volume.

use std::net::SocketAddr;

use super::Page;
use crate::{
    fleet::{FRONT, Fleet, NAMES, alone},
    support::{Answer, eventually},
};

const TWO: usize = 1;
const WAITING: &str = "sealward_catalog_spool_records";

#[test]
fn clients_go_on_at_the_others_and_what_it_spooled_is_written_down_by_who_has_its_volume() {
    let name =
        "drills::replica_gone::clients_go_on_at_the_others_and_what_it_spooled_is_written_down_by_who_has_its_volume";
    alone(name, || {
        let page = Page::open("replica-gone");
        let mut fleet = Fleet::start("spool");
        assert_eq!(put(&fleet, "before", FRONT).status, 201);
        // It knows the token from here on.
        let place = fleet.replica(TWO).https;
        assert_eq!(get(&fleet, "before", place).text(), "before");

        Fleet::cut_off(TWO);
        assert_eq!(put(&fleet, "report", place).status, 201);
        assert!(fleet.replica(TWO).metric(WAITING) >= 1.0);
        let away = page.shows("the database of the catalog doesn't answer");
        eventually("it says so", || fleet.readiness(TWO).text().contains(away));
        eventually("haproxy sends it nobody new", || !fleet.is_up(TWO));
        let admin = fleet.replica(TWO).admin;
        fleet.kill(TWO);
        assert_eq!(fleet.site.curl_bare([format!("http://{admin}/metrics")]).exit, 7, "there is nothing to scrape");
        for number in 0..2 * NAMES.len() {
            let name = format!("after-{number}");
            assert_eq!(put(&fleet, &name, FRONT).status, 201);
            assert_eq!(get(&fleet, &name, FRONT).text(), name);
        }
        // What it has acknowledged is read at the others, and only the catalogue lacks it.
        assert_eq!(get(&fleet, "report", FRONT).text(), "report");
        let objects = "sealward objects --config sealward.toml --class records --name report";
        assert!(!page.does(&fleet.site, objects).contains("report"));

        Fleet::join_again(TWO);
        fleet.serve(TWO);
        let words = page.shows("what was spooled is in the catalogue");
        fleet.replica(TWO).wait_for_line(|line| line.contains(words));
        eventually("its spool is empty", || fleet.replica(TWO).metric(WAITING) < 1.0);
        let listed = page.does(&fleet.site, objects);
        assert!(listed.lines().any(|line| line.ends_with("report") && line.contains("tester")), "{listed}");
        for replica in 0..NAMES.len() {
            let place = fleet.replica(replica).https;
            for name in fleet.names() {
                assert_eq!(get(&fleet, &name, place).text(), name, "at {place}");
            }
        }
        page.finished();
    });
}

/// Stores an object that has its name for its content.
fn put(fleet: &Fleet, name: &str, place: SocketAddr) -> Answer {
    fleet.site.curl(["-X", "PUT", "-d", name, &format!("https://{place}/files/{name}")])
}

fn get(fleet: &Fleet, name: &str, place: SocketAddr) -> Answer {
    fleet.site.curl([format!("https://{place}/files/{name}")])
}
