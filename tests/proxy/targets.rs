//! Targets that come, go, and get more and more: by a changed configuration, and by names
//! whose addresses change.

use std::{
    cell::Cell,
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    apps::{ask, said, serve, to},
    ending::Held,
    failing::{VERSIONS, await_calm, in_flight},
    nginx::Nginx,
    peer::Peer,
    support::{Sealward, Site, eventually, free_address, free_port, swapped::made},
};

/// A file below `/slow/` takes its time: a MiB a second, but for its beginning.
const SLOW: &str = "location /slow/ { alias data/; limit_rate 1m; limit_rate_after 256k; }";
/// The second of two bad checks comes half a second after the first.
const CHECKS: &str = "health = { path = \"/well\", interval = \"500ms\", unhealthy = 2, healthy = 2 }";

/// Has `server` take up `text`, a whole configuration.
pub(crate) fn reload(site: &Site, server: &Sealward, text: &str) {
    let taken = || server.metric("sealward_config_reloads_total{outcome=\"taken\"}");
    let before = taken();
    fs::write(site.path("sealward.toml"), text).expect("writes");
    server.signal("HUP");
    eventually("it is taken up", || taken() > before);
}

/// The names of the apps that answer so many requests in a row, over one connection.
pub(crate) fn names(site: &Site, server: &Sealward, path: &str, count: usize, args: &[&str]) -> Vec<String> {
    let answer = ask(site, server, &format!("{path}?[1-{count}]"), args);
    let names: Vec<String> =
        answer.text().lines().filter_map(|line| line.strip_prefix("name=")).map(str::to_owned).collect();
    assert_eq!((answer.exit, names.len()), (0, count), "each is answered: {answer:?}");
    names
}

/// How many of `names` are `name`.
pub(crate) fn count(names: &[String], name: &str) -> usize {
    names.iter().filter(|other| *other == name).count()
}

/// Whether active checks find `target` of the upstream `app` well; no number at all is 0 too.
fn well(server: &Sealward, target: &str) -> bool {
    server.metric(&format!("sealward_upstream_target_healthy{{target=\"{target}\",upstream=\"app\"}}")) == 1.0
}

/// As much text as takes some eight seconds to be fetched slowly.
fn long() -> String {
    "one of many lines\n".repeat((8 << 20) / 18)
}

/// What one server of ours finds when it looks up names: `nss_wrapper` reads them from our file.
struct Hosts {
    path: PathBuf,
    changes: Cell<u64>,
}

impl Hosts {
    /// A site whose server finds `lines` where others have the system's.
    fn site(lines: &str) -> (Site, Self) {
        let site = Site::new();
        let hosts = Self { path: site.path("hosts"), changes: Cell::new(0) };
        hosts.say(lines);
        let path = hosts.path.to_str().expect("is text").to_owned();
        (site.with("LD_PRELOAD", "libnss_wrapper.so").with("NSS_WRAPPER_HOSTS", &path), hosts)
    }

    /// Has these lines from now on.
    fn say(&self, lines: &str) {
        fs::write(&self.path, lines).expect("writes");
        // Whether it has changed is seen by the whole second.
        self.changes.set(self.changes.get() + 1);
        let then = SystemTime::now() + Duration::from_secs(10 * self.changes.get());
        let file = fs::File::options().append(true).open(&self.path).expect("opens");
        file.set_modified(then).expect("is set");
    }
}

/// Serves `more` where names are looked up in our own file.
fn serve_named(site: &Site, more: &str) -> Sealward {
    let server = serve(site, more);
    assert!(!server.log().contains("cannot be preloaded"), "libnss-wrapper isn't there: `make test` sees to it");
    server
}

