//! Three Sealwards behind haproxy, as they run in production: one bucket, one key of KMS, one catalogue in
//! `PostgreSQL` with the tokens in it, one secret for TLS tickets, and a spool for each of them.
//!
//! Each is in a network namespace of its own, with one cable to its clients and the store and another to the
//! database, so that it can be cut off from the database alone. All the rest, this test too, is in a namespace
//! around them that nobody else is in: see [`alone`]. haproxy passes connections on as they are, prefers who has
//! all it needs, and relays to the replicas what listens on the loopback interface.

pub(crate) mod load;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixStream,
    },
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use sealward::tls;

use crate::{
    servers::{DATABASE, Database as _, Postgres},
    standin::{moto, text, under_kms},
    support::{Answer, Sealward, Site, eventually, sealward},
};

/// How replicas are called, here and by haproxy.
pub(crate) const NAMES: [&str; 3] = ["one", "two", "three"];
/// Where clients come in.
pub(crate) const FRONT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8443));

/// Where replicas find the store and the database.
const STORE: &str = "10.203.0.1";
const DATABASE_AT: &str = "10.203.1.1";
const STORE_PORT: u16 = 5000;
const HTTPS: u16 = 8443;
const ADMIN: u16 = 9464;
const PASSWORD: &str = "first";

/// The test that runs in a network of its own.
const INSIDE: &str = "SEALWARD_TEST_INSIDE";
/// The namespace that the program is to run in.
const NAMESPACE: &str = "SEALWARD_TEST_NAMESPACE";
const PROGRAM: &str = "SEALWARD_TEST_PROGRAM";
/// Stands in for the program, and becomes it, so that its signals are the program's.
const WRAPPER: &str = r#"#!/bin/sh
exec ${SEALWARD_TEST_NAMESPACE:+nsenter "--net=$SEALWARD_TEST_NAMESPACE"} "$SEALWARD_TEST_PROGRAM" "$@"
"#;

/// Has `test`, which is the body of the test called `name`, done in a network of its own: by this binary again,
/// in namespaces that root or any user may make, and that are gone with it.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some_and(|inside| inside == name) {
        // The names of namespaces are files in there, and nobody else is to see ours.
        run("mount", ["-t", "tmpfs", "tmpfs", "/run"]);
        ip("link set lo up");
        return test();
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let wrapper = folder.path().join("sealward");
    fs::write(&wrapper, WRAPPER).expect("writes");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("is ours");
    let again = Command::new("unshare")
        .args(way_in())
        .arg("--")
        .arg(env::current_exe().expect("this binary"))
        .args(["--exact", name])
        .env(INSIDE, name)
        .env(PROGRAM, sealward().get_program())
        .env("SEALWARD_BIN", &wrapper)
        .output()
        .expect("unshare is there");
    let words = [again.stdout, again.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(again.status.success() && words.contains("1 passed"), "{words}");
}

/// What `unshare` is told for a network that whoever runs this may change.
fn way_in() -> &'static [&'static str] {
    const ROOT: &[&str] = &["--net", "--mount"];
    const USER: &[&str] = &["--user", "--map-current-user", "--keep-caps", "--net", "--mount"];
    let refused = |way: &[&str]| {
        let mut tried = Command::new("unshare");
        tried.args(way).args(["--", "ip", "link", "set", "lo", "up"]).env("PATH", with_sbin());
        match tried.output() {
            Ok(tried) if tried.status.success() => None,
            Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).into_owned()),
            Err(error) => Some(error.to_string()),
        }
    };
    let Some(as_root) = refused(ROOT) else { return ROOT };
    let Some(as_user) = refused(USER) else { return USER };
    panic!(
        "no network of one's own can be had here. That takes `unshare` (util-linux) and `ip` (iproute2), and root or \
         users who may make namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone): \
         {as_root}, {as_user}"
    );
}

