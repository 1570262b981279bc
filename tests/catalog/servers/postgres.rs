//! `PostgreSQL` as RDS has it under `rds.force_ssl`.

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{DATABASE, Database, Server, said, server::installed};

/// The administrator's socket is in a folder that only its owner and root may enter. A
/// connection over TCP without TLS finds no line, and is refused.
const WHO_MAY: &str = "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";

pub(crate) struct Postgres {
    server: Server,
    psql: PathBuf,
}

impl Postgres {
    /// A fresh one, that serves.
    pub(crate) fn start() -> Self {
        let programs = programs();
        // At SIGQUIT it ends at once, but gives back the shared memory that SIGKILL would leave.
        let mut server = Server::new(&["postgres", "nobody"], "QUIT");
        let data = server.path("data");
        let making = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"];
        server.prepare(&programs.join("initdb"), making.map(Path::new).into_iter().chain([data.as_path()]));
        fs::write(data.join("pg_hba.conf"), WHO_MAY).expect("writes");
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", server.port),
            format!("unix_socket_directories={}", server.folder().display()),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", server.certificate.cert_pem.display()),
            format!("ssl_key_file={}", server.certificate.key_pem.display()),
            "max_connections=200".to_owned(),
            "shared_buffers=32MB".to_owned(),
            // It is killed, never the machine: what it has written, the system keeps.
            "fsync=off".to_owned(),
        ];
        let folder = ["-D".to_owned(), data.display().to_string()];
        let settings = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
        server.runs(&programs.join("postgres"), folder.into_iter().chain(settings));
        let mut postgres = Self { server, psql: programs.join("psql") };
        postgres.restart();
        let made = said(postgres.administrator("postgres").arg(format!("CREATE DATABASE {DATABASE}")));
        made.expect("the administrator may");
        postgres
    }

    fn psql(&self) -> Command {
        let mut psql = self.server.program(&self.psql);
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--field-separator=\t"]);
        psql.args(["--pset=null=NULL", "--set=ON_ERROR_STOP=1", "--no-password"]);
        psql
    }
}

impl Database for Postgres {
    fn engine(&self) -> &'static str {
        "postgres"
    }

    fn server(&self) -> &Server {
        &self.server
    }

    fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    fn administrator(&self, database: &str) -> Command {
        let mut psql = self.psql();
        psql.arg("--host").arg(self.server.folder()).arg(format!("--port={}", self.server.port));
        psql.args(["--username=postgres", &format!("--dbname={database}"), "--command"]);
        psql
    }

    fn login(&self, user: &str, password: &str, authority: Option<&Path>) -> Command {
        let mut psql = self.psql();
        match authority {
            Some(path) => psql.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", path),
            None => psql.env("PGSSLMODE", "disable"),
        };
        psql.arg("--dbname").arg(self.url(user, password, DATABASE)).arg("--command");
        psql
    }

    fn answers(&self) -> bool {
        said(self.administrator("postgres").arg("SELECT 1")).is_ok()
    }

    fn create_user(&self, name: &str, password: &str) {
        let (name, password) = (identifier(name), literal(password));
        self.sql(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD {password}; GRANT ALL ON DATABASE {DATABASE} TO {name}; \
             GRANT ALL ON SCHEMA public TO {name}"
        ));
    }

    fn set_password(&self, name: &str, password: &str) {
        self.sql(&format!("ALTER ROLE {} PASSWORD {}", identifier(name), literal(password)));
    }

    fn connections_of(&self, user: &str) -> usize {
        let counted = self.sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = {}", literal(user)));
        counted.parse().expect("a number")
    }

    fn drop_connections_of(&self, user: &str) {
        let user = literal(user);
        self.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {user}"));
    }
}

/// Where its programs are. Debian keeps those of each version together, and off the PATH.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
    // The newest first.
    versions.sort_by_key(|path| Reverse(path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok())));
    let folders: Vec<PathBuf> = versions.iter().map(|path| path.join("bin")).collect();
    // Through a link: the others are beside the file itself.
    let initdb = installed("initdb", &folders).canonicalize().expect("is there");
    initdb.parent().expect("a folder").to_owned()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
