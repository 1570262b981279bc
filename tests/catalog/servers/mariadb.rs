//! `MariaDB` as RDS has it under `require_secure_transport`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{DATABASE, Database, Server, said, server::installed};

pub(crate) struct MariaDb {
    server: Server,
    mariadb: PathBuf,
}

impl MariaDb {
    /// A fresh one, that serves.
    pub(crate) fn start() -> Self {
        // It leaves nothing with the kernel: SIGKILL is as good an end as any, and the fastest.
        let mut server = Server::new(&["mysql", "nobody"], "KILL");
        let always = [
            // Nothing of the machine's own; it must come first.
            "--no-defaults".to_owned(),
            format!("--datadir={}", server.path("data").display()),
            // One that starts removes what another has in a folder that both use.
            format!("--tmpdir={}", server.path("").display()),
            "--skip-name-resolve".to_owned(),
            "--innodb-log-file-size=16M".to_owned(),
            // Containers often lack what it asks of the kernel.
            "--innodb-use-native-aio=OFF".to_owned(),
        ];
        let making = ["--auth-root-authentication-method=normal", "--skip-test-db"].map(str::to_owned);
        server.prepare(&installed("mariadb-install-db", &[]), always.iter().chain(&making));
        let serving = [
            "--bind-address=127.0.0.1".to_owned(),
            format!("--port={}", server.port),
            format!("--socket={}", server.path("socket").display()),
            format!("--pid-file={}", server.path("pid").display()),
            format!("--ssl-cert={}", server.certificate.cert_pem.display()),
            format!("--ssl-key={}", server.certificate.key_pem.display()),
            "--require-secure-transport=ON".to_owned(),
            "--max-connections=200".to_owned(),
            "--innodb-buffer-pool-size=32M".to_owned(),
            // It is killed, never the machine: what it has written, the system keeps.
            "--innodb-flush-log-at-trx-commit=2".to_owned(),
        ];
        // Debian keeps it off the PATH of all but root.
        server.runs(&installed("mariadbd", &[PathBuf::from("/usr/sbin")]), always.into_iter().chain(serving));
        let mut mariadb = Self { server, mariadb: installed("mariadb", &[]) };
        mariadb.restart();
        // The administrator has no password, and is to come by the socket alone.
        let bare = "DELETE FROM mysql.global_priv WHERE Host <> 'localhost'; FLUSH PRIVILEGES";
        let made = said(mariadb.administrator("mysql").arg(format!("{bare}; CREATE DATABASE {DATABASE}")));
        made.expect("the administrator may");
        mariadb
    }

    /// The client, in `database`.
    fn client_in(&self, database: &str) -> Command {
        let mut client = self.server.program(&self.mariadb);
        client.args(["--no-defaults", "--silent", "--batch", "--skip-column-names"]);
        client.arg(format!("--database={database}"));
        client
    }
}

impl Database for MariaDb {
    fn engine(&self) -> &'static str {
        "mariadb"
    }

    fn server(&self) -> &Server {
        &self.server
    }

    fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    fn administrator(&self, database: &str) -> Command {
        let mut client = self.client_in(database);
        client.arg("--user=root").arg("--socket").arg(self.server.path("socket")).arg("--execute");
        client
    }

    fn login(&self, user: &str, password: &str, authority: Option<&Path>) -> Command {
        let mut client = self.client_in(DATABASE);
        // Without the first, `localhost` would be the socket.
        client.args(["--protocol=tcp", "--host=localhost", &format!("--port={}", self.port())]);
        client.arg(format!("--user={user}")).env("MYSQL_PWD", password);
        match authority {
            Some(path) => client.arg("--ssl-verify-server-cert").arg("--ssl-ca").arg(path),
            None => client.arg("--skip-ssl"),
        };
        client.arg("--execute");
        client
    }

    fn answers(&self) -> bool {
        said(self.administrator("mysql").arg("SELECT 1")).is_ok()
    }

    fn create_user(&self, name: &str, password: &str) {
        let (name, password) = (literal(name), literal(password));
        self.sql(&format!("CREATE USER {name}@'%' IDENTIFIED BY {password}; GRANT ALL ON {DATABASE}.* TO {name}@'%'"));
    }

    fn set_password(&self, name: &str, password: &str) {
        self.sql(&format!("ALTER USER {}@'%' IDENTIFIED BY {}", literal(name), literal(password)));
    }

    fn connections_of(&self, user: &str) -> usize {
        let user = literal(user);
        let counted = self.sql(&format!("SELECT count(*) FROM information_schema.processlist WHERE user = {user}"));
        counted.parse().expect("a number")
    }

    fn drop_connections_of(&self, user: &str) {
        self.sql(&format!("KILL USER {}", literal(user)));
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