/// Three replicas, and what is around them.
pub(crate) struct Fleet {
    replicas: [Option<Sealward>; 3],
    balancer: Balancer,
    pub(crate) database: Postgres,
    /// Which all of them share but for their configuration.
    pub(crate) site: Site,
    bucket: String,
    key: String,
    away: &'static str,
}

/// haproxy, which ends with this.
struct Balancer {
    child: Child,
    /// The connections of clients that have ended: who they came from, and the replica they went to.
    ended: Arc<Mutex<Vec<(String, String)>>>,
}

impl Fleet {
    /// All three serve, and a client's token is good. `away` is the catalogue's `on_unavailable`.
    pub(crate) fn start(away: &'static str) -> Self {
        network();
        let database = database();
        let (aws, bucket) = (moto(), moto().bucket("fleet"));
        let key = aws.key();
        let site = aws.site().with("AWS_ENDPOINT_URL", &format!("http://{STORE}:{STORE_PORT}"));
        let addresses: Vec<String> = (0..NAMES.len()).map(|replica| place(0, replica).to_string()).collect();
        tls::dev::ensure(&site.path("tls"), &addresses).expect("a certificate");
        fs::write(site.path("tickets.key"), [42; 32]).expect("writes");
        let balancer = Balancer::start(&site, &database);
        let mut fleet = Self { replicas: [None, None, None], balancer, database, site, bucket, key, away };
        fs::write(fleet.site.path("sealward.toml"), fleet.text(0)).expect("writes");
        fleet.site.token = fleet.token("tester");
        for replica in 0..NAMES.len() {
            fleet.serve(replica);
        }
        fleet
    }

    /// The configuration of a replica.
    fn text(&self, replica: usize) -> String {
        let (database, name) = (&self.database, NAMES[replica]);
        let url = database.url("app", PASSWORD, DATABASE).replace("localhost", DATABASE_AT);
        let spool = if self.away == "spool" { format!("spool = \"spool-{name}\"\n") } else { String::new() };
        let catalog = format!(
            "[catalog]\nurl = \"{url}\"\ntls = {{ roots = \"{}\" }}\nwait = \"5s\"\non_unavailable = \"{}\"\n{spool}",
            database.ca().display(),
            self.away
        );
        let free = "bind = \"127.0.0.1:0\"";
        under_kms(&self.bucket, &self.key, "prefix = \"records/\"\n")
            .replacen(free, &format!("bind = \"{}\"", address(replica, HTTPS)), 1)
            .replacen(free, &format!("bind = \"{}\"", address(replica, ADMIN)), 1)
            .replacen(" } } }", " } }, ticket_secret = \"tickets.key\" }", 1)
            .replace("tokens = \"tokens.json\"", "tokens = { catalog = true }")
            .replace("level = \"debug\"", "level = \"info\"")
            + &catalog
    }

    /// Has a replica serve, for the first time or again, until haproxy sends it clients.
    pub(crate) fn serve(&mut self, replica: usize) {
        let namespace = format!("/run/netns/{}", NAMES[replica]);
        let server = self.site.serve_among(&self.text(replica), &[(NAMESPACE, namespace)]);
        self.replicas[replica] = Some(server);
        eventually("haproxy sends it clients", || self.is_up(replica));
    }

    /// SIGTERM, of which its connections have been told then, and haproxy has found out.
    pub(crate) fn end(&self, replica: usize) {
        let server = self.replica(replica);
        server.signal("TERM");
        server.wait_for_line(|line| line.contains("\"message\":\"draining\""));
        eventually("haproxy sends it nobody new", || !self.is_up(replica));
    }

    /// The good end that it comes to.
    pub(crate) fn await_end(&mut self, replica: usize) {
        let mut server = self.replicas[replica].take().expect("it runs");
        let code = server.wait();
        assert!(code.success(), "{}: {code}", NAMES[replica]);
    }

    /// SIGKILL, and the end.
    pub(crate) fn kill(&mut self, replica: usize) {
        self.replicas[replica].take().expect("it runs").kill();
    }