/// Two apps on one port, one behind each of the loopback's addresses.
fn on_one_port(more: &str) -> [Nginx; 2] {
    let free = || {
        let port = free_port();
        let second = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
        second.map(|_| port).map_err(|error| format!("[::1]:{port}: {error}"))
    };
    // Somebody else may have that of the other; a machine without IPv6 has none.
    let found = (0..5).map(|_| free()).reduce(Result::or).expect("five");
    let port = found.expect("this needs the loopback address of IPv6, ::1");
    let at = |name: &str, address: SocketAddr| Nginx::start_at(name, address, more, "");
    [at("one", (Ipv4Addr::LOCALHOST, port).into()), at("two", (Ipv6Addr::LOCALHOST, port).into())]
}

#[test]
fn each_address_of_a_name_is_a_target_for_as_long_as_it_has_it() {
    let [one, two] = on_one_port(SLOW);
    let (site, hosts) = Hosts::site("127.0.0.1 app.test\n::1 app.test\n");
    let long = long();
    one.keep("long", long.as_bytes());
    let target = format!("http://app.test:{}", one.address.port());
    let server = serve_named(&site, &to(std::slice::from_ref(&target), "resolve = \"100ms\""));
    eventually("both are targets", || well(&server, &one.url()) && well(&server, &two.url()));
    eventually("the name itself is none", || !server.metrics().contains(&target));
    let both = names(&site, &server, "/", 20, &[]);
    assert_eq!((count(&both, "one"), count(&both, "two")), (10, 10));

    // The other has no such file.
    let mut starts = (0..4).map(|_| Held::start(&site, &server, "/slow/long", &[]));
    let under_way = starts.find_map(|mut held| (held.line() == "one of many lines").then_some(held));
    let under_way = under_way.expect("they take turns");
    hosts.say("::1 app.test\n");
    eventually("the other has gone", || count(&names(&site, &server, "/", 4, &[]), "two") == 4);
    assert!(!server.metrics().contains(&format!("target=\"{}\"", one.url())));
    let (exit, rest) = under_way.ended();
    assert_eq!((exit, rest.len()), (Some(0), long.len() - 18), "what was under way there came to its end");

    hosts.say("127.0.0.1 another.test\n");
    server.wait_for_line(|line| line.contains("can't look it up") && line.contains("app.test"));
    assert_eq!(count(&names(&site, &server, "/", 4, &[]), "two"), 4, "a resolver's bad moment changes nothing");
    hosts.say("127.0.0.1 app.test\n::1 app.test\n");
    eventually("both are back", || count(&names(&site, &server, "/", 4, &[]), "one") == 2);
}

#[test]
fn whatever_address_it_is_at_the_certificate_is_for_the_name() {
    let (site, _hosts) = Hosts::site("127.0.0.1 app.test\n");
    let (cert, key) = made(&site, "app.test");
    for (file, text) in [("app.pem", cert), ("app.key", key)] {
        fs::write(site.path(file), text).expect("writes");
    }
    let asked = format!(
        "ssl_certificate {}; ssl_certificate_key {}; location = /asked {{ return 200 \"name=$ssl_server_name\\n\"; }}",
        site.path("app.pem").display(),
        site.path("app.key").display()
    );
    let free = free_address();
    let app = Nginx::start_at("one", free, &asked, "ssl");
    let target = format!("https://app.test:{}", app.address.port());
    let server = serve_named(&site, &to(&[target], "resolve = \"100ms\"\ntls = { roots = \"tls/ca.pem\" }"));
    eventually("its address is the target", || well(&server, &format!("https://{}", app.address)));
    assert_eq!(names(&site, &server, "/asked", 1, &[]), ["app.test"]);
}

/// Of forty requests, those that come to the app `two`.
fn share(site: &Site, server: &Sealward) -> usize {
    count(&names(site, server, "/", 40, &[]), "two")
}

/// `second` comes to `first`: few requests come to it in the beginning, and its half in the end.
fn comes_slowly(site: &Site, server: &Sealward, first: String, second: String) {
    assert_eq!(share(site, server), 0);
    let since = Instant::now();
    reload(site, server, &Site::config("", &to(&[first, second], "slow_start = \"12s\"")));
    // Those that are there from the start have all of theirs at once.
    let early = share(site, server);
    assert!(early < 14, "{early} of 40 after {:?}", since.elapsed());
    eventually("it gets more", || share(site, server) > early);
    eventually("it has its whole share", || share(site, server) == 20);
    assert!(since.elapsed() > Duration::from_secs(3), "{:?}", since.elapsed());
}

