//! Real database servers, each in a folder and on a port of its own. TLS is required of
//! everybody but the administrator, who comes by the socket in that folder and in no other way.

mod mariadb;
mod postgres;
mod server;

use std::{path::Path, process::Command, thread};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub(crate) use self::{mariadb::MariaDb, postgres::Postgres, server::Server};

/// The database that each of them has.
pub(crate) const DATABASE: &str = "sealward";

/// Who asks a server, and in which way.
#[derive(Clone, Copy)]
pub(crate) enum By<'a> {
    /// Who may do everything, by the socket.
    Administrator,
    /// Over TLS, to `localhost`, whose certificate must be of this authority.
    Tls { user: &'a str, password: &'a str, authority: &'a Path },
    /// Over TCP as it is.
    Plain { user: &'a str, password: &'a str },
}

/// A server, whichever it is. What doesn't go well is a panic, but for [`Database::ask`].
pub(crate) trait Database: Send + Sync {
    /// As a secret of RDS calls it: `postgres` or `mariadb`.
    fn engine(&self) -> &'static str;

    fn server(&self) -> &Server;

    fn server_mut(&mut self) -> &mut Server;

    /// Its command-line client, by the socket, in `database`; one argument is missing, a statement.
    fn administrator(&self, database: &str) -> Command;

    /// The same over TCP, and over TLS where the server's authority is known.
    fn login(&self, user: &str, password: &str, authority: Option<&Path>) -> Command;

    fn client(&self, by: By<'_>) -> Command {
        match by {
            By::Administrator => self.administrator(DATABASE),
            By::Tls { user, password, authority } => self.login(user, password, Some(authority)),
            By::Plain { user, password } => self.login(user, password, None),
        }
    }

    /// Whether the administrator gets an answer.
    fn answers(&self) -> bool;

    /// A user who may make tables in [`DATABASE`].
    fn create_user(&self, name: &str, password: &str);

    /// From now on; connections that are there stay.
    fn set_password(&self, name: &str, password: &str);

    fn connections_of(&self, user: &str) -> usize;

    /// Ends them; nobody is kept from coming again.
    fn drop_connections_of(&self, user: &str);

    fn port(&self) -> u16 {
        self.server().port
    }

    /// The authority of its certificate, as PEM.
    fn ca(&self) -> &Path {
        &self.server().certificate.ca_pem
    }

    /// What a client of `user` may be told; TLS is for it to know.
    fn url(&self, user: &str, password: &str, database: &str) -> String {
        let [user, password] = [user, password].map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
        format!("{}://{user}:{password}@localhost:{}/{database}", self.engine(), self.port())
    }

    /// What `statement` comes to in [`DATABASE`], or the client's words: rows are lines,
    /// and values are parted by tabs.
    fn ask(&self, by: By<'_>, statement: &str) -> Result<String, String> {
        said(self.client(by).arg(statement))
    }

    /// The same for the administrator, which must go well.
    fn sql(&self, statement: &str) -> String {
        self.ask(By::Administrator, statement)
            .unwrap_or_else(|words| panic!("{} refuses `{statement}`: {words}", self.engine()))
    }

    /// SIGKILL, and the end: not one process of it is left.
    fn kill(&mut self) {
        self.server_mut().kill();
    }

    /// Starts it again in the same place, and waits until it serves.
    fn restart(&mut self) {
        self.server_mut().start();
        self.server().await_that(|| self.answers());
    }
}

/// Has `test` made with a fresh server of each kind, at the same time. Which of them a panic
/// speaks of is the name of its thread.
pub(crate) fn on_each(test: impl Fn(&mut dyn Database) + Sync) {
    type Start = fn() -> Box<dyn Database>;
    let starts: [(&str, Start); 2] =
        [("postgres", || Box::new(Postgres::start())), ("mariadb", || Box::new(MariaDb::start()))];
    thread::scope(|scope| {
        for (name, start) in starts {
            let test = &test;
            let thread = thread::Builder::new().name(name.to_owned());
            thread.spawn_scoped(scope, move || test(start().as_mut())).expect("a thread");
        }
    });
}

/// What a client prints, or says of its failure.
fn said(client: &mut Command) -> Result<String, String> {
    let output = client.output().expect("starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
