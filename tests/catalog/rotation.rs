//! Credentials that are rotated in the server and in Secrets Manager, by either of its
//! strategies, while clients upload and list without a pause: no request fails, and no
//! statement runs twice.

use std::sync::{
    RwLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{
    client::Raw,
    secrets::SecretsManager,
    servers::{By, Database, on_each},
    site::{Lab, by_secret, meanwhile, rds, secret},
    support::eventually,
    tally::{self, Tally},
};

/// Each takes some three seconds: the pace at which a secret is looked at.
const ROTATIONS: usize = 8;
const CLIENTS: usize = 4;
/// How many requests are made between two rotations at least.
const REQUESTS: usize = 100;
const BODY: &[u8] = b"a small object";
/// Nothing that a password holds is to change the way to the database, or to be told.
const PASSWORD: &str = "not 'simple' %41:@/?#\\";
const USERS: [&str; 2] = ["app", "app_clone"];
const NEW: &str = "the catalogue's database is used with new credentials";

/// The password is changed first and told then, and between the two nobody comes in. No
/// connection outlives that: all end while no request is under way.
#[test]
fn no_request_fails_while_the_one_user_has_no_password_that_is_known() {
    on_each(|database| {
        let database: &dyn Database = database;
        let secrets = SecretsManager::start();
        let name = format!("rotation/one/{}", database.engine());
        database.create_user("app", &password(0));
        secrets.put(&name, &rds(database, "app", &password(0)));
        // Only a login that was refused has it looked at in time.
        let lab = lab(&secrets, database, &name, "1h");
        let refused = || lab.count("sealward_catalog_logins_refused_total", &[]);
        assert_eq!(refused(), 0);
        rotated(database, &lab, |load, round| {
            let before = refused();
            database.set_password("app", &password(round));
            load.in_a_pause(|| eventually("all connections end", || drop_idle(database)));
            eventually("logins are refused", || refused() > before);
            secrets.rotate(&name, &rds(database, "app", &password(round)));
            lab.wait_for_words(NEW, round);
        });
    });
}

/// The one who isn't used is given a new password, and is used from then on.
#[test]
fn no_request_fails_while_two_users_take_turns() {
    on_each(|database| {
        let database: &dyn Database = database;
        let secrets = SecretsManager::start();
        let name = format!("rotation/two/{}", database.engine());
        for user in USERS {
            database.create_user(user, &password(0));
        }
        if database.engine() == "postgres" {
            // The tables are those of who made them.
            database.sql("GRANT app TO app_clone");
        }
        secrets.put(&name, &rds(database, "app", &password(0)));
        let lab = lab(&secrets, database, &name, "3s");
        rotated(database, &lab, |_, round| {
            let (user, before) = (USERS[round % 2], USERS[(round + 1) % 2]);
            assert_eq!(database.connections_of(user), 0);
            database.set_password(user, &password(round));
            secrets.rotate(&name, &rds(database, user, &password(round)));
            lab.wait_for_words(NEW, round);
            eventually("all connections are the next one's", || {
                database.connections_of(before) == 0 && database.connections_of(user) > 0
            });
        });
        assert_eq!(lab.count("sealward_catalog_logins_refused_total", &[]), 0, "each was tried before it was used");
    });
}

fn password(round: usize) -> String {
    format!("{PASSWORD}{round}")
}

/// A Sealward whose database the secret `name` leads to.
fn lab(secrets: &SecretsManager, database: &dyn Database, name: &str, refresh: &str) -> Lab {
    // Statements would be logged too otherwise.
    let lab = Lab::on(secrets.site(), &by_secret(database)).with("level = \"debug\"", "level = \"info\"");
    lab.rest(&secret(name, refresh)).started()
}

/// Has `rotate` done again and again under load, from round 1 on; then everything that was
/// uploaded is recorded, by one statement each.
fn rotated(database: &dyn Database, lab: &Lab, rotate: impl Fn(&Load, usize)) {
    tally::begin(database);
    let load = Load::default();
    let uploaded = meanwhile(
        CLIENTS,
        |client, going| load.client(lab, client, going),
        || {
            for round in 1..=ROTATIONS {
                load.goes_on();
                rotate(&load, round);
            }
            load.goes_on();
        },
    );
    let mut uploaded = uploaded.concat();
    uploaded.sort_unstable();
    assert_eq!(lab.names(), uploaded);
    assert_eq!(tally::taken(database), Tally::once(uploaded.len()));
    let records = |outcome: &str| lab.count("sealward_catalog_records_total", &[("outcome", outcome)]);
    assert_eq!((records("written"), records("failed")), (uploaded.len(), 0));
    let log = lab.server().log();
    assert_eq!(log.matches(NEW).count(), ROTATIONS, "once each");
    // Lists would do without it.
    assert!(!log.contains("the catalogue's database is away"), "{log}");
    assert!(!log.contains("not 'simple'"), "a password is told");
}

/// Ends the connections of `app` that do nothing; whether there is none of it any more.
fn drop_idle(database: &dyn Database) -> bool {
    if database.engine() == "postgres" {
        let idle = "FROM pg_stat_activity WHERE usename = 'app' AND state = 'idle'";
        database.sql(&format!("SELECT pg_terminate_backend(pid) {idle}"));
    } else {
        let idle = "FROM information_schema.processlist WHERE user = 'app' AND command = 'Sleep'";
        for connection in database.sql(&format!("SELECT id {idle}")).lines() {
            // One that has left meanwhile is as good.
            let _ = database.ask(By::Administrator, &format!("KILL {connection}"));
        }
    }
    database.connections_of("app") == 0
}

/// Clients that upload and list without a pause, but for those they are given.
#[derive(Default)]
struct Load {
    pause: RwLock<()>,
    asked: AtomicUsize,
}

impl Load {
    /// What one client does as long as it is `going`, over one connection; the names of what it uploaded.
    fn client(&self, lab: &Lab, client: usize, going: &dyn Fn() -> bool) -> Vec<String> {
        let mut connection = Raw::new(&lab.site, lab.server());
        let mut names: Vec<String> = Vec::new();
        while going() {
            let name = format!("{client}/{:06}", names.len());
            let put = self.ask(|| connection.put(&name, "", BODY));
            assert_eq!(put.status, 201, "PUT {name}: {put:?}");
            // From the one before it on.
            let after = names.last().map_or("", String::as_str);
            let line = format!("GET /files/?list&prefix={client}/&after={after}");
            let list = self.ask(|| connection.ask(&line, ""));
            assert_eq!(list.status, 200, "{line}: {list:?}");
            let listed = &list.json()["objects"];
            let it = listed.as_array().map(Vec::len) == Some(1) && listed[0]["key"] == name;
            assert!(it && listed[0]["size"] == BODY.len(), "{line}: {list:?}");
            names.push(name);
        }
        names
    }

    fn ask<T>(&self, request: impl FnOnce() -> T) -> T {
        let _going = self.pause.read().expect("not poisoned");
        let answer = request();
        self.asked.fetch_add(1, Relaxed);
        answer
    }

    /// Has `change` made while no request is under way.
    fn in_a_pause(&self, change: impl FnOnce()) {
        let _pause = self.pause.write().expect("not poisoned");
        change();
    }

    /// Waits for more requests.
    fn goes_on(&self) {
        let then = self.asked.load(Relaxed);
        eventually("requests go on", || self.asked.load(Relaxed) >= then + REQUESTS);
    }
}
