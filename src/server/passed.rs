//! Sockets that whoever starts us has bound already: systemd's socket activation.
//!
//! Each is taken by the listener whose `bind` is its address, so that the configuration says the same
//! with it and without. While we restart, connections wait in the socket, which stays open.

use std::{fmt, io, net::SocketAddr};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

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
            if !socket_acceptconn(&socket).map_err(io::Error::from).map_err(unusable)? {
                return Err(unusable(io::Error::other("it doesn't listen; the socket unit wants `Accept=no`")));
            }
            socket.set_nonblocking(true).map_err(unusable)?;
            let local = socket.local_addr().map_err(unusable)?;
            sockets.push((socket, local));
        }
        Ok(Self(sockets))
    }

    /// The socket at `bind`.
    pub(super) fn take(&mut self, bind: SocketAddr) -> Option<std::net::TcpListener> {
        let exact = self.0.iter().position(|(_, local)| *local == bind);
        let at = exact.or_else(|| self.0.iter().position(|(socket, local)| takes_both(socket, *local, bind)))?;
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

/// Whether the socket, which is at `local`, takes all that a listener at `bind` would, which is at all
/// addresses of IPv4: systemd's `ListenStream=8443` is at `[::]`, and takes both kinds unless it is told not to.
fn takes_both(socket: &std::net::TcpListener, local: SocketAddr, bind: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified();
    local.port() == bind.port()
        && all(local)
        && all(bind)
        && local.is_ipv6()
        && bind.is_ipv4()
        && socket2::SockRef::from(socket).only_v6().is_ok_and(|only| !only)
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
    fn all_of_ipv6_is_all_of_ipv4_where_it_takes_both_and_nobody_fits_better() {
        let bound = |address: &str, only_v6: bool| {
            let address: SocketAddr = address.parse().expect("an address");
            let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
            let socket = socket.expect("a socket");
            if address.is_ipv6() {
                socket.set_only_v6(only_v6).expect("can be set");
            }
            socket.bind(&address.into()).expect("binds");
            socket.listen(1).expect("listens");
            let socket: std::net::TcpListener = socket.into();
            let local = socket.local_addr().expect("has one");
            (socket, local)
        };
        let of_v4 = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        let (both, local) = bound("[::]:0", false);
        assert!(Passed(vec![(both, local)]).take(of_v4(local.port())).is_some());
        let (six, local) = bound("[::]:0", true);
        let (four, fits) = bound(&of_v4(local.port()).to_string(), false);
        assert!(Passed(vec![(six.try_clone().expect("clones"), local)]).take(fits).is_none(), "IPv4 would be refused");
        let mut passed = Passed(vec![(six, local), (four, fits)]);
        let taken = passed.take(fits).expect("is there").local_addr().expect("has one");
        assert_eq!(taken, fits);
        assert_eq!(passed.take(local).expect("is there").local_addr().expect("has one"), local);
        let (four, fits) = bound("0.0.0.0:0", false);
        let mut six = fits;
        six.set_ip(std::net::Ipv6Addr::UNSPECIFIED.into());
        assert!(Passed(vec![(four, fits)]).take(six).is_none(), "IPv6 would be refused");
    }

    #[test]
    fn what_nobody_takes_is_named_with_a_mend() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let local = socket.local_addr().expect("has one");
        let words = Passed(vec![(socket, local)]).used_up().expect_err("is left").to_string();
        assert!(words.contains(&format!("write `bind = \"{local}\"`")), "{words}");
    }
}