    /// The one that runs.
    pub(crate) fn replica(&self, replica: usize) -> &Sealward {
        self.replicas[replica].as_ref().expect("it runs")
    }

    /// Pulls the plug of the cable between a replica and the database.
    pub(crate) fn cut_off(replica: usize) {
        ip(&format!("link set {}-db down", NAMES[replica]));
    }

    /// Puts it back.
    pub(crate) fn join_again(replica: usize) {
        ip(&format!("link set {}-db up", NAMES[replica]));
    }

    /// Whether haproxy finds that it has all it needs.
    pub(crate) fn is_up(&self, replica: usize) -> bool {
        let server = format!("whole,{},", NAMES[replica]);
        // The 18th field of its table is the state.
        self.ask("show stat").lines().any(|line| line.starts_with(&server) && line.split(',').nth(17) == Some("UP"))
    }

    /// What a replica says of its readiness.
    pub(crate) fn readiness(&self, replica: usize) -> Answer {
        self.site.curl_bare([format!("http://{}/readyz", self.replica(replica).admin)])
    }

    /// The replica that a client's connection from `port` is passed on to now.
    pub(crate) fn serving(&self, port: u16) -> Option<String> {
        let from = format!(" src={}:{port} ", load::CLIENTS_AT);
        let sessions = self.ask("show sess");
        let session = sessions.lines().find(|line| line.contains(&from))?;
        let server = session.split_once(" srv=")?.1.split(' ').next()?;
        NAMES.contains(&server).then(|| server.to_owned())
    }

    /// The replica that a client's connection from `port` was passed on to, once it has ended.
    pub(crate) fn served(&self, port: u16) -> String {
        let from = format!("{}:{port}", load::CLIENTS_AT);
        let found = || {
            let ended = self.balancer.ended.lock().expect("not poisoned");
            ended.iter().find(|(client, _)| *client == from).map(|(_, replica)| replica.clone())
        };
        eventually("haproxy says where it went", || found().is_some());
        found().expect("it is there")
    }

    /// A new token of that name, for everything.
    pub(crate) fn token(&self, name: &str) -> String {
        self.cli(&["token", "new", name]).trim_end().to_owned()
    }

    /// The names that the catalogue has, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let lines = self.cli(&["objects", "--json", "--limit", "1000000"]);
        let named = |line: &str| text(&serde_json::from_str::<serde_json::Value>(line).expect("JSON")["name"]);
        let mut names: Vec<String> = lines.lines().map(named).collect();
        names.sort_unstable();
        names
    }

    /// What a command says that must go well. It is run beside the replicas.
    fn cli(&self, args: &[&str]) -> String {
        let mut command = self.site.command();
        let output = command.args(args).arg("--config").arg(self.site.path("sealward.toml")).output().expect("starts");
        said(&format!("sealward {args:?}"), output)
    }

    /// What haproxy answers to `command`.
    fn ask(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(self.site.path(SOCKET)).expect("haproxy listens");
        writeln!(socket, "{command}").expect("takes a command");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answers");
        answer
    }
}

/// Where haproxy is asked and told things, in the site's folder.
const SOCKET: &str = "haproxy.sock";

impl Balancer {
    fn start(site: &Site, database: &Postgres) -> Self {
        let config = site.path("haproxy.cfg");
        fs::write(&config, balancer(site, database)).expect("writes");
        let mut child = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&config)
            .env("PATH", with_sbin())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("haproxy is there: `make test` sees to it");
        let lines = BufReader::new(child.stdout.take().expect("is piped"));
        let ended = Arc::<Mutex<Vec<_>>>::default();
        let into = Arc::clone(&ended);
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let Some((client, replica)) = line.strip_prefix("ended ").and_then(|line| line.split_once(' ')) else {
                    continue;
                };
                into.lock().expect("not poisoned").push((client.to_owned(), replica.to_owned()));
            }
        });
        eventually("haproxy listens", || UnixStream::connect(site.path(SOCKET)).is_ok());
        Self { child, ended }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration of haproxy.
