//! How the database is reached: over TLS that is verified in full, with the credentials of a
//! secret as RDS writes it, or as a file. What can't be, or is half said, keeps Sealward from starting.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use sealward::tls::dev;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    secrets::SecretsManager,
    servers::{By, DATABASE, Database, on_each},
    site::{Lab, at, by_secret, rds, secret},
    support::{SOON, Site, eventually, files_below},
};

/// What a shell, an address or a statement would take for its own; and what nobody is told.
const AWKWARD: &str = r#"it's "\ %41:@/?# $1"#;
const HIDDEN: &str = "hunter2isforthedatabasealone";

#[test]
fn a_database_is_believed_by_its_certificate_alone() {
    let stranger = stranger();
    on_each(|database| {
        database.create_user("app", HIDDEN);
        let own = at(database, "app", HIDDEN);
        let lab = Lab::new(&own).started();
        lab.put("a", b"over TLS");
        assert_eq!(lab.names(), ["a"]);

        // A way there by an address that the certificate doesn't have, and by one that it has.
        let place = format!("@localhost:{}/", database.port());
        let by_way = |address: &str| {
            let port = way_to(database.port(), address);
            (port, Lab::new(&own).with(&place, &format!("@{address}:{port}/")))
        };
        by_way("127.0.0.1").1.started().put("b", b"by that way");
        let (port, misled) = by_way("127.0.0.2");
        let roots = roots_of(database.ca());
        for (what, port, lab) in [
            ("another's authority", database.port(), Lab::new(&own).with(&roots, &roots_of(&stranger.1))),
            ("no authority", database.port(), Lab::new(&own).with(&roots, "")),
            ("another's name", port, misled),
        ] {
            let (code, words) = refused(&lab);
            assert_eq!(code, Some(1), "{what}: {words}");
            for wanted in ["catalog", "certificate", &format!(":{port}")] {
                assert!(words.contains(wanted), "{what}: nothing of {wanted}: {words}");
            }
            // What is asked at the command line goes the same way.
            for (command, code) in [(&["objects"][..], 1), (&["check", "--online"], 2)] {
                let output = lab.cli(command);
                let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                assert_eq!(output.status.code(), Some(code), "{what}: {words}");
                assert!(words.contains("certificate") && !words.contains(HIDDEN), "{what}: {words}");
            }
        }
    });
}

#[test]
fn the_systems_authorities_count_where_no_others_are_named() {
    on_each(|database| {
        database.create_user("app", HIDDEN);
        let (own, roots) = (at(database, "app", HIDDEN), roots_of(database.ca()));
        // What a system that knows the database's authority has.
        let site = || Site::new().with("SSL_CERT_FILE", database.ca().to_str().expect("is text"));
        Lab::on(site(), &own).with(&roots, "").started().put("a", b"over TLS");
    });
}

#[test]
fn only_who_says_plaintext_speaks_it() {
    on_each(|database| {
        for user in ["plain", "app"] {
            database.create_user(user, HIDDEN);
        }
        let roots = roots_of(database.ca());
        let plain = || Lab::new(&at(database, "plain", HIDDEN)).with(&roots, "tls = \"plaintext\"\nwait = \"4s\"");
        let (code, words) = refused(&plain());
        assert!(code == Some(1) && words.contains("catalog"), "the server takes none: {words}");

        take_plaintext(database);
        plain().started().put("a", b"in plaintext");
        // Who doesn't say it comes over TLS, although the server would take less.
        database.sql(match database.engine() {
            "mariadb" => "ALTER USER app REQUIRE SSL",
            // The tables are those of the first.
            _ => "GRANT plain TO app",
        });
        let lab = Lab::new(&at(database, "app", HIDDEN)).started();
        lab.put("b", b"over TLS");
        if database.engine() == "postgres" {
            let ways = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'app'";
            assert_eq!(database.sql(ways), "t");
        }
    });
}

/// Somebody between us and a server of `PostgreSQL`, who has TLS begin by asking for it.
#[test]
fn whoever_says_that_there_is_no_tls_learns_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let between = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("comes");
        client.set_read_timeout(Some(SOON)).expect("a deadline");
        let (mut asked, mut told) = ([0; 8], Vec::new());
        client.read_exact(&mut asked).expect("asks");
        client.write_all(b"N").expect("says no");
        // An end of any kind will do.
        let _ = client.read_to_end(&mut told);
        (asked, told)
    });
    let (code, words) = refused(&Lab::new(&format!("url = \"postgres://app:{HIDDEN}@127.0.0.1:{port}/{DATABASE}\"")));
    assert!(code == Some(1) && words.contains("TLS"), "{words}");
    // SSLRequest, as the protocol numbers it.
    assert_eq!(between.join().expect("ends"), ([0, 0, 0, 8, 4, 210, 22, 47], Vec::new()));
}

