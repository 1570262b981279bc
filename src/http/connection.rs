//! What a request may know of the connection it came on.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::HeaderValue;
use tokio::sync::{Notify, watch};

use crate::tls::clients::Presented;

/// One client connection. The server puts an `Arc` of it into the extensions of each request.
#[derive(Debug)]
pub struct Connection {
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Which of our addresses was called.
    pub local: SocketAddr,
    /// What the handshake settled; `None` on a listener without TLS.
    pub tls: Option<TlsInfo>,
    /// Its other end, as headers tell it.
    told: OnceLock<HeaderValue>,
    closing: AtomicBool,
    close: Notify,
    /// How many of its bytes go past HTTP now, and whether they may no more.
    tunnels: watch::Sender<Tunnels>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tunnels {
    open: usize,
    cut: bool,
    /// Whether there ever was one.
    switched: bool,
}

/// A connection whose protocol was switched, open until this is dropped.
#[derive(Debug)]
pub struct Tunnel(watch::Sender<Tunnels>);

impl Tunnel {
    /// Resolves when the server ends it.
    pub async fn cut(&self) {
        // The sender is ours.
        let _ = self.0.subscribe().wait_for(|tunnels| tunnels.cut).await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.send_modify(|tunnels| tunnels.open -= 1);
    }
}

/// What a TLS handshake settled. The names are rustls's own, so their number is bounded.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// The key exchange group, such as `X25519MLKEM768`.
    pub group: &'static str,
    /// The server name the client asked for, if it did.
    pub sni: Option<String>,
    /// The client's certificate, if it brought one.
    pub client: Option<Arc<Presented>>,
}

impl Connection {
    /// A connection between `peer` and `local`.
    pub fn new(peer: SocketAddr, local: SocketAddr, tls: Option<TlsInfo>) -> Self {
        Self {
            peer,
            local,
            tls,
            told: OnceLock::new(),
            closing: AtomicBool::new(false),
            close: Notify::new(),
            tunnels: watch::Sender::default(),
        }
    }

    /// Asks for the connection to end once the requests under way are answered:
    /// HTTP/1 says `Connection: close`, HTTP/2 sends GOAWAY. Returns at once;
    /// asking twice is asking once.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.close.notify_one();
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The peer's address without its port, as `X-Forwarded-For` has it.
    pub fn peer_told(&self) -> &HeaderValue {
        self.told.get_or_init(|| {
            let address = self.peer.ip().to_canonical().to_string();
            // An address is always a header value.
            HeaderValue::try_from(address).unwrap_or(HeaderValue::from_static("unknown"))
        })
    }

    /// What is said once the protocol of this connection is switched.
    pub fn tunnel(&self) -> Tunnel {
        self.tunnels.send_modify(|tunnels| {
            tunnels.open += 1;
            tunnels.switched = true;
        });
        Tunnel(self.tunnels.clone())
    }

    /// Whether its protocol was switched.
    pub fn is_switched(&self) -> bool {
        self.tunnels.borrow().switched
    }

    /// Resolves when no tunnel is open.
    pub async fn no_tunnel(&self) {
        let _ = self.tunnels.subscribe().wait_for(|tunnels| tunnels.open == 0).await;
    }

    /// Ends every tunnel.
    pub fn cut_tunnels(&self) {
        self.tunnels.send_modify(|tunnels| tunnels.cut = true);
    }

    /// Resolves when [`Connection::close`] was called. For the one task that serves the connection.
    pub async fn close_asked(&self) {
        self.close.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn asking_before_anyone_listens_is_not_lost() {
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Connection::new(here, here, None);
        connection.close();
        connection.close();
        connection.close_asked().await;
    }
}