#[test]
fn a_new_target_gets_its_share_little_by_little() {
    let (site, one, two) = (Site::new(), Nginx::start("one", ""), Nginx::start("two", ""));
    let server = serve(&site, &to(&[one.url()], "slow_start = \"12s\""));
    comes_slowly(&site, &server, one.url(), two.url());
}

#[test]
fn and_so_does_one_that_has_a_name() {
    let (one, two) = (Nginx::start("one", ""), Nginx::start("two", ""));
    let (site, _hosts) = Hosts::site("127.0.0.1 app.test\n");
    let server = serve_named(&site, &to(&[one.url()], "slow_start = \"12s\""));
    comes_slowly(&site, &server, one.url(), format!("http://app.test:{}", two.address.port()));
}

#[test]
fn those_of_the_start_have_their_whole_share_at_once() {
    let (site, one, two) = (Site::new(), Nginx::start("one", ""), Nginx::start("two", ""));
    let server = serve(&site, &to(&[one.url(), two.url()], "slow_start = \"1h\""));
    assert_eq!(share(&site, &server), 20);
    // Nor does another weight make anybody new.
    let targets = format!("targets = [{{ url = \"{}\" }}, {{ url = \"{}\", weight = 3 }}]", one.url(), two.url());
    let more = to(&[], "slow_start = \"1h\"").replace("targets = []", &targets);
    reload(&site, &server, &Site::config("", &more));
    assert_eq!(share(&site, &server), 30);
}

/// Answers that have begun to come from `path`, over each version.
fn begun(site: &Site, server: &Sealward, path: &str, args: &[&str]) -> [Held; 2] {
    let mut held = VERSIONS.map(|version| Held::start(site, server, path, &[&[version], args].concat()));
    for answer in &mut held {
        assert_eq!(answer.line(), "one of many lines");
    }
    held
}

/// From now on there is another app alone, and all that is new goes there.
fn replaced(site: &Site, server: &Sealward, old: &Nginx, new: &Nginx) {
    let asked = old.asked("GET /?");
    reload(site, server, &Site::config("", &to(&[new.url()], "")));
    assert_eq!(names(site, server, "/", 4, &[]), vec!["two"; 4]);
    assert_eq!(old.asked("GET /?"), asked);
    assert!(!server.metrics().contains(&format!("target=\"{}\"", old.url())), "it isn't told of any more");
}

#[test]
fn what_is_under_way_to_a_target_that_is_taken_away_finishes_in_its_time() {
    let (site, one, two) = (Site::new(), Nginx::start("one", SLOW), Nginx::start("two", ""));
    let long = long();
    one.keep("long", long.as_bytes());
    let server = serve(&site, &to(&[one.url()], "deregistration_delay = \"30s\""));
    let held = begun(&site, &server, "/slow/long", &[]);
    replaced(&site, &server, &one, &two);
    assert_eq!(in_flight(&server), 2.0, "they go on");
    for answer in held {
        let (exit, rest) = answer.ended();
        assert_eq!((exit, rest.len()), (Some(0), long.len() - 18));
    }
    await_calm(&server);
    assert!(!server.log().contains("\"outcome\":\"cut\""), "{}", server.log());
}

/// Answers of `len` bytes that have begun to come at `path` break off when their target is gone.
fn break_off(app: &str, len: usize, path: &str, args: &[&str]) {
    let (site, one, two) = (Site::new(), Nginx::start("one", app), Nginx::start("two", ""));
    let long = "one of many lines\n".repeat(len / 18);
    one.keep("long", long.as_bytes());
    let server = serve(&site, &to(&[one.url()], "deregistration_delay = \"300ms\""));
    let since = Instant::now();
    let held = begun(&site, &server, path, args);
    replaced(&site, &server, &one, &two);
    for answer in held {
        let (exit, rest) = answer.ended();
        assert!(exit != Some(0) && rest.len() < long.len() - 18, "{exit:?}: {} bytes", rest.len());
    }
    assert!(since.elapsed() >= Duration::from_millis(300), "{:?}", since.elapsed());
    await_calm(&server);
    let line = server.wait_for_line(|line| line.contains("\"outcome\":\"cut\""));
    assert!(line.contains("the app behind is gone"), "{line}");
    server.wait_for_line(|line| line.contains("requests to a target that is gone are cut"));
}

