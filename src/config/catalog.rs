//! `[catalog]`: the database, how it is reached, and what becomes of requests while it is away.

use std::{path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{
    document::Section,
    report::{Fault, listed, quoted},
};
use crate::secret::SecretText;

const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const CONNECTIONS: u64 = 16;
const WAIT: Duration = Duration::from_secs(10);
const SPOOL: u64 = 64 * MIB;
/// What databases are called, RDS's own names among them.
const ENGINES: [(&str, Engine); 8] = [
    ("postgres", Engine::Postgres),
    ("mysql", Engine::MySql),
    ("mariadb", Engine::MySql),
    ("postgresql", Engine::Postgres),
    ("aurora-postgresql", Engine::Postgres),
    ("aurora-mysql", Engine::MySql),
    ("aurora", Engine::MySql),
    ("sqlite", Engine::Sqlite),
];
/// What a server's address needs, where nothing else says so.
const PLACE: [&str; 4] = ["engine", "host", "port", "dbname"];

/// `[catalog]`
#[derive(Clone, Debug)]
pub struct Catalog {
    /// `url`, or `secret` and what it lacks.
    pub database: Database,
    /// `connections`: at most, 1 to 1,000. Default 16.
    pub connections: u32,
    /// `wait`: how long is waited for a connection, and for an answer. Default 10 s.
    pub wait: Duration,
    /// `on_unavailable = "deny" | "spool"`, and what belongs to that. Default `deny`.
    pub away: Away,
}

/// What becomes of what can't be written down while the database is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Away {
    /// It is not done.
    Deny,
    /// It is kept here until the database is back.
    Spool {
        /// `spool`: the folder.
        folder: PathBuf,
        /// `spool_size`: bytes at most. Default 64 MiB.
        most: u64,
    },
}

/// A database.
#[derive(Clone, Debug)]
pub enum Database {
    /// SQLite's, in this file.
    File(PathBuf),
    /// A server's.
    Server(Box<DatabaseServer>),
}

/// A server of databases, as far as the configuration says. It goes before the secret.
#[derive(Clone, Debug)]
pub struct DatabaseServer {
    /// `engine`
    pub engine: Option<Engine>,
    /// `host`
    pub host: Option<String>,
    /// `port`
    pub port: Option<u16>,
    /// `dbname`
    pub dbname: Option<String>,
    /// The user of `url`.
    pub user: Option<String>,
    /// The password of `url`.
    pub password: Option<SecretText>,
    /// `secret`: a name in [`super::Config::secrets`].
    pub secret: Option<String>,
    /// `tls`
    pub tls: DatabaseTls,
}

/// How a server is believed to be the one that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseTls {
    /// By its certificate and its name.
    Verified {
        /// `tls = { roots = "…" }`: the authorities, in PEM; the system's when absent.
        roots: Option<PathBuf>,
    },
    /// `tls = "plaintext"`: not at all.
    Plaintext,
}

/// Which language a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL, and Aurora's.
    Postgres,
    /// MySQL and MariaDB, and Aurora's.
    MySql,
    /// A file.
    Sqlite,
}

impl Engine {
    /// The engine that RDS, or a person, calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        ENGINES.iter().find(|(known, _)| *known == name).map(|(_, engine)| *engine)
    }
}

