//! That the servers are what other tests take them for, as their own clients find them.

use std::{
    net::TcpStream,
    process::{Child, Stdio},
};

use sealward::tls;
use serde_json::{Value, json};

use crate::{
    secrets::SecretsManager,
    servers::{By, Database, MariaDb, Postgres, on_each},
    support::eventually,
};

/// What a shell, an address or a statement would take for its own.
const AWKWARD: &str = r#"it's "\ %41:@/?# $1"#;

#[test]
fn everybody_is_let_in_over_tls_and_nobody_without() {
    on_each(|database| {
        database.create_user("app", AWKWARD);
        let protocol = match database.engine() {
            "postgres" => "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            _ => "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_version'",
        };
        assert_eq!(database.ask(app(database, AWKWARD), protocol), Ok("TLSv1.3".to_owned()));
        let words = database.ask(By::Plain { user: "app", password: AWKWARD }, "SELECT 1").expect_err("is refused");
        let said = match database.engine() {
            "postgres" => words.contains("no encryption"),
            // Releases differ in whether they say why.
            _ => words.contains("Access denied") || words.contains("insecure transport"),
        };
        assert!(said, "{words}");
    });
}

/// Nobody who merely has a certificate for `localhost` is taken for the server.
#[test]
fn a_client_knows_the_server_by_its_authority() {
    let stranger = tempfile::tempdir().expect("a folder");
    let authority = tls::dev::ensure(stranger.path(), &[]).expect("a certificate").ca_pem;
    on_each(|database| {
        database.create_user("app", "first");
        assert_eq!(database.ask(app(database, "first"), "SELECT 1"), Ok("1".to_owned()));
        let misled = By::Tls { user: "app", password: "first", authority: &authority };
        let words = database.ask(misled, "SELECT 1").expect_err("is refused");
        assert!(words.contains("SSL error"), "{words}");
    });
}

#[test]
fn the_administrator_is_let_in_by_the_socket_alone() {
    on_each(|database| {
        assert_eq!(database.sql("SELECT 1, NULL"), "1\tNULL");
        for (user, password) in [("postgres", "anything"), ("root", "")] {
            let over_tcp = By::Tls { user, password, authority: database.ca() };
            database.ask(over_tcp, "SELECT 1").expect_err("is refused");
        }
    });
}

#[test]
fn a_changed_password_is_the_only_one_that_lets_in() {
    on_each(|database| {
        database.create_user("app", "first");
        assert_eq!(database.ask(app(database, "first"), "SELECT 1"), Ok("1".to_owned()));
        database.set_password("app", AWKWARD);
        assert_eq!(database.ask(app(database, AWKWARD), "SELECT 1"), Ok("1".to_owned()));
        let words = database.ask(app(database, "first"), "SELECT 1").expect_err("is refused");
        assert!(words.contains("password"), "{words}");
    });
}

#[test]
fn what_was_stored_is_there_after_the_server_was_killed_at_work() {
    on_each(|database| {
        let port = database.port();
        database.create_user("app", "first");
        let stored = "CREATE TABLE kept (number INT); INSERT INTO kept VALUES (42)";
        assert_eq!(database.ask(app(database, "first"), stored), Ok(String::new()));
        let work = match database.engine() {
            "postgres" => "DO $$ BEGIN LOOP END LOOP; END $$",
            _ => "SELECT benchmark(1000000000000, md5('x'))",
        };
        let mut working = begun(database, work);
        database.kill();
        assert!(!working.wait().expect("ends").success());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        database.ask(app(database, "first"), "SELECT 1").expect_err("nobody is there");

        database.restart();
        assert_eq!(database.port(), port);
        assert_eq!(database.ask(app(database, "first"), "SELECT number FROM kept"), Ok("42".to_owned()));
    });
}

#[test]
fn dropped_connections_end_and_new_ones_are_let_in() {
    on_each(|database| {
        database.create_user("app", "first");
        database.create_user("other", "first");
        let wait = match database.engine() {
            "postgres" => "SELECT pg_sleep(600)",
            _ => "SELECT sleep(600)",
        };
        let mut waiting = begun(database, wait);
        database.drop_connections_of("other");
        assert_eq!(database.connections_of("app"), 1);
        database.drop_connections_of("app");
        assert!(!waiting.wait().expect("ends").success());
        eventually("it is gone", || database.connections_of("app") == 0);
        assert_eq!(database.ask(app(database, "first"), "SELECT 1"), Ok("1".to_owned()));
    });
}

#[test]
fn a_server_that_is_dropped_leaves_nothing() {
    let databases: [Box<dyn Database>; 2] = [Box::new(Postgres::start()), Box::new(MariaDb::start())];
    for database in databases {
        let (engine, port, folder) = (database.engine(), database.port(), database.server().folder().to_owned());
        assert!(folder.exists() && TcpStream::connect(("127.0.0.1", port)).is_ok(), "{engine}");
        drop(database);
        assert!(!folder.exists() && TcpStream::connect(("127.0.0.1", port)).is_err(), "{engine}");
    }
}

#[test]
fn a_rotated_secret_is_current_and_the_one_before_is_previous() {
    let secrets = SecretsManager::start();
    let login = |password: &str| json!({"username": "app", "password": password});
    let arn = secrets.put("peers/rotated", &login("first"));
    assert_eq!(version(&secrets, &arn, "AWSCURRENT"), login("first"));
    for (before, password) in [("first", "second"), ("second", "third")] {
        secrets.rotate("peers/rotated", &login(password));
        assert_eq!(version(&secrets, &arn, "AWSCURRENT"), login(password));
        assert_eq!(version(&secrets, "peers/rotated", "AWSPREVIOUS"), login(before));
    }
}

/// The user `app`, as it should come.
fn app<'a>(database: &'a dyn Database, password: &'a str) -> By<'a> {
    By::Tls { user: "app", password, authority: database.ca() }
}

/// A client of `app`, whose password is `first`, in the midst of a statement that has no end.
fn begun(database: &dyn Database, statement: &str) -> Child {
    let mut client = database.client(app(database, "first"));
    let child = client.arg(statement).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let working = match database.engine() {
        "postgres" => "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'",
        _ => "SELECT count(*) FROM information_schema.processlist WHERE user = 'app' AND command = 'Query'",
    };
    eventually("it is at work", || database.sql(working) == "1");
    child
}

/// The value of a secret's version under `stage`, as curl is told it.
fn version(secrets: &SecretsManager, name: &str, stage: &str) -> Value {
    let site = secrets.site();
    let of_environment = |wanted: &str| {
        let found = site.environment.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str()).expect("every stand-in has it")
    };
    let service = format!("aws:amz:{}:secretsmanager", of_environment("AWS_REGION"));
    let caller = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(of_environment).join(":");
    let target = "X-Amz-Target: secretsmanager.GetSecretValue";
    let kind = "Content-Type: application/x-amz-json-1.1";
    let question = json!({"SecretId": name, "VersionStage": stage}).to_string();
    let asked = ["-H", target, "-H", kind, "-d", &question, secrets.url()];
    let answer = site.curl_bare(["--aws-sigv4", &service, "--user", &caller].into_iter().chain(asked));
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(answer.json()["SecretString"].as_str().expect("text")).expect("JSON")
}
