//! `dev`: the whole product with nothing else installed.

use std::{
    fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use super::{Failure, output, run};
use crate::{
    app::{App, Configuration},
    config::Config,
    identity::{Grant, TokenFile},
    keys::local::Keyring,
    server::Passed,
    tls,
};

/// The token's name in the list.
const TOKEN_NAME: &str = "dev";

/// Lays out `folder` where that isn't done yet, and serves from it.
pub(super) fn run(folder: &Path, bind: SocketAddr, admin: SocketAddr) -> Result<(), Failure> {
    private_folder(folder)?;
    let folder = folder.canonicalize().map_err(at(folder))?;
    let names = if bind.ip().is_unspecified() { vec![] } else { vec![bind.ip().to_string()] };
    let certificate = tls::dev::ensure(&folder.join("tls"), &names).map_err(Failure::new)?;
    let keyring = folder.join("keyring.json");
    if !keyring.exists() {
        Keyring::create(&keyring, "sealward-dev", "dev-1")?;
    }
    let token = token(&folder)?;
    let text = configuration(bind, admin);
    write_private(&folder.join("sealward.toml"), &text)?;
    let curl = format!(
        "# For `curl -K`: trusts this folder's CA, and shows its token.\n\
         cacert = \"{}\"\nheader = \"Authorization: Bearer {token}\"\n",
        quoted(&certificate.ca_pem)?
    );
    write_private(&folder.join("curl.conf"), &curl)?;

    let config = Config::parse(&text, "sealward.toml", &folder)?;
    run::log(&config.log)?;
    run::ended(run::runtime()?, async {
        let signals = run::Signals::listen()?;
        let app = App::build(Configuration::of(config)?, Passed::default()).await?;
        let listening = app.local_addrs().first().copied().unwrap_or(bind);
        output::say(&greeting(&folder, listening, app.admin_addr()));
        run::until_signal(app, signals).await
    })
}

/// What a person reads first, and pastes.
fn greeting(folder: &Path, listening: SocketAddr, admin: SocketAddr) -> String {
    let host = match listening.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("https://{}/files", SocketAddr::new(host, listening.port()));
    let curl = format!("curl -K {}", shell(&folder.join("curl.conf")));
    format!(
        "Sealward listens on https://{listening}. Paste these into another shell:\n\
         \n  # seal an upload, read it back, read a range of it, list what there is\
         \n  echo 'hello, sealed world' | {curl} -T - {url}/hello.txt\
         \n  {curl} {url}/hello.txt\
         \n  {curl} -r 7-12 {url}/hello.txt\
         \n  {curl} '{url}/?list'\
         \n\n  # what is at rest is ciphertext\
         \n  od -A d -t x1z {} | head\
         \n\n  metrics  http://{admin}/metrics\
         \n  data     {}\n",
        shell(&folder.join("objects/hello.txt.sealed")),
        folder.display(),
    )
}

/// The configuration that runs, with paths from its own folder.
fn configuration(bind: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"# Written by `sealward dev` at every start. Copy it to begin a configuration of
# your own, and run that with `sealward serve --config FILE`.

[[listener]]
bind = "{bind}"
tls = {{ source = {{ files = {{ cert = "tls/cert.pem", key = "tls/key.pem" }} }} }}

[keys]
provider = "local"
keyring = "keyring.json"

[[class]]
name = "files"
directory = "objects"

[[route]]
path = "/files/"
seal = {{ class = "files" }}

[catalog]
url = "sqlite:catalog.db"

[identity]
tokens = "tokens.json"

[admin]
bind = "{admin}"
"#
    )
}

/// The one token: the kept one while it is good, else a new one.
fn token(folder: &Path) -> Result<String, Failure> {
    let path = folder.join("token");
    let file = TokenFile::open(&folder.join("tokens.json"), true).map_err(Failure::new)?;
    if let Ok(text) = fs::read_to_string(&path)
        && file.knows(text.trim())
    {
        return Ok(text.trim().to_owned());
    }
    // Its text is lost or changed: nobody can use what is left of it.
    if file.list().map_err(Failure::new)?.iter().any(|token| token.name == TOKEN_NAME) {
        file.revoke(TOKEN_NAME).map_err(Failure::new)?;
    }
    let token = file.issue(TOKEN_NAME, Grant::default(), None).map_err(Failure::new)?;
    write_private(&path, token.expose())?;
    Ok(token.expose().to_owned())
}

fn private_folder(folder: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(at(folder))
}

/// Writes a file that only its owner reads, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(at(folder))?;
    file.write_all(text.as_bytes()).map_err(at(path))?;
    file.persist(path).map_err(|error| at(path)(error.error))?;
    Ok(())
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let path = path.to_owned();
    move |error| Failure::new(format!("{}: {error}", path.display()))
}

/// A path between double quotes, as curl's configuration reads it.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| Failure::input("the data folder's path isn't UTF-8; choose another"))?;
    Ok(text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A path as a shell takes it.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
