//! The drills of docs/drills: something breaks under a real server, whoever is on call sees what the page says,
//! does what the page says, and all that was acknowledged is there.
//!
//! A test is held to its page: words that it waits for have to be there, and each `sealward` command of the page is
//! run as it stands there.

mod alias_deleted;
mod certificate_expired;
mod database_lost;
pub(crate) mod key_disabled;
mod older_catalogue;
mod page;
mod replica_gone;
mod spool_full;

use std::{collections::BTreeSet, fs, path::Path};

use self::page::Page;
use crate::support::{Answer, Sealward, Site};

/// What `server` says of its readiness.
fn readiness(site: &Site, server: &Sealward) -> Answer {
    site.curl_bare([format!("http://{}/readyz", server.admin)])
}

/// A refusal that says when to come again: its words.
#[track_caller]
fn refused_for_now(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.exit), (503, 0), "{answer:?}");
    assert!(answer.header("retry-after").parse().is_ok_and(|seconds: u32| seconds > 0), "{answer:?}");
    detail(answer)
}

/// The words of a problem document.
#[track_caller]
fn detail(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    answer.json()["detail"].as_str().expect("words").to_owned()
}

#[test]
fn every_page_has_its_drill_and_is_in_the_index() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stems = |folder: &str, ending: &str| -> BTreeSet<String> {
        let files = fs::read_dir(root.join(folder)).expect("a folder").map(|file| file.expect("a file").path());
        let named = files.filter(|file| file.extension().is_some_and(|found| found == ending));
        named.map(|file| file.file_stem().expect("a name").to_string_lossy().replace('_', "-")).collect()
    };
    let mut pages = stems("docs/drills", "md");
    assert!(pages.remove("README"));
    let mut drills = stems("tests/running/drills", "rs");
    assert!(drills.remove("page"));
    assert_eq!(pages, drills);
    let index = Page::open("README");
    for page in pages {
        index.shows(&format!("({page}.md)"));
        let drill = page.replace('-', "_");
        Page::open(&page)
            .shows(&format!("make test CARGO_TEST_FLAGS=\"--test running\" TEST_ARGS=\"drills::{drill}\""));
    }
}