impl Catalog {
    /// The secret that it follows.
    pub fn secret(&self) -> Option<&str> {
        match &self.database {
            Database::Server(server) => server.secret.as_deref(),
            Database::File(_) => None,
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> Option<Catalog> {
    let database = match (section.has("url"), section.has("secret")) {
        (true, false) => of_url(section),
        (false, true) => of_secret(section),
        (both, _) => {
            section.allow("url");
            section.allow("secret");
            PLACE.into_iter().chain(["tls"]).for_each(|key| section.allow(key));
            let title = if both { "the database is named twice" } else { "[catalog] names no database" };
            let help =
                "write `url = \"sqlite:catalog.db\"`, or `secret = \"…\"`, the name of a `[[secret]]` in RDS's JSON";
            section.own_fault(Fault::new(title, help), "in this section");
            None
        }
    };
    let connections = section.integer("connections", 1..=1000).unwrap_or(CONNECTIONS);
    let wait = section.duration("wait", SECOND..=SECOND * 300).unwrap_or(WAIT);
    let away = away(section);
    section.finish();
    Some(Catalog {
        database: database?,
        connections: u32::try_from(connections).unwrap_or(u32::MAX),
        wait,
        away: away?,
    })
}

fn away(section: &Section<'_>) -> Option<Away> {
    let spool = section.one_of("on_unavailable", &[("deny", false), ("spool", true)]);
    if spool == Some(true) {
        section.require("spool", "\"/var/lib/sealward/spool\"");
        let most = section.size("spool_size", MIB..=TIB).map_or(SPOOL, |size| size.value);
        return section.path("spool").map(|folder| Away::Spool { folder: folder.value, most });
    }
    for key in ["spool", "spool_size"] {
        section.refuse(
            key,
            &format!("`{key}` is for `on_unavailable = \"spool\"`"),
            "write that too, or leave this out",
        );
    }
    Some(Away::Deny)
}

fn tls(section: &Section<'_>) -> Option<DatabaseTls> {
    if !section.has("tls") {
        return Some(DatabaseTls::Verified { roots: None });
    }
    if section.is_string("tls") {
        return section.one_of("tls", &[("plaintext", ())]).map(|()| DatabaseTls::Plaintext);
    }
    let table = section.section("tls")?;
    let roots = table.path("roots").map(|roots| roots.value);
    table.finish();
    Some(DatabaseTls::Verified { roots })
}

fn of_secret(section: &Section<'_>) -> Option<Database> {
    let secret = section.string("secret");
    if let Some(name) = secret.as_ref().filter(|name| !section.is_defined(&name.value)) {
        let help = match section.nearest_secret(&name.raw) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "add a `[[secret]]` with that `name` and a `source`".into(),
        };
        let fault = Fault::new(format!("there is no `[[secret]]` {}", quoted(&name.raw)), help);
        section.fault(fault.at(&name.span, "not defined"));
    }
    let engine = section.one_of("engine", &ENGINES).filter(|engine| is_server(section, *engine));
    let host = section.string("host").map(|found| found.value);
    let port = section.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    let dbname = section.string("dbname").map(|found| found.value);
    let tls = tls(section);
    let server = DatabaseServer {
        engine,
        host,
        port,
        dbname,
        user: None,
        password: None,
        secret: Some(secret?.value),
        tls: tls?,
    };
    Some(Database::Server(Box::new(server)))
}

fn is_server(section: &Section<'_>, engine: Engine) -> bool {
    if engine == Engine::Sqlite {
        let fault = Fault::new("SQLite is a file, and has no credentials", "write `url = \"sqlite:catalog.db\"` alone");
        section.own_fault(fault, "in this section");
    }
    engine != Engine::Sqlite
}

/// `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST:PORT/NAME`.
fn of_url(section: &Section<'_>) -> Option<Database> {
    for key in PLACE {
        section.refuse(key, &format!("`url` says the `{key}` already"), "leave it out");
    }
    let url = section.string("url");
    let file = url.as_ref().and_then(|url| url.value.strip_prefix("sqlite:"));
    if let Some(path) = file {
        section.refuse("tls", "a file is reached without `tls`", "leave it out");
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains(['?', '\0']) {
            misread(section);
            return None;
        }
        return Some(Database::File(section.below_file(path)));
    }
    let tls = tls(section);
    let url = url?;
    let Some(server) = server(&url.value, tls?) else {
        misread(section);
        return None;
    };
    Some(Database::Server(Box::new(server)))
}

/// Without showing the line: it may hold a password.
fn misread(section: &Section<'_>) {
    let help = "write `sqlite:PATH`, `postgres://USER:PASSWORD@HOST:PORT/NAME` or `mysql://…`, with what is special in \
                a password percent-encoded; options stand beside it in [catalog]";
    let schemes = listed(["sqlite", "postgres", "mysql"]);
    section.own_fault(Fault::new(format!("`url` is no address of a database ({schemes})"), help), "its `url`");
}

fn server(url: &str, tls: DatabaseTls) -> Option<DatabaseServer> {
    let (scheme, rest) = url.split_once("://")?;
    let engine = Engine::named(scheme).filter(|engine| *engine != Engine::Sqlite)?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    let (credentials, place) = rest.rsplit_once('@')?;
    let (user, password) = credentials.split_once(':')?;
    let (place, dbname) = place.split_once('/')?;
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (place, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || user.is_empty() || dbname.is_empty() || dbname.contains(['/', '?']) {
        return None;
    }
    Some(DatabaseServer {
        engine: Some(engine),
        host: Some(decoded(host)?),
        port,
        dbname: Some(decoded(dbname)?),
        user: Some(decoded(user)?),
        password: Some(SecretText::new(decoded(password)?)),
        secret: None,
        tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let plain = || DatabaseTls::Plaintext;
        let found = server("postgres://a%20b:p%40%2F@[::1]:5433/x%2Dy", plain()).expect("an address");
        assert_eq!((found.engine, found.port), (Some(Engine::Postgres), Some(5433)));
        let texts = [found.user.as_deref(), found.host.as_deref(), found.dbname.as_deref()];
        assert_eq!(texts, [Some("a b"), Some("::1"), Some("x-y")]);
        assert_eq!(found.password.expect("a password").expose(), "p@/");
        assert_eq!(server("mysql://u:p@db/n", plain()).expect("an address").port, None);
        for bad in
            ["postgres://db/n", "postgres://u:p@db", "oracle://u:p@db/n", "postgres://u:p@db:x/n", "db", "sqlite://x"]
        {
            assert!(server(bad, plain()).is_none(), "{bad}");
        }
    }
}
