//! Sockets that whoever starts us has bound already: systemd's socket activation.
//!
//! Each is taken by the listener whose `bind` is its address, so that the configuration says the same
//! with it and without. While we restart, connections wait in the socket, which stays open.

use std::{fmt, io, net::SocketAddr};

use listenfd::ListenFd;

/// What was passed and isn't taken yet.
#[derive(Debug, Default)]
pub struct Passed(Vec<(std::net::TcpListener, SocketAddr)>);

/// A socket that can't be served.
#[derive(Debug)]
pub struct Unusable {
    what: String,
}

impl Passed {
    /// Those that `LISTEN_FDS` counts. Once, and before there are threads: it takes them out of the
    /// environment.
    ///
    /// # Errors
    /// [`Unusable`] for anything but a TCP socket that listens.
    pub fn from_environment() -> Result<Self, Unusable> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for at in 0..passed.len() {
            let unusable = |error: io::Error| Unusable {
                what: format!("socket {} of LISTEN_FDS is no TCP socket (`ListenStream=`): {error}", at + 1),
            };
            let Some(socket) = passed.take_tcp_listener(at).map_err(unusable)? else { continue };
            socket.set_nonblocking(true).map_err(unusable)?;
            let local = socket.local_addr().map_err(unusable)?;
            sockets.push((socket, local));
        }
        Ok(Self(sockets))
    }

    /// The socket at `bind`.
    pub(super) fn take(&mut self, bind: SocketAddr) -> Option<std::net::TcpListener> {
        let at = self.0.iter().position(|(_, local)| same(*local, bind))?;
        Some(self.0.swap_remove(at).0)
    }

    /// That every socket was taken.
    ///
    /// # Errors
    /// [`Unusable`], with the address that nothing in the configuration has.
    pub fn used_up(self) -> Result<(), Unusable> {
        match self.0.first() {
            None => Ok(()),
            Some((_, local)) => Err(Unusable {
                what: format!(
                    "a socket at {local} was passed (LISTEN_FDS), and no listener has it: \
                     write `bind = \"{local}\"` in the configuration, or take it out of the socket unit"
                ),
            }),
        }
    }
}

/// Whether a listener at `bind` means `local`: systemd's `ListenStream=8443` is at `[::]`, which
/// takes IPv4 as well.
fn same(local: SocketAddr, bind: SocketAddr) -> bool {
    local == bind || (local.port() == bind.port() && local.ip().is_unspecified() && bind.ip().is_unspecified())
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Unusable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_by_its_address_alone() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let local = socket.local_addr().expect("has one");
        let mut passed = Passed(vec![(socket, local)]);
        let mut other = local;
        other.set_ip([0, 0, 0, 0].into());
        assert!(passed.take(other).is_none(), "wider than what was passed");
        assert!(passed.take(local).is_some());
        assert!(passed.take(local).is_none(), "once");
        assert!(passed.used_up().is_ok());
    }

    #[test]
    fn all_addresses_are_one() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert!(same(address("[::]:8443"), address("0.0.0.0:8443")));
        assert!(!same(address("[::]:8443"), address("0.0.0.0:8444")));
        assert!(!same(address("[::]:8443"), address("127.0.0.1:8443")));
    }

    #[test]
    fn what_nobody_takes_is_named_with_a_mend() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let local = socket.local_addr().expect("has one");
        let words = Passed(vec![(socket, local)]).used_up().expect_err("is left").to_string();
        assert!(words.contains(&format!("write `bind = \"{local}\"`")), "{words}");
    }
}