#[test]
fn a_secret_of_rds_is_enough_by_itself() {
    let secrets = SecretsManager::start();
    on_each(|database| {
        database.create_user("app", AWKWARD);
        let names = match database.engine() {
            "postgres" => ["postgres", "aurora-postgresql"],
            _ => ["mariadb", "aurora-mysql"],
        };
        for engine in names {
            let mut whole = rds(database, "app", AWKWARD);
            whole["engine"] = json!(engine);
            whole["masterarn"] = json!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:master-AbCdEf");
            whole["dbInstanceIdentifier"] = json!("sealward");
            let lab = of_secret(&secrets, &format!("reaching/whole-{engine}"), &whole, &by_secret(database)).started();
            lab.put(engine, b"found");
            assert!(lab.names().contains(&engine.to_owned()));
        }
    });
}

#[test]
fn what_the_configuration_says_goes_before_the_secret_and_fills_it_up() {
    let secrets = SecretsManager::start();
    on_each(|database| {
        database.create_user("app", AWKWARD);
        let (engine, port) = (database.engine(), database.port());
        let place = format!("engine = \"{engine}\"\nhost = \"localhost\"\nport = {port}\ndbname = \"{DATABASE}\"\n");
        let catalog = by_secret(database) + &place;
        let login = json!({"username": "app", "password": AWKWARD});
        let mut elsewhere = login.clone();
        let others = [("engine", "oracle"), ("host", "nowhere.invalid"), ("port", "1"), ("dbname", "another")];
        for (field, value) in others {
            elsewhere[field] = json!(value);
        }
        for (what, value) in [("lacking", &login), ("elsewhere", &elsewhere)] {
            let lab = of_secret(&secrets, &format!("reaching/{what}-{engine}"), value, &catalog).started();
            lab.put(what, b"found");
            assert!(lab.names().contains(&what.to_owned()));
        }
        // One thing may be said here, and the others there; a number may be text.
        let mut partly = rds(database, "app", AWKWARD);
        (partly["host"], partly["port"]) = (json!("nowhere.invalid"), json!(port.to_string()));
        let catalog = by_secret(database) + "host = \"localhost\"\n";
        let lab = of_secret(&secrets, &format!("reaching/partly-{engine}"), &partly, &catalog).started();
        lab.put("partly", b"found");
    });
}

#[test]
fn what_is_missing_in_a_secret_is_named() {
    let secrets = SecretsManager::start();
    let whole = json!({
        "engine": "postgres", "host": "localhost", "port": 1, "username": "app", "password": HIDDEN, "dbname": DATABASE,
    });
    let with = |field: &str, value: Value| {
        let mut secret = whole.clone();
        secret[field] = value;
        secret
    };
    for (at, value, wanted) in [
        ("username", with("username", Value::Null), "`username`"),
        ("no-username", with("username", json!("")), "`username`"),
        ("password", with("password", Value::Null), "`password`"),
        ("engine", with("engine", Value::Null), "`engine`"),
        ("host", with("host", Value::Null), "`host`"),
        ("dbname", with("dbname", Value::Null), "`dbname`"),
        ("oracle", with("engine", json!("oracle")), "`oracle`"),
        ("sqlite", with("engine", json!("sqlite")), "SQLite"),
    ] {
        let lab = of_secret(&secrets, &format!("reaching/without-{at}"), &value, "secret = \"database\"\n");
        let (code, words) = refused(&lab);
        assert_eq!(code, Some(1), "{at}: {words}");
        assert!(words.contains(wanted) && words.contains("catalog"), "{at}: {words}");
    }
}