fn balancer(site: &Site, database: &Postgres) -> String {
    let moto = moto().endpoint.strip_prefix("http://").expect("is plain HTTP");
    let (socket, port) = (site.path(SOCKET).display().to_string(), database.port());
    let (whole, ready) = (backend("whole", "string '\"degraded\":[]'"), backend("ready", "status 200"));
    format!(
        r#"global
  stats socket {socket} mode 600 level admin
  log stdout format raw local0
defaults
  mode tcp
  timeout connect 2s
  timeout client 5m
  timeout server 5m
  # Who is slow to say isn't gone.
  timeout check 10s
listen store
  bind {STORE}:{STORE_PORT}
  server moto {moto}
listen database
  bind {DATABASE_AT}:{port}
  server postgres 127.0.0.1:{port}
frontend front
  bind {FRONT}
  log global
  log-format "ended %ci:%cp %s"
  use_backend whole if {{ nbsrv(whole) gt 0 }}
  default_backend ready
{whole}{ready}"#
    )
}

/// The replicas whose readiness is as expected: docs/drills/replica-gone.md has the same.
fn backend(name: &str, expected: &str) -> String {
    let server = |replica: usize| format!("  server {} {}\n", NAMES[replica], address(replica, HTTPS));
    let servers: String = (0..NAMES.len()).map(server).collect();
    format!(
        "backend {name}\n  option redispatch 1\n  option httpchk GET /readyz\n  http-check expect {expected}\n  \
         default-server check port {ADMIN} inter 500ms fall 1 rise 1\n{servers}"
    )
}

/// The replicas' namespaces, and their two cables each.
fn network() {
    for (bridge, here) in [("hub", STORE), ("db", DATABASE_AT)] {
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("address add {here}/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
    }
    for (replica, name) in NAMES.iter().enumerate() {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        for (net, bridge, socket) in [(0, "hub", "eth0"), (1, "db", "eth1")] {
            let (plug, there) = (format!("{name}-{bridge}"), place(net, replica));
            ip(&format!("link add {plug} type veth peer name {socket} netns {name}"));
            ip(&format!("link set {plug} master {bridge}"));
            ip(&format!("link set {plug} up"));
            ip(&format!("-n {name} address add {there}/24 dev {socket}"));
            ip(&format!("-n {name} link set {socket} up"));
        }
    }
}

/// Where a replica is to its clients, to haproxy, and to this test.
fn address(replica: usize, port: u16) -> SocketAddr {
    SocketAddr::from((place(0, replica), port))
}

/// Where a replica is in one of its two networks.
fn place(net: u8, replica: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 203, net, u8::try_from(11 + replica).expect("three of them"))
}

/// A database whose certificate is for the address too at which replicas find it.
fn database() -> Postgres {
    let mut database = Postgres::start();
    database.kill();
    let certificate = database.server().certificate.clone();
    let owner = fs::metadata(&certificate.key_pem).expect("is there");
    let folder = certificate.key_pem.parent().expect("a folder");
    tls::dev::ensure(folder, &[DATABASE_AT.to_owned()]).expect("a certificate");
    for path in [&certificate.cert_pem, &certificate.key_pem] {
        chown(path, Some(owner.uid()), Some(owner.gid())).expect("root may, and to ourselves anybody");
    }
    database.restart();
    database.create_user("app", PASSWORD);
    database
}

/// Debian keeps haproxy and `ip` where only root looks.
fn with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default())
}

fn ip(arguments: &str) {
    run("ip", arguments.split(' '));
}

fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) {
    let args: Vec<&str> = args.into_iter().collect();
    let output = Command::new(program).args(&args).env("PATH", with_sbin()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (iproute2, mount) isn't there: {error}"));
    said(&format!("{program} {args:?}"), output);
}

/// What it has printed, having ended well.
fn said(what: &str, output: Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {words}");
    String::from_utf8(output.stdout).expect("is text")
}
