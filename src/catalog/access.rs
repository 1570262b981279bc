//! How the database is reached: out of the configuration, and of a secret as RDS writes it.

use std::{
    fs::OpenOptions,
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{ConnectOptions as _, any::AnyConnectOptions};

use crate::{
    config::{Catalog, Database, DatabaseServer, DatabaseTls, Engine},
    secret::SecretText,
    secrets::Version,
};

/// What stands unencoded in a part of an address.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// And in a path.
const PATH: &AsciiSet = &PLAIN.remove(b'/');

/// Where a server is, and as whom. Never printed: it holds a password.
struct Login {
    engine: Engine,
    host: String,
    port: Option<String>,
    user: String,
    password: String,
    name: String,
}

/// How to connect, with the credentials of `version` where there is a secret.
///
/// # Errors
/// What is missing, in words that hold nothing of the secret.
pub(super) fn options(config: &Catalog, version: Option<&Version>) -> Result<(Engine, AnyConnectOptions), String> {
    let (engine, address) = match &config.database {
        Database::File(path) => {
            private(path)?;
            let path = path.to_str().ok_or("the path of the database isn't UTF-8")?;
            (Engine::Sqlite, format!("sqlite:{}?mode=rwc", utf8_percent_encode(path, PATH)))
        }
        Database::Server(server) => {
            let login = login(server, version)?;
            (login.engine, login.address(&server.tls)?)
        }
    };
    // The parser's own words may quote what it stumbled over.
    let options: AnyConnectOptions =
        address.parse().map_err(|_| "the address of the database can't be understood".to_owned())?;
    // A statement in the log is for nobody.
    Ok((engine, options.disable_statement_logging()))
}

/// Where that leads, without credentials.
pub(super) fn place(options: &AnyConnectOptions) -> String {
    let url = &options.database_url;
    match url.host_str() {
        Some(host) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{host}{port}{}", url.path())
        }
        None => url.path().to_owned(),
    }
}

/// Makes the file where there is none, for its owner alone.
fn private(path: &Path) -> Result<(), String> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(format!("{}: {error}; its folder must be there, and ours to write in", path.display()))
        }
        _ => Ok(()),
    }
}

fn login(server: &DatabaseServer, version: Option<&Version>) -> Result<Login, String> {
    let field = |name: &str| {
        let found = version.and_then(|version| version.text(Some(name)).ok());
        found.map(|text| text.expose().to_owned()).filter(|text| !text.is_empty())
    };
    // What the configuration says goes before what the secret does: a way through a proxy, perhaps.
    let engine = match (server.engine, field("engine")) {
        (Some(engine), _) => engine,
        (None, Some(said)) => {
            Engine::named(&said).ok_or_else(|| format!("the secret's engine `{said}` isn't known here"))?
        }
        (None, None) => return Err("neither the secret nor [catalog] says the `engine`".into()),
    };
    let lacks = |name: &str| format!("neither the secret nor [catalog] says the `{name}`");
    let configured = |value: &Option<String>, name: &str| value.clone().or_else(|| field(name));
    let known = |value: Option<&str>, name: &str| match value {
        Some(value) => Ok(value.to_owned()),
        None => field(name).ok_or_else(|| format!("the secret has no `{name}`")),
    };
    Ok(Login {
        engine,
        host: configured(&server.host, "host").ok_or_else(|| lacks("host"))?,
        port: server.port.map(|port| port.to_string()).or_else(|| field("port")),
        user: known(server.user.as_deref(), "username")?,
        password: known(server.password.as_ref().map(SecretText::expose), "password")?,
        name: configured(&server.dbname, "dbname").ok_or_else(|| lacks("dbname"))?,
    })
}

impl Login {
    fn address(&self, tls: &DatabaseTls) -> Result<String, String> {
        let enc = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        let (scheme, port) = match self.engine {
            Engine::Postgres => ("postgres", "5432"),
            Engine::MySql => ("mysql", "3306"),
            Engine::Sqlite => return Err("SQLite is a file: write `url = \"sqlite:PATH\"`".into()),
        };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = self.port.as_deref().unwrap_or(port);
        let tls = match (self.engine, tls) {
            (Engine::MySql, DatabaseTls::Plaintext) => "ssl-mode=DISABLED".to_owned(),
            (Engine::MySql, DatabaseTls::Verified { roots }) => {
                format!("ssl-mode=VERIFY_IDENTITY{}", roots_at("ssl-ca", roots.as_ref())?)
            }
            (_, DatabaseTls::Plaintext) => "sslmode=disable".to_owned(),
            (_, DatabaseTls::Verified { roots }) => {
                format!("sslmode=verify-full&application_name=sealward{}", roots_at("sslrootcert", roots.as_ref())?)
            }
        };
        let (user, password, name) = (enc(&self.user), enc(&self.password), enc(&self.name));
        Ok(format!("{scheme}://{user}:{password}@{host}:{port}/{name}?{tls}"))
    }
}

fn roots_at(key: &str, roots: Option<&PathBuf>) -> Result<String, String> {
    let Some(path) = roots else { return Ok(String::new()) };
    let text = path.to_str().ok_or("the path of `roots` isn't UTF-8")?;
    // Looked at here, since the driver's own words don't name the file.
    std::fs::metadata(path).map_err(|error| format!("{text}: {error}; put the authority of the database there"))?;
    Ok(format!("&{key}={}", utf8_percent_encode(text, PLAIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            engine: Engine::Postgres,
            host: "::1".into(),
            port: None,
            user: "a b".into(),
            password: "p@:/?#%&".into(),
            name: "x".into(),
        }
    }

    #[test]
    fn whatever_a_password_holds_it_is_read_as_it_is() {
        let address = login().address(&DatabaseTls::Plaintext).expect("an address");
        let options: AnyConnectOptions = address.parse().expect("parses");
        let url = options.database_url;
        assert_eq!((url.host_str(), url.port()), (Some("[::1]"), Some(5432)));
        assert_eq!(url.password(), Some("p%40%3A%2F%3F%23%25%26"));
        assert_eq!(url.query(), Some("sslmode=disable"));
    }

    #[test]
    fn verified_is_verified_in_full_for_either_server() {
        let verified = DatabaseTls::Verified { roots: None };
        assert!(login().address(&verified).expect("an address").contains("sslmode=verify-full"));
        let mysql = Login { engine: Engine::MySql, ..login() };
        assert!(mysql.address(&verified).expect("an address").ends_with("?ssl-mode=VERIFY_IDENTITY"));
    }
}
