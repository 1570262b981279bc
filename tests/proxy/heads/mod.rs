//! Requests that two readers could read in two ways, byte by byte.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use self::{
    lab::{App, Outcome, Seen},
    others::Haproxy,
    table::{Class, Comes, Row, rows},
};
use crate::{
    apps::to,
    support::{Sealward, Site},
};

mod lab;
mod others;
mod page;
mod table;

/// Serves before `app`, with `desync` in its listener.
fn serve(site: &Site, app: &App, desync: &str) -> Sealward {
    // So that nothing which waits for more makes the test wait long.
    let more = to(&[app.url()], "[limits]\nheader_timeout = \"5s\"\nbody_idle_timeout = \"5s\"");
    let text = Site::config("", &more);
    site.serve_text(&text.replacen("[[listener]]\n", &format!("[[listener]]\n{desync}\n"), 1))
}

/// Sends every row to a server with `desync` in its listener, and names those whose outcome
/// isn't `right`, or that were counted in another way than `counted` says.
#[track_caller]
fn tried(desync: &str, right: impl Fn(&Row, &Outcome) -> bool, counted: impl Fn(&Row) -> Option<&'static str>) {
    let (site, mut app) = (Site::new(), App::start());
    let server = serve(&site, &app, desync);
    let tls = lab::tls(&site);
    let mut wrong = Vec::new();
    let mut before = counts(&server);
    for row in rows() {
        let outcome = app.ask(server.https, Some(&tls), row);
        let after = counts(&server);
        let changed: Vec<&String> = after.keys().filter(|series| before.get(*series) != after.get(*series)).collect();
        let expected = counted(row).map(|outcome| series(row, outcome));
        if !right(row, &outcome) || changed != expected.iter().collect::<Vec<_>>() {
            wrong.push(format!(
                "{}: {:?} {} {}\n{outcome:#?}\n{changed:?}",
                row.name, row.class, row.reason, row.status
            ));
        }
        before = after;
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

fn series(row: &Row, outcome: &str) -> String {
    let class = format!("{:?}", row.class).to_lowercase();
    let reason = row.reason;
    format!("sealward_desync_requests_total{{class=\"{class}\",outcome=\"{outcome}\",reason=\"{reason}\"}}")
}

/// How often each finding was counted.
fn counts(server: &Sealward) -> BTreeMap<String, String> {
    let metrics = server.metrics();
    let ours = metrics.lines().filter(|line| line.starts_with("sealward_desync_requests_total"));
    ours.filter_map(|line| line.rsplit_once(' ')).map(|(series, count)| (series.to_owned(), count.to_owned())).collect()
}

/// It is refused as its row says, and no request came whole to the app.
fn refused(row: &Row, outcome: &Outcome) -> bool {
    let text = outcome.text.to_ascii_lowercase();
    let told = outcome.statuses == [row.status] && text.contains("application/problem+json");
    match row.comes {
        Comes::Nothing => told && text.contains("connection: close") && outcome.seen.is_empty(),
        Comes::Broken => {
            told && outcome.seen.len() <= 1 && outcome.seen.iter().all(|seen| seen.is("/row") && !seen.whole)
        }
        Comes::Whole => false,
    }
}

/// It came to the app as it should, and so did what stands behind it.
fn passed(row: &Row, outcome: &Outcome) -> bool {
    // What was sent as a body came as one.
    let smuggled = row.bytes().windows(9).any(|bytes| bytes == b"/smuggled");
    let body = outcome.seen.first().is_some_and(|seen| !smuggled || seen.body.contains("GET /smuggled "));
    body && outcome.statuses.iter().all(|status| *status == row.status)
        && outcome.statuses.len() == outcome.seen.len()
        && outcome.is_in_step()
}

/// Nobody behind can read it in two ways any more.
fn safe(outcome: &Outcome) -> bool {
    !outcome.asked("/smuggled") && outcome.seen.iter().all(Seen::is_framed_once)
}

/// Limits hold in every mode.
fn too_long(row: &Row) -> bool {
    matches!(row.status, 414 | 431)
}

#[test]
fn only_what_everybody_reads_alike_goes_on_and_nothing_of_the_rest() {
    let right = |row: &Row, outcome: &Outcome| {
        let fine = if row.class == Class::Compliant { passed(row, outcome) } else { refused(row, outcome) };
        fine && safe(outcome) && outcome.seen.iter().all(Seen::has_a_host)
    };
    // It is what happens where nothing is said.
    tried("", right, |row| (row.class != Class::Compliant).then_some("refused"));
}

#[test]
fn defensively_the_severe_is_refused_and_the_ambiguous_ends_its_connection() {
    let right = |row: &Row, outcome: &Outcome| {
        let fine = match row.class {
            Class::Severe => refused(row, outcome),
            Class::Ambiguous => {
                let [seen] = outcome.seen.as_slice() else { return false };
                outcome.statuses == [200] && seen.whole && !seen.is("/next") && !seen.is("/after")
            }
            Class::Acceptable => outcome.statuses == [200, 200] && outcome.is_in_step(),
            Class::Compliant => passed(row, outcome),
        };
        fine && safe(outcome) && outcome.seen.iter().all(Seen::has_a_host)
    };
    tried("desync = \"defensive\"", right, |row| match row.class {
        Class::Compliant => None,
        Class::Severe => Some("refused"),
        Class::Acceptable | Class::Ambiguous => Some("passed"),
    });
}

#[test]
fn merely_watched_nothing_is_smuggled_either_and_all_is_counted() {
    let right = |row: &Row, outcome: &Outcome| {
        let fine = match row.class {
            Class::Severe => !too_long(row) || refused(row, outcome),
            // The connection must end behind both (RFC 9112, section 6.1).
            Class::Ambiguous if row.reason == "both_lengths" => outcome.statuses == [200] && !outcome.asked("/after"),
            Class::Ambiguous | Class::Acceptable => {
                outcome.statuses.iter().all(|status| *status == 200) && outcome.is_in_step()
            }
            Class::Compliant => passed(row, outcome),
        };
        fine && safe(outcome)
    };
    tried("desync = \"monitor\"", right, |row| match row.class {
        Class::Compliant => None,
        _ if too_long(row) => Some("refused"),
        _ => Some("passed"),
    });
}

/// Sends every row to another server before `app`, and names those that it takes in another way.
fn differing(app: &mut App, server: SocketAddr, noted: impl Fn(&Row) -> table::Peer) -> Vec<String> {
    let mut differing = Vec::new();
    for row in rows() {
        // On a busy machine it may come in more pieces than it was sent in.
        let mut notes = (0..3).map(|_| app.ask(server, None, row).note(row));
        let Some(first) = notes.next() else { continue };
        if !noted(row).is(first) && !notes.any(|note| noted(row).is(note)) {
            differing.push(format!("{}: noted is {:?}, and it was {first:?}", row.name, noted(row)));
        }
    }
    differing
}

#[test]
fn what_is_noted_of_nginx_and_haproxy_is_what_they_do() {
    let mut app = App::start();
    let nginx = others::nginx(&app);
    let of_nginx = differing(&mut app, nginx.address, |row| row.nginx);
    drop(nginx);
    let haproxy = Haproxy::before(&app);
    let of_haproxy = differing(&mut app, haproxy.address, |row| row.haproxy);
    for (name, version, differing) in [("nginx", "nginx/1.22.", of_nginx), ("haproxy", "version 2.6.", of_haproxy)] {
        let text = differing.join("\n");
        if others::is(name, version) {
            assert!(text.is_empty(), "{name}:\n{text}");
        } else {
            #[allow(clippy::print_stderr)] // to whoever reads with --nocapture
            {
                eprintln!("another {name} than the one that is noted:\n{text}");
            }
        }
    }
}

#[test]
fn the_page_tells_every_row() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/requests.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (told, _) = page.split_once(page::MARK).expect("a mark behind which the rows stand");
    for row in rows().filter(|row| row.class != Class::Compliant) {
        let reason = format!("| `{}` | {} |", row.reason, row.status);
        assert!(told.contains(&reason), "the page has no reason {reason}");
    }
    let right = format!("{told}{}{}", page::MARK, page::tables());
    if std::env::var_os("SEALWARD_WRITE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&path, right).expect("writes");
    } else {
        assert!(page == right, "docs/requests.md is out of date: run this test with SEALWARD_WRITE_DOCS=1");
    }
}
