//! Many writers of few names at once: each name is readable all the while, and what stays is the
//! newest.

use std::{fmt::Write as _, fs, path::PathBuf, thread};

use super::{ENFORCED, IN_A_FILE, assert_newest, enforced, later, quiet};
use crate::{
    servers::on_each,
    site::{Lab, at, meanwhile},
    standin::{ministack, under_keyring},
    support::{Sealward, Site, pattern},
};

const NAMES: usize = 10;
/// How often an upload is tried: by then many have been told to come again each time.
const TRIES: usize = 3;
/// As many processes of curl, which makes 300 transfers at once at most.
const CURLS: usize = 4;

/// Uploads of [`NAMES`] names, on their way at the same time.
struct Storm<'a> {
    site: &'a Site,
    servers: &'a [&'a Sealward],
    uploads: Vec<Upload>,
}

struct Upload {
    name: String,
    body: Vec<u8>,
    /// Where curl finds it.
    file: PathBuf,
}

/// What an upload was told.
struct Told {
    upload: usize,
    /// In which of its tries.
    round: usize,
    status: u16,
    retry_after: String,
    etag: String,
}

/// By two replicas, over one bucket that judges conditions and one database.
#[test]
fn a_thousand_uploads_of_ten_names_leave_the_newest_of_each() {
    on_each(|database| {
        database.create_user("app", "first");
        let aws = ministack();
        let bucket = aws.bucket(&format!("fresh-race-{}", database.engine()));
        let config = under_keyring(&bucket, ENFORCED);
        // Hundreds shake hands at the same time, on few processors.
        let lab = quiet(Lab::of(aws.site(), &config, &at(database, "app", "first")));
        let lab = lab.rest("[limits]\nhandshake_timeout = \"60s\"").started();
        let other = lab.site.serve_text(&fs::read_to_string(lab.file()).expect("reads"));
        let uploads = if database.engine() == "postgres" { 1000 } else { 400 };
        // Larger ones would be stored in parts, which the bucket's stand-in can't complete.
        stormed(&lab, &[lab.server(), &other], uploads, 0);
        drop(other);
        (0..NAMES).for_each(|name| assert_newest(&lab, &name_of(name)));
    });
}

/// By one process, as a folder wants it; every other body is too large for one write.
#[test]
fn hundreds_of_uploads_into_a_folder_leave_the_newest_of_each_name() {
    let mut lab = enforced(IN_A_FILE).started();
    stormed(&lab, &[lab.server()], 400, 1_200_000);
    lab.kill();
    (0..NAMES).for_each(|name| assert_newest(&lab, &name_of(name)));
}

#[test]
fn one_of_many_creators_wins() {
    let lab = enforced(IN_A_FILE).started();
    let storm = Storm::new(&lab.site, &[], 200, 0);
    for name in 0..NAMES {
        let creators: Vec<usize> = (0..storm.uploads.len()).filter(|number| number % NAMES == name).collect();
        let told = storm.at_once(lab.server(), 0, &creators, &["-H", "If-None-Match: *"]);
        let (made, refused): (Vec<_>, Vec<_>) = told.iter().partition(|told| told.status == 201);
        let [winner] = made[..] else { panic!("{} have made {name}", made.len()) };
        assert!(refused.iter().all(|told| matches!(told.status, 409 | 412)), "{name}");
        assert_eq!(lab.get(&name_of(name)).body, storm.uploads[winner.upload].body);
    }
}

/// Also a removal takes the place of what it found there, or comes too late.
#[test]
fn uploads_and_removals_at_once_leave_no_name_unreadable() {
    let mut lab = enforced(IN_A_FILE).started();
    let client = |client: usize| {
        for number in 0..60 {
            let name = name_of(number % 2);
            let answer = match client {
                0..4 => lab.try_put(&name, format!("{number} of {client}").as_bytes()),
                4..6 => lab.remove(&name),
                _ => lab.get(&name),
            };
            let told = matches!(answer.status, 200 | 201 | 204 | 404 | 409 | 503);
            assert!(told && answer.exit == 0, "client {client}: {answer:?}");
        }
    };
    thread::scope(|scope| (0..7).for_each(|number| drop(scope.spawn(move || client(number)))));
    let status = [0, 1].map(|name| lab.get(&name_of(name)).status);
    assert!(status.iter().all(|status| matches!(status, 200 | 404)), "{status:?}");
    lab.kill();
    for name in [0, 1] {
        if status[name] == 200 {
            assert_newest(&lab, &name_of(name));
        }
    }
    lab.start();
    for name in [0, 1] {
        lab.put(&name_of(name), b"the last");
        assert_eq!(lab.get(&name_of(name)).text(), "the last");
    }
}

