//! What is under way when the server is told to stop, or when what it goes to is taken away.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::{
    apps::{ask, said, serve, to},
    failing::{Faulty, Over, VERSIONS, await_calm, file, in_flight},
    nginx::Nginx,
    support::{Answer, Sealward, Site, eventually, pattern},
};

const MIB: usize = 1 << 20;

/// A curl that runs while its test goes on.
pub(crate) struct Held {
    child: Child,
    said: BufReader<ChildStdout>,
    input: Option<ChildStdin>,
}

impl Held {
    pub(crate) fn start(site: &Site, server: &Sealward, path: &str, args: &[&str]) -> Self {
        let mut child = Command::new("curl")
            .args(["--disable", "--silent", "--no-buffer", "--max-time", "60", "--cacert"])
            .arg(site.path("tls/ca.pem"))
            .args(args)
            .arg(format!("https://localhost:{}{path}", server.https.port()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("curl is there: `make test` sees to it");
        let said = BufReader::new(child.stdout.take().expect("is piped"));
        let input = child.stdin.take();
        Self { child, said, input }
    }

    /// The next line of the answer.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// What it uploads; dropped, that is the end of it.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.input.take().expect("is piped, and taken once")
    }

    /// Waits for its end: curl's exit code, and the rest of the answer.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("ends").code(), rest)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers and uploads that are half done, of both versions, until their app is let go on.
struct Halves {
    down: Vec<Held>,
    up: Vec<Held>,
}

impl Halves {
    fn of(app: &Faulty, site: &Site, server: &Sealward) -> Self {
        let upload = file(site, &pattern(20 * MIB));
        let mut down = VERSIONS.map(|version| Held::start(site, server, "/steps?n=2", &[version]));
        for half in &mut down {
            assert_eq!((half.line(), half.line()), ("data: 0".to_owned(), String::new()));
        }
        let up = VERSIONS.map(|version| Held::start(site, server, "/late", &[version, "-T", &upload]));
        eventually("the app has parts of both", || app.seen("PUT /late", "begun") == 2);
        Self { down: down.into(), up: up.into() }
    }

    /// Lets the app go on: each has to come to a clean end, and to be whole.
    fn finish(self, app: &Faulty) {
        for _ in 0..self.down.len() + self.up.len() {
            app.go();
        }
        for half in self.down {
            assert_eq!(half.ended(), (Some(0), "data: 1\n\n".to_owned()));
        }
        for half in self.up {
            let (exit, answer) = half.ended();
            assert!(exit == Some(0) && answer.starts_with("20971520 "), "{exit:?}: {answer}");
        }
        assert_eq!(app.seen("PUT /late", "whole"), 2);
    }
}

#[test]
fn what_is_under_way_to_an_app_finishes_after_the_word_to_stop() {
    let (site, slow, quick) = (Site::new(), Faulty::start(), Nginx::start("one", ""));
    let more = format!(
        "[[route]]\npath = \"/quick/\"\npublic = true\nforward = {{ upstream = \"quick\" }}\n\
         [[upstream]]\nname = \"quick\"\ntargets = [\"{}\"]\n",
        quick.url()
    );
    let mut server = serve(&site, &to(&[slow.url()], &more));
    let halves = Halves::of(&slow, &site, &server);
    assert_eq!(in_flight(&server), 4.0);

    // Request after request on one connection each, until there is none to be had.
    let until_the_end = |version: &'static str| {
        let args = [version, "--fail-early", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\\n"];
        ask(&site, &server, "/quick/[1-100000]", &args)
    };
    let ends: Vec<Answer> = std::thread::scope(|scope| {
        let asking = VERSIONS.map(|version| scope.spawn(move || until_the_end(version)));
        eventually("both ask", || quick.asked("HTTP/1.1") > 50);
        server.signal("TERM");
        asking.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    for end in ends {
        let text = end.text();
        let lines: Vec<&str> = text.lines().collect();
        let (last, before) = lines.split_last().expect("it asked");
        assert_eq!((end.exit, *last), (7, "000 0"), "in the end nobody listens: {end:?}");
        assert_eq!(before.first(), Some(&"200 1"), "{end:?}");
        assert!(before[1..].iter().all(|line| *line == "200 0"), "none failed before: {end:?}");
    }
    assert!(TcpStream::connect(server.https).is_err());
    halves.finish(&slow);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("\"outcome\":\"cut\""), "{}", server.log());
}

#[test]
fn who_comes_at_the_word_to_stop_is_served_or_finds_nobody_listening() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let mut server = serve(&site, &to(&[app.url()], ""));
    let over = AtomicBool::new(false);
    let ends: Vec<Option<Answer>> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|number| {
                let (site, server, over) = (&site, &server, &over);
                scope.spawn(move || {
                    while !over.load(Relaxed) {
                        let answer = ask(site, server, "/", &[VERSIONS[number % 2]]);
                        if (answer.status, answer.exit) != (200, 0) {
                            return Some(answer);
                        }
                    }
                    None
                })
            })
            .collect();
        let _over = Over(&over);
        eventually("all ask", || app.asked("GET / ") > 80);
        server.signal("TERM");
        asking.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    let mut shut_out = 0;
    for end in ends {
        let mut end = end.expect("it asked to the end");
        // TCP has let it in, and the door closes: a moment later nobody is there.
        if (end.exit, end.status) == (35, 0) {
            shut_out += 1;
            end = ask(&site, &server, "/", &[]);
        }
        assert_eq!((end.exit, end.status), (7, 0), "{end:?}");
    }
    assert!(shut_out <= 2, "what has come by then is taken: {shut_out} of 8 were not");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn an_upstream_that_a_reload_takes_away_finishes_what_it_has() {
    let (site, old, new) = (Site::new(), Faulty::start(), Nginx::start("new", ""));
    let server = serve(&site, &to(&[old.url()], ""));
    let halves = Halves::of(&old, &site, &server);
    let more = to(&[new.url()], "").replace("\"app\"", "\"other\"");
    fs::write(site.path("sealward.toml"), Site::config("", &more)).expect("writes");
    server.signal("HUP");
    let taken = "sealward_config_reloads_total{outcome=\"taken\"}";
    eventually("it is taken up", || server.metric(taken) == 1.0);
    assert_eq!(said(&ask(&site, &server, "/", &[]), "name"), "new");
    assert_eq!(in_flight(&server), 4.0);
    halves.finish(&old);
    await_calm(&server);
}