#[test]
fn a_file_is_made_for_its_owner_alone_where_its_folder_is() {
    let lab = Lab::new("url = \"sqlite:kept/odd name %41#.db\"");
    let (code, words) = refused(&lab);
    assert!(code == Some(1) && words.contains("kept") && words.contains("folder"), "{words}");
    assert!(!lab.site.path("kept").exists());

    fs::create_dir(lab.site.path("kept")).expect("makes");
    let lab = lab.started();
    lab.put("a", b"kept");
    let files = files_below(&lab.site.path("kept"));
    assert!(files.contains(&lab.site.path("kept/odd name %41#.db")), "{files:?}");
    for file in files {
        let mode = fs::metadata(&file).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_configuration_that_cannot_be_meant_is_a_fault_with_its_mend() {
    const FILE: &str = "url = \"sqlite:catalog.db\"\n";
    const SERVER: &str = "url = \"postgres://app:secret@localhost/sealward\"\n";
    const SECRET: &str = "secret = \"database\"\n";
    let catalog = |lines: &str| Lab::new(lines).rest(&secret("reaching/none", "1h"));
    let mut labs: Vec<_> = [
        (FILE.to_owned() + SECRET, ["url", "secret"]),
        ("connections = 4".to_owned(), ["url", "secret"]),
        ("secret = \"databse\"".to_owned(), ["databse", "`database`"]),
        (SECRET.to_owned() + "engine = \"oracle\"", ["oracle", "postgres"]),
        (SECRET.to_owned() + "port = 70000", ["port", "65535"]),
        ("url = \"oracle://app:secret@localhost/sealward\"".to_owned(), ["url", "postgres"]),
        ("url = \"postgres://app:secret@localhost/sealward?sslmode=disable\"".to_owned(), ["url", "postgres"]),
        (SERVER.to_owned() + "tls = \"off\"", ["tls", "plaintext"]),
        (SERVER.to_owned() + "tls = \"Plaintext\"", ["tls", "`plaintext`"]),
        (SERVER.to_owned() + "tls = \"\"", ["tls", "plaintext"]),
        (SERVER.to_owned() + "tls = false", ["tls", "false"]),
        (SERVER.to_owned() + "tls = { verify = false }", ["verify", "roots"]),
        (FILE.to_owned() + "on_unavailable = \"spool\"", ["`spool`", "[catalog]"]),
        (FILE.to_owned() + "on_unavailable = \"ignore\"", ["ignore", "spool"]),
        (FILE.to_owned() + "on_unavailable = \"spool\"\nspool = \"s\"\nspool_size = \"1KiB\"", ["spool_size", "1MiB"]),
        (FILE.to_owned() + "connections = 0", ["connections", "1000"]),
        (FILE.to_owned() + "connections = 1001", ["connections", "1000"]),
        (FILE.to_owned() + "wait = 10", ["wait", "10s"]),
        (FILE.to_owned() + "freshness = \"enforce\"", ["freshness", "catalog"]),
    ]
    .into_iter()
    .map(|(lines, wanted)| (catalog(&lines), wanted))
    .collect();
    let without = |lab: Lab| lab.with(&format!("[catalog]\n{FILE}"), "");
    let of_catalog = |there: bool| {
        let tokens = format!("tokens = {{ catalog = {there} }}");
        Lab::new(FILE).with("tokens = \"tokens.json\"", &tokens)
    };
    labs.extend([
        (without(Lab::new(FILE).class("freshness = \"enforce\"")), ["`freshness`", "[catalog]"]),
        (Lab::new(FILE).class("freshness = \"always\""), ["always", "enforce"]),
        (without(of_catalog(true)), ["`tokens`", "[catalog]"]),
        (of_catalog(false), ["`tokens`", "catalog = true"]),
    ]);
    for (lab, wanted) in labs {
        let (code, words) = refused(&lab);
        assert_eq!(code, Some(2), "{words}");
        for wanted in wanted.into_iter().chain(["help", "sealward.toml:"]) {
            assert!(words.contains(wanted), "nothing of {wanted}: {words}");
        }
        assert_eq!(lab.cli(["check"]).status.code(), Some(2), "{words}");
    }
}

/// The authority of others, in a folder of its own.
fn stranger() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = dev::ensure(folder.path(), &[]).expect("a certificate").ca_pem;
    (folder, authority)
}

/// The line that names an authority, as [`at`] writes it.
fn roots_of(authority: &Path) -> String {
    format!("tls = {{ roots = \"{}\" }}", authority.display())
}

/// A port of `address` that leads to `port`, for as long as this test runs.
fn way_to(port: u16, address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let own = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let clone = |stream: &TcpStream| stream.try_clone().expect("one more");
            for (mut from, mut to) in [(clone(&client), clone(&server)), (server, client)] {
                thread::spawn(move || {
                    // Either may have gone already.
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    own
}

/// From now on the server takes what isn't TLS, too.
fn take_plaintext(database: &dyn Database) {
    if database.engine() == "postgres" {
        let path = database.server().path("data").join("pg_hba.conf");
        let who_may = fs::read_to_string(&path).expect("reads") + "host all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(path, who_may).expect("writes");
        database.sql("SELECT pg_reload_conf()");
    } else {
        database.sql("SET GLOBAL require_secure_transport = OFF");
    }
    let plain = By::Plain { user: "plain", password: HIDDEN };
    eventually("it is taken", || database.ask(plain, "SELECT 1").is_ok());
}

/// Nothing is started yet; the secret `database` is `name` of Secrets Manager, and holds `value`.
fn of_secret(secrets: &SecretsManager, name: &str, value: &Value, catalog: &str) -> Lab {
    secrets.put(name, value);
    Lab::on(secrets.site(), catalog).rest(&secret(name, "1h"))
}

/// What a start comes to that must fail: its exit code, and the words at its end. Nothing of what
/// was said before is a password either.
fn refused(lab: &Lab) -> (Option<i32>, String) {
    let log = lab.site.path("refused.log");
    let said = fs::File::create(&log).expect("makes");
    let mut start = lab.site.command();
    start.arg("serve").arg("--config").arg(lab.file()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    let mut child = start.spawn().expect("starts");
    let until = Instant::now() + SOON;
    while child.try_wait().expect("is ours").is_none() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    // Who has ended can't be killed, and is waited for all the same.
    let served = child.kill().is_ok() && child.try_wait().expect("is ours").is_none();
    let ended = child.wait().expect("ends");
    let words = fs::read_to_string(log).expect("is text");
    assert!(!served && ended.code().is_some(), "it doesn't refuse to start: {words}");
    assert!(!words.contains("panicked") && !words.contains(HIDDEN) && !words.contains(AWKWARD), "{words}");
    let at_last: Vec<_> = words.lines().skip_while(|line| !line.starts_with("error")).collect();
    (ended.code(), at_last.join("\n"))
}
