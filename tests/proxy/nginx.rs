//! nginx as an app: it says what it was asked, and keeps what it is given.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::support::{eventually, free_address};

/// One nginx, in a folder of its own; it ends with this.
pub(crate) struct Nginx {
    child: Option<Child>,
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

/// What it says of a request, one line each.
const SAYS: &str = "name=NAME\\nmethod=$request_method\\nuri=$request_uri\\nhost=$http_host\\nprotocol=$server_protocol\\n\
    forwarded_for=$http_x_forwarded_for\\nproto=$http_x_forwarded_proto\\nport=$http_x_forwarded_port\\n\
    xhost=$http_x_forwarded_host\\nforwarded=$http_forwarded\\nauthorization=$http_authorization\\n\
    caller=$http_x_sealward_caller\\nconnection=$http_connection\\nhop=$http_x_hop\\nkeep=$http_x_keep\\n\
    cookie=$http_cookie\\ntrace=$http_x_amzn_trace_id\\nid=$http_x_request_id\\nmtls=$http_x_amzn_mtls_clientcert_subject\\n\
    clientcert=$http_x_amzn_mtls_clientcert\\nserial=$http_x_amzn_mtls_clientcert_serial_number\\n\
    leaf=$http_x_amzn_mtls_clientcert_leaf\\nanything=$http_x_amzn_mtls_anything\\n\
    realip=$http_x_real_ip\\nexpect=$http_expect\\nte=$http_te\\n";

impl Nginx {
    /// One called `name`, on a free port, with `more` in its server.
    pub(crate) fn start(name: &str, more: &str) -> Self {
        Self::start_at(name, free_address(), more, "")
    }

    /// The same over TLS, with the certificate and key of `tls`.
    pub(crate) fn with_tls(name: &str, tls: &Path) -> Self {
        let pair = format!("ssl_certificate {0}/cert.pem; ssl_certificate_key {0}/key.pem;", tls.display());
        Self::start_at(name, free_address(), &pair, "ssl")
    }

    pub(crate) fn start_at(name: &str, address: SocketAddr, more: &str, ssl: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for below in ["data", "body"] {
            fs::create_dir(folder.path().join(below)).expect("makes");
        }
        let root = folder.path().display();
        let says = SAYS.replace("NAME", name);
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log; worker_processes 1;\n\
             events {{ worker_connections 512; }}\n\
             http {{ underscores_in_headers on; access_log {root}/access.log; client_body_temp_path {root}/body; client_max_body_size 0;\n\
             proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
             server {{ listen {address} {ssl}; {more}\n\
             location / {{ default_type text/plain; add_header X-App {name}; return 200 \"{says}\"; }}\n\
             location /data/ {{ root {root}; }}\n\
             location = /status/404 {{ return 404 'gone'; }}\n\
             location = /status/500 {{ return 500 'broken'; }} }} }}\n"
        );
        let config = folder.path().join("nginx.conf");
        fs::write(&config, text).expect("writes");
        let mut nginx = Self { child: None, folder, address };
        nginx.go();
        nginx
    }

    /// Starts it, again.
    pub(crate) fn go(&mut self) {
        // Debian keeps it off the PATH of all but root.
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let child = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("nginx.conf"))
            .arg("-p")
            .arg(self.folder.path())
            .args(["-e", "error.log"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is there: `make test` sees to it");
        self.child = Some(child);
        let address = self.address;
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A file that it serves below `/data/`.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) {
        fs::write(self.data(name), bytes).expect("writes");
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// How many requests it has answered.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(path)).count()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}
