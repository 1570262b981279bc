//! Access tokens in the catalogue: made and listed at the command line, known to every replica,
//! ended within seconds, and never there as they are.

use std::{
    cell::Cell,
    fs,
    process::Output,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    client::bearer,
    engines::{Engine, on_every},
    servers::on_each,
    site::{Lab, at},
    support::{eventually, secret_half},
};

/// How soon every replica must have heard of a revocation.
const HEARD: Duration = Duration::from_secs(5);
const OTHER: &str = "
[[class]]
name = \"other\"
directory = \"other\"
[[route]]
path = \"/other/\"
seal = { class = \"other\" }
";

#[test]
fn a_token_does_what_it_may_and_no_more() {
    on_every(|engine| {
        let mut lab = lab(&engine.catalog()).rest(OTHER);
        // Those of a file are nobody's here.
        let stranger = lab.site.token.clone();
        lab.site.token = made(&lab, &["owner"]);
        let reader = made(&lab, &["reader", "--class", "records", "--allow", "read"]);
        lab.start();
        lab.put("a", b"readable");
        let elsewhere = lab.server().url("a").replace("/files/", "/other/");
        let (object, list) = (lab.server().url("a"), lab.server().url("?list"));
        for (token, args, status) in [
            (&reader, &[object.as_str()][..], 200),
            (&reader, &["-X", "PUT", "-d", "x", &object], 403),
            (&reader, &["-X", "DELETE", &object], 403),
            (&reader, &[&list], 403),
            (&reader, &[&elsewhere], 403),
            (&lab.site.token, &[&elsewhere], 404),
            (&lab.site.token, &[&list], 200),
            (&stranger, &[&object], 401),
        ] {
            let bearer = bearer(token);
            let answer = lab.site.curl_bare(["-H", &bearer].iter().chain(args));
            assert_eq!(answer.status, status, "{args:?}: {answer:?}");
        }
        // Made while it runs, and known at once.
        let later = made(&lab, &["later", "--allow", "read,list"]);
        assert_eq!(status(&lab, &later, "a"), 200);
    });
}

#[test]
fn a_list_tells_names_ids_and_last_uses_and_no_secret() {
    on_every(|engine| {
        let mut lab = lab(&engine.catalog());
        let [used, unused] =
            ["used", "unused"].map(|name| made(&lab, &[name, "--class", "records", "--allow", "read"]));
        lab.start();
        let line = |name: &str| {
            let list = text(token(&lab, &["list"]));
            let line = list.lines().find(|line| line.split_whitespace().next() == Some(name));
            line.unwrap_or_else(|| panic!("{name} isn't listed: {list}")).to_owned()
        };
        let before = ["used", "unused"].map(line);
        for (line, token) in before.iter().zip([&used, &unused]) {
            let id = token.split('_').nth(1).expect("an id");
            assert!([id, "records", "read"].iter().all(|told| line.contains(told)), "{line}");
        }
        assert_eq!(status(&lab, &used, "none"), 404);
        // A time more stands there.
        let times = |line: &str| line.matches(&time::OffsetDateTime::now_utc().year().to_string()).count();
        eventually("its use is told", || times(&line("used")) > times(&before[0]));
        assert_eq!(line("unused"), before[1]);

        let everything = [engine.everything(), text(token(&lab, &["list"])), lab.server().log()].concat();
        for token in [&used, &unused] {
            let (id, secret) = (token.split('_').nth(1).expect("an id"), secret_half(token));
            let bytes = URL_SAFE_NO_PAD.decode(secret).expect("base64");
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            assert!(everything.contains(id), "what is searched is there");
            for kept in [secret, &hex(&bytes), &hex(secret.as_bytes())] {
                assert!(!everything.contains(kept), "the secret half is there: {kept}");
            }
            let Engine::File(path) = engine else { continue };
            for file in [path.to_path_buf(), path.with_extension("db-wal")] {
                let raw = fs::read(&file).expect("reads");
                let holds = |part: &[u8]| raw.windows(part.len()).any(|window| window == part);
                assert!(!holds(secret.as_bytes()) && !holds(&bytes), "{}", file.display());
            }
        }
    });
}

#[test]
fn a_revocation_reaches_every_replica_within_seconds() {
    on_every(|engine| {
        let mut labs = [lab(&engine.catalog()), lab(&engine.catalog())];
        fs::copy(labs[0].site.path("keyring.json"), labs[1].site.path("keyring.json")).expect("copies");
        let ended = made(&labs[0], &["ended"]);
        let stays = made(&labs[1], &["stays"]);
        for lab in &mut labs {
            lab.site.token.clone_from(&stays);
            lab.start();
        }
        labs[0].put("shared", b"by a link");
        // A link is good wherever the token is that it was signed for, and no longer.
        let share = labs[0].server().url("shared?share");
        let link = labs[0].site.curl_bare(["-X", "POST", "-H", &bearer(&ended), &share]).json();
        let link = link["url"].as_str().expect("a link").split_once("/files/").expect("of this class").1.to_owned();
        let asked: [&dyn Fn(&Lab) -> u16; 2] =
            [&|lab| status(lab, &ended, "none"), &|lab| lab.site.curl_bare([lab.server().url(&link)]).status];
        // Nothing of that name is in the second one's folder.
        let before = labs.each_ref().map(|lab| asked.map(|ask| ask(lab)));
        assert_eq!(before, [[404, 200], [404, 404]]);

        assert!(text(token(&labs[1], &["revoke", "ended"])).is_empty());
        let revoked = Instant::now();
        for (lab, before) in labs.iter().zip(before) {
            for (ask, before) in asked.iter().zip(before) {
                let last = Cell::new(Duration::ZERO);
                eventually("it is refused", || {
                    let since = revoked.elapsed();
                    let status = ask(lab);
                    if status != 401 {
                        assert_eq!(status, before);
                        last.set(since);
                    }
                    status == 401
                });
                assert!(last.get() <= HEARD, "still good after {:?}", last.get());
            }
            assert_eq!(status(lab, &stays, "none"), 404, "the others go on");
        }
        assert!(!text(token(&labs[0], &["list"])).contains("ended"));
    });
}

#[test]
fn a_token_ends_when_its_time_is_over() {
    on_every(|engine| {
        let lab = lab(&engine.catalog()).started();
        // The brief one last: a program that runs on takes of its time.
        let [long, brief] =
            [["long", "1h"], ["brief", "15s"]].map(|[name, time]| made(&lab, &[name, "--expires", time]));
        assert_eq!(status(&lab, &brief, "none"), 404);
        eventually("its time is over", || status(&lab, &brief, "none") == 401);
        assert_eq!(status(&lab, &long, "none"), 404);
    });
}

#[test]
fn what_cannot_be_is_said() {
    on_every(|engine| {
        let lab = lab(&engine.catalog());
        made(&lab, &["taken"]);
        for (args, code, wanted) in [
            (&["new", "taken"][..], 1, "`taken`"),
            (&["revoke", "nobody"], 1, "`nobody`"),
            (&["new", "x", "--class", "record"], 2, "`record`"),
        ] {
            let output = token(&lab, args);
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
            assert!(output.stdout.is_empty() && words.contains(wanted), "{args:?}: {words}");
        }
        // Who differs by a space or a letter's case is another, and stays.
        for name in ["Taken", "taken "] {
            made(&lab, &[name]);
        }
        text(token(&lab, &["revoke", "taken"]));
        let list = text(token(&lab, &["list"]));
        assert_eq!(list.to_lowercase().matches("taken").count(), 2, "{list}");
    });
}

#[test]
fn who_called_just_now_is_known_while_the_database_is_away() {
    on_each(|database| {
        database.create_user("app", "first");
        let lines = "wait = \"4s\"\non_unavailable = \"spool\"\nspool = \"spool\"\n";
        let mut lab = lab(&(at(database, "app", "first") + lines));
        lab.site.token = made(&lab, &["caller"]);
        let unseen = made(&lab, &["unseen"]);
        lab.start();
        lab.put("a", b"before");

        database.kill();
        // What is known is looked up again every few seconds, and that is what finds it away.
        eventually("it is found away", || {
            assert_eq!(lab.get("a").body, b"before");
            lab.server().log().contains("the catalogue's database is away")
        });
        assert_eq!(lab.get("a").status, 200);
        lab.put("b", b"meanwhile");
        // Who can't be looked up isn't told to be nobody, and nobody is let in without the secret half.
        assert_eq!(status(&lab, &unseen, "a"), 503);
        let mut wrong = lab.site.token.clone();
        let last = wrong.pop();
        wrong.push(if last == Some('A') { 'B' } else { 'A' });
        assert_eq!(status(&lab, &wrong, "a"), 401);
        let listed = token(&lab, &["list"]);
        assert_eq!(listed.status.code(), Some(1), "{}", String::from_utf8_lossy(&listed.stderr));

        database.restart();
        eventually("everybody is known again", || status(&lab, &unseen, "a") == 200);
    });
}

/// Tokens are in the catalogue that `catalog` describes. Nothing is started yet.
fn lab(catalog: &str) -> Lab {
    Lab::new(catalog).with("tokens = \"tokens.json\"", "tokens = { catalog = true }")
}

/// `sealward token ARGS`.
fn token(lab: &Lab, args: &[&str]) -> Output {
    lab.cli(["token"].iter().chain(args))
}

/// A fresh one, called and bounded as `args` have it.
fn made(lab: &Lab, args: &[&str]) -> String {
    let made = text(token(lab, &[&["new"], args].concat()));
    let made = made.trim();
    assert!(made.starts_with("swd_") && made.lines().count() == 1, "{made}");
    made.to_owned()
}

/// What a command has printed that went well.
fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("is text")
}

/// What whoever has `token` is told of the object `name`.
fn status(lab: &Lab, token: &str, name: &str) -> u16 {
    lab.site.curl_bare(["-H", &bearer(token), &lab.server().url(name)]).status
}
