//! Connections to targets: plain or TLS, verified by default.

use std::{collections::HashMap, error::Error, fs, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{Uri, uri::Authority};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder, ResolveServerName};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use super::sent::Lent;
use crate::config::{self, Protocol};

/// How long a connection without a request is kept.
const KEPT: Duration = Duration::from_secs(60);
/// How many of those to one target.
const MOST_KEPT: usize = 256;
/// What a target may have sent of a head, and of a body that nobody has read; bytes.
const HTTP1_BUFFER: usize = 128 << 10;
const HTTP2_STREAM: u32 = 256 << 10;
const HTTP2_CONNECTION: u32 = 16 << 20;
const HTTP2_HEAD: u32 = 64 << 10;
/// Pings, so that a dead target is found out.
const PING: Duration = Duration::from_secs(20);

/// The configured name behind an address that a name was looked up to.
pub(super) type Names = ArcSwap<HashMap<String, String>>;

/// Asks for the configured name, whatever address a connection goes to.
struct ByName(Arc<Names>);

impl ResolveServerName for ByName {
    fn resolve(&self, uri: &Uri) -> Result<ServerName<'static>, Box<dyn Error + Send + Sync>> {
        let names = self.0.load();
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        let host = match names.get(authority) {
            Some(name) => name.as_str(),
            None => uri.host().unwrap_or_default(),
        };
        Ok(ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?)
    }
}

pub(super) fn client(
    config: &config::Upstream,
    names: Arc<Names>,
) -> Result<Client<HttpsConnector<HttpConnector>, Lent>, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(config.connect_timeout));
    tcp.set_keepalive(Some(KEPT));
    let tls = HttpsConnectorBuilder::new().with_tls_config(tls(&config.tls)?).https_or_http();
    let tls = match &config.tls.server_name {
        Some(name) => {
            let name = ServerName::try_from(name.clone()).map_err(|_| format!("`server_name`: {name} is no name"))?;
            tls.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
        None => tls.with_server_name_resolver(ByName(names)),
    };
    let connector = match config.protocol {
        Protocol::Http1 => tls.enable_http1().wrap_connector(tcp),
        Protocol::Http2 => tls.enable_http2().wrap_connector(tcp),
    };
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEPT)
        .pool_max_idle_per_host(MOST_KEPT)
        .http1_max_buf_size(HTTP1_BUFFER)
        .http2_only(config.protocol == Protocol::Http2)
        .http2_initial_stream_window_size(HTTP2_STREAM)
        .http2_initial_connection_window_size(HTTP2_CONNECTION)
        .http2_max_header_list_size(HTTP2_HEAD)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        // The client's own Host goes on.
        .set_host(false);
    Ok(builder.build(connector))
}

fn tls(config: &config::UpstreamTls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &config.roots {
        Some(path) => {
            let unread = |error: String| format!("{}: {error}", path.display());
            let pem = fs::read(path).map_err(|error| unread(error.to_string()))?;
            for found in CertificateDer::pem_slice_iter(&pem) {
                let found = found.map_err(|_| unread("is not PEM text".into()))?;
                roots.add(found).map_err(|error| unread(format!("holds what is no authority: {error}")))?;
            }
            if roots.is_empty() {
                return Err(unread("holds no CERTIFICATE block; put the authorities of the targets there".into()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert, key)) = &config.client else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    // The reader's own words may quote what it stumbled over.
    let chain = chain.map_err(|_| format!("{}: can't be read as a certificate in PEM", cert.display()))?;
    let pair =
        PrivateKeyDer::from_pem_file(key).map_err(|_| format!("{}: can't be read as a key in PEM", key.display()))?;
    builder.with_client_auth_cert(chain, pair).map_err(|error| format!("{}: {error}", key.display()))
}
