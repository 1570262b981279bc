//! A configuration that changes under load.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    apps::{ask, said, serve, to},
    failing::Over,
    nginx::Nginx,
    support::{Sealward, Site, eventually},
};

/// Writes another configuration where `server` read its own.
fn rewrite(site: &Site, more: &str) {
    let path: PathBuf = site.path("sealward.toml");
    assert!(path.exists(), "the file that is served");
    fs::write(path, Site::config("", more)).expect("writes");
}

fn reloads(server: &Sealward, outcome: &str) -> f64 {
    server.metric(&format!("sealward_config_reloads_total{{outcome=\"{outcome}\"}}"))
}

#[test]
fn a_changed_file_is_taken_up_and_no_request_fails() {
    let (site, first, second) = (Site::new(), Nginx::start("one", ""), Nginx::start("two", ""));
    let server = serve(&site, &to(&[first.url()], ""));
    let (over, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let answer = ask(&site, &server, "/", &[]);
                    if (answer.status, answer.exit) != (200, 0) {
                        failed.lock().expect("not poisoned").push(answer);
                    }
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        let _over = Over(&over);
        for round in 1..=3 {
            let targets = if round % 2 == 0 { [first.url()] } else { [second.url()] };
            rewrite(&site, &to(&targets, ""));
            let before = asked.load(Relaxed);
            server.signal("HUP");
            eventually("it is taken up", || reloads(&server, "taken") >= f64::from(round));
            eventually("requests go on", || asked.load(Relaxed) > before + 30);
        }
    });
    let failed = failed.into_inner().expect("not poisoned");
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), asked.load(Relaxed), failed.first());
    assert_eq!(said(&ask(&site, &server, "/", &[]), "name"), "two");
    assert_eq!(site.put(&server, "kept", b"a file").status, 201, "and what is sealed is as ever");
}

#[test]
fn a_broken_file_changes_nothing_and_what_needs_a_restart_is_said() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let server = serve(&site, &to(&[app.url()], ""));
    let path = site.path("sealward.toml");
    for (broken, words) in [
        ("not toml at all [".to_owned(), "not TOML"),
        (Site::config("", &to(&[app.url()], "choice = \"best\"")), "`choice` cannot be `best`"),
        (
            Site::config("", "[[route]]\npath = \"/x/\"\nforward = { upstream = \"none\" }\n"),
            "there is no upstream `none`",
        ),
        (Site::config("", &to(&[app.url()], "tls = { roots = \"none.pem\" }")), "none.pem"),
    ] {
        let before = reloads(&server, "refused");
        fs::write(&path, &broken).expect("writes");
        server.signal("HUP");
        eventually("it is refused", || reloads(&server, "refused") > before);
        eventually(words, || server.log().contains(words));
        assert_eq!(said(&ask(&site, &server, "/", &[]), "name"), "one");
    }
    // A class is read at start alone; the route beside it is taken.
    let more = to(&[app.url()], "[limits]\nuploads = 7\n")
        + "[[route]]\npath = \"/new\"\npublic = true\nrespond = { body = \"new\" }\n";
    rewrite(&site, &more);
    server.signal("HUP");
    eventually("it is taken up", || reloads(&server, "taken") == 1.0);
    let line = server.wait_for_line(|line| line.contains("restart to take them"));
    assert!(line.contains("[limits]") && !line.contains("[[class]]"), "{line}");
    assert_eq!(ask(&site, &server, "/new", &[]).text(), "new");
    fs::remove_file(&path).expect("is there");
    let before = reloads(&server, "refused");
    server.signal("HUP");
    eventually("it is refused", || reloads(&server, "refused") > before);
    assert_eq!(ask(&site, &server, "/new", &[]).text(), "new");
}

#[test]
fn authorities_of_apps_that_change_in_their_file_are_taken_up() {
    let (site, stranger) = (Site::new(), Site::new());
    let app = Nginx::with_tls("secret", &site.path("tls"));
    let url = format!("https://localhost:{}", app.address.port());
    let roots = site.path("roots.pem");
    fs::copy(site.path("tls/ca.pem"), &roots).expect("copies");
    let server = serve(&site, &to(&[url], "tls = { roots = \"roots.pem\" }"));
    assert_eq!(said(&ask(&site, &server, "/", &[]), "name"), "secret");
    fs::copy(stranger.path("tls/ca.pem"), &roots).expect("copies");
    server.signal("HUP");
    eventually("it is taken up", || reloads(&server, "taken") == 1.0);
    assert_eq!(ask(&site, &server, "/", &[]).status, 502, "nobody vouches for it any more");
    fs::copy(site.path("tls/ca.pem"), &roots).expect("copies");
    server.signal("HUP");
    eventually("it is taken up", || reloads(&server, "taken") == 2.0);
    eventually("it is believed again", || ask(&site, &server, "/", &[]).status == 200);
}