#[test]
fn when_its_time_is_over_it_is_cut() {
    break_off(SLOW, 32 << 20, "/slow/long", &[]);
}

/// Where nobody ever waits for the target, since it is faster than the client.
#[test]
fn so_it_is_where_there_is_always_more_to_send() {
    break_off("", 32 << 20, "/data/long", &["--limit-rate", "4M"]);
}

#[test]
fn a_websocket_to_a_target_that_is_taken_away_ends_with_its_time() {
    let (site, two) = (Site::new(), Nginx::start("two", ""));
    let mut echo = Peer::start("websocket.py", ["serve"]);
    let url = format!("http://127.0.0.1:{}", echo.line());
    let server = serve(&site, &to(&[url], "deregistration_delay = \"500ms\""));
    let chat = format!("wss://localhost:{}/chat", server.https.port());
    let ca = site.path("tls/ca.pem").to_string_lossy().into_owned();
    let mut talk = Peer::start("websocket.py", ["talk".to_owned(), chat, ca, "hold".to_owned()]);
    assert_eq!(talk.line(), "open");
    let since = Instant::now();
    reload(&site, &server, &Site::config("", &to(&[two.url()], "")));
    assert_eq!(said(&ask(&site, &server, "/", &[]), "name"), "two");
    // It waits for the connection's end, or for its own input's; that stays open.
    assert_eq!(talk.line(), "", "it has ended");
    let lasted = since.elapsed();
    assert!(lasted >= Duration::from_millis(500) && lasted < Duration::from_secs(20), "{lasted:?}");
    await_calm(&server);
}

/// An upstream of both, the second with that weight.
fn checked(one: &Nginx, two: &Nginx, weight: u32, health: &str) -> String {
    let targets =
        format!("targets = [{{ url = \"{}\" }}, {{ url = \"{}\", weight = {weight} }}]", one.url(), two.url());
    Site::config("", &to(&[], health).replace("targets = []", &targets))
}

/// An app that is well, and one that isn't, as the server has found out.
fn one_unwell(site: &Site) -> (Sealward, Nginx, Nginx) {
    let one = Nginx::start("one", "location = /well { return 200; }");
    let two = Nginx::start("two", "location = /well { return 503; }");
    let server = site.serve_text(&checked(&one, &two, 1, CHECKS));
    eventually("one is unwell", || !well(&server, &two.url()));
    assert!(well(&server, &one.url()));
    assert_eq!(share(site, &server), 0);
    (server, one, two)
}

#[test]
fn a_target_that_is_unwell_stays_so_over_a_reload() {
    let site = Site::new();
    let (server, one, two) = one_unwell(&site);
    reload(&site, &server, &checked(&one, &two, 3, CHECKS));
    // Two more checks would be needed to find that out again.
    assert_eq!(share(&site, &server), 0);
    assert!(well(&server, &one.url()) && !well(&server, &two.url()));
    // And it gets well by checks that a reload has changed.
    let changed = CHECKS.replace("unhealthy = 2", "codes = \"200-599\", unhealthy = 2");
    reload(&site, &server, &checked(&one, &two, 3, &changed));
    eventually("it is well again", || well(&server, &two.url()));
    assert_eq!(share(&site, &server), 30);
}

#[test]
fn where_there_are_no_checks_any_more_nobody_is_unwell() {
    let site = Site::new();
    let (server, one, two) = one_unwell(&site);
    reload(&site, &server, &checked(&one, &two, 1, ""));
    eventually("both get requests", || share(&site, &server) == 20);
}
