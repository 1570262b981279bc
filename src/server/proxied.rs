//! PROXY protocol version 2: who is really at the other end, by the word of a
//! balancer that passes bytes on.
//!
//! Only peers of the networks that the listener lists speak it, and they have to: what
//! anybody else sends is the beginning of a handshake, or rubbish.

use std::{io, net::SocketAddr, sync::Arc};

use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What every header begins with: its mark, version, command, family and length; bytes.
const MINIMUM_LENGTH: usize = 16;
/// The most that a header may have besides its first sixteen bytes: addresses, and what
/// balancers add to them.
const MOST: usize = 4096;

/// The networks that balancers of one listener are in.
#[derive(Clone, Debug)]
pub struct Balancers(Arc<[IpNet]>);

impl Balancers {
    /// Balancers anywhere in `networks`.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Whether `peer` is one of them.
    pub(super) fn has(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Reads the header off `socket`, and not a byte more: whom it names as the client, or
/// `None` where the balancer speaks for itself, as its health checks do.
///
/// # Errors
/// When the peer says something else, or ends.
pub(super) async fn client(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("PROXY protocol: {what}"));
    let mut header = vec![0; MINIMUM_LENGTH];
    socket.read_exact(&mut header).await?;
    if !header.starts_with(PROTOCOL_PREFIX) {
        return Err(wrong("no header of version 2"));
    }
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length > MOST {
        return Err(wrong("a header of more than 4 KiB"));
    }
    header.resize(MINIMUM_LENGTH + length, 0);
    socket.read_exact(&mut header[MINIMUM_LENGTH..]).await?;
    let header = Header::try_from(header.as_slice()).map_err(|_| wrong("a header that can't be read"))?;
    Ok(match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(found)) => Some((found.source_address, found.source_port).into()),
        (Command::Proxy, Addresses::IPv6(found)) => {
            let address = std::net::IpAddr::from(found.source_address).to_canonical();
            Some((address, found.source_port).into())
        }
        // Its own check; or over a Unix socket, or from nowhere that is told: whose word
        // it is has to do.
        (Command::Local, _) | (Command::Proxy, Addresses::Unix(_) | Addresses::Unspecified) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x05\x7f\x00\x00\x01\xd4\x31\x01\xbb";

    async fn read(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut rest = bytes;
        (client(&mut rest).await, rest.len())
    }

    #[tokio::test]
    async fn a_header_is_read_and_not_a_byte_more() {
        let (found, rest) = read(&[V4, b"\x16\x03\x01"].concat()).await;
        assert_eq!((found.expect("a header"), rest), (Some("203.0.113.5:54321".parse().expect("an address")), 3));
        // The balancer's own health check.
        let local = [PROTOCOL_PREFIX, b"\x20\x00\x00\x00"].concat();
        assert_eq!(read(&local).await.0.expect("a header"), None);
        // With more behind the addresses, which is passed over.
        let mut more = V4.to_vec();
        more[15] += 4;
        more.extend(b"\x04\x00\x01x");
        assert!(read(&more).await.0.expect("a header").is_some());
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let mut long = V4.to_vec();
        (long[14], long[15]) = (0x10, 0x01);
        let mut version = V4.to_vec();
        version[12] = 0x11;
        let mut family = V4.to_vec();
        family[15] = 4;
        for bytes in [
            &b"PROXY TCP4 203.0.113.5 127.0.0.1 1 2\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaa",
            b"",
            &V4[..20],
            &long,
            &version,
            &family,
        ] {
            assert!(read(bytes).await.0.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn balancers_are_those_of_the_networks() {
        let balancers = Balancers::new(["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network")));
        for (peer, is) in [
            ("10.1.2.3:9", true),
            ("[::ffff:10.1.2.3]:9", true),
            ("[fd00::1]:9", true),
            ("11.1.2.3:9", false),
            ("127.0.0.1:9", false),
            ("[fe80::1]:9", false),
        ] {
            assert_eq!(balancers.has(peer.parse().expect("an address")), is, "{peer}");
        }
    }
}