/// Uploads so many by `servers`, which are replicas, and looks at what has come of it.
fn stormed(lab: &Lab, servers: &[&Sealward], uploads: usize, large: usize) {
    let storm = Storm::new(&lab.site, servers, uploads, large);
    let mut taken = Vec::new();
    let reader = |client: usize, going: &dyn Fn() -> bool| storm.read(servers[client % servers.len()], going);
    meanwhile(2, reader, || taken = storm.rage());
    for name in 0..NAMES {
        let of_name: Vec<_> = taken.iter().filter(|told| told.upload % NAMES == name).collect();
        let found: Vec<_> = servers.iter().map(|server| lab.site.get(server, &name_of(name))).collect();
        assert!(found.iter().all(|found| (found.status, found.exit) == (200, 0)), "{name}: {found:?}");
        let etag = found[0].header("etag").trim_matches('"').to_owned();
        let newest = of_name.iter().find(|told| told.etag == etag);
        let newest = newest.unwrap_or_else(|| panic!("{name}: nobody was told that {etag} is stored"));
        let body = &storm.uploads[newest.upload].body;
        assert!(found.iter().all(|found| found.body == *body), "{name}: the replicas differ");
        // Whoever was told so in an earlier round was so before this one was sent.
        assert_eq!(Some(newest.round), of_name.iter().map(|told| told.round).max(), "{name}: an older one has won");

        let known = lab.objects(&["--class", "records", "--name", &name_of(name)]);
        assert_eq!(known.len(), 1, "{known:?}");
        assert_eq!((&known[0]["etag"], &known[0]["state"]), (&etag.into(), &"stored".into()), "{known:?}");
        assert_eq!(known[0]["size"], body.len(), "{known:?}");
    }
    for server in servers {
        assert!(server.metric("sealward_tamper_total{reason=\"rolled_back\"}") < 1.0, "{}", server.metrics());
    }
}

impl<'a> Storm<'a> {
    /// Bodies are `large` for names of an odd number.
    fn new(site: &'a Site, servers: &'a [&'a Sealward], uploads: usize, large: usize) -> Self {
        let upload = |number: usize| {
            let mut body = format!("{number}\n").into_bytes();
            if number % 2 == 1 {
                body.extend(pattern(large));
            }
            let file = site.path(&format!("stormy-{number}"));
            fs::write(&file, &body).expect("writes");
            Upload { name: name_of(number % NAMES), body, file }
        };
        Self { site, servers, uploads: (0..uploads).map(upload).collect() }
    }

    /// Has them all sent at once, and those that are told to come again once more: what those
    /// were told that were taken.
    fn rage(&self) -> Vec<Told> {
        let mut taken = Vec::new();
        let mut due: Vec<usize> = (0..self.uploads.len()).collect();
        for round in 0..TRIES {
            let told: Vec<Told> = thread::scope(|scope| {
                let sending = |part: usize| {
                    // So that each server has uploads of every name.
                    let mine = due.iter().copied().filter(|upload| upload / NAMES % CURLS == part);
                    let mine: Vec<usize> = mine.collect();
                    let server = self.servers[part % self.servers.len()];
                    scope.spawn(move || self.at_once(server, round, &mine, &[]))
                };
                let curls: Vec<_> = (0..CURLS).map(sending).collect();
                curls.into_iter().flat_map(|curl| curl.join().expect("curl is told everything")).collect()
            });
            due.clear();
            for told in told {
                match told.status {
                    200 | 201 => taken.push(told),
                    409 => due.push(told.upload),
                    503 => {
                        later(&told.retry_after);
                        due.push(told.upload);
                    }
                    other => panic!("{} is told {other}", self.uploads[told.upload].name),
                }
            }
        }
        taken
    }

    /// Has one curl send these `uploads`, all at once, with `more` arguments.
    fn at_once(&self, server: &Sealward, round: usize, uploads: &[usize], more: &[&str]) -> Vec<Told> {
        if uploads.is_empty() {
            return Vec::new();
        }
        let mut list = String::new();
        for upload in uploads {
            let Upload { name, file, .. } = &self.uploads[*upload];
            let (file, url) = (file.display(), server.url(name));
            let _ = write!(list, "upload-file = \"{file}\"\nurl = \"{url}\"\noutput = \"/dev/null\"\n");
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), list).expect("writes");
        let (config, most) = (file.path().to_string_lossy(), uploads.len().to_string());
        let form = "%{urlnum}\t%{http_code}\t%header{retry-after}\t%header{etag}\n";
        let all = ["--parallel", "--parallel-immediate", "--parallel-max", &most, "-w", form, "--config", &config];
        let answer = self.site.curl([&all[..], more].concat());
        let text = answer.text();
        let told: Vec<Told> = text.lines().map(|line| told(line, uploads, round)).collect();
        assert_eq!((told.len(), answer.exit), (uploads.len(), 0), "{text}\n{}", answer.words);
        told
    }

    /// Reads one name after the other, over and over: once there, each always holds one of the
    /// bodies that were sent.
    fn read(&self, server: &Sealward, going: &dyn Fn() -> bool) {
        let mut there = [false; NAMES];
        for name in (0..NAMES).cycle() {
            if !going() {
                return;
            }
            let found = self.site.get(server, &name_of(name));
            match (found.status, found.exit) {
                (200, 0) => {
                    let number = found.body.split(|byte| *byte == b'\n').next().unwrap_or_default();
                    let number: usize = String::from_utf8_lossy(number).parse().expect("a number");
                    let sent = &self.uploads[number];
                    assert!(sent.name == name_of(name) && sent.body == found.body, "{name}: another's body");
                    there[name] = true;
                }
                (404, 0) => assert!(!there[name], "{name} is gone"),
                (503, 0) => later(found.header("retry-after")),
                _ => panic!("{name} can't be read: {found:?}"),
            }
        }
    }
}

/// What curl says of one upload.
fn told(line: &str, uploads: &[usize], round: usize) -> Told {
    let fields: Vec<&str> = line.split('\t').collect();
    let [at, status, retry_after, etag] = fields[..] else { panic!("curl says `{line}`") };
    let upload = uploads[at.parse::<usize>().expect("a number")];
    let (retry_after, etag) = (retry_after.to_owned(), etag.trim_matches('"').to_owned());
    Told { upload, round, status: status.parse().expect("a status"), retry_after, etag }
}

fn name_of(name: usize) -> String {
    format!("name-{name}")
}
