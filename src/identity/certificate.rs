//! Callers by the certificates that their connections came with.

use std::{net::SocketAddr, str::FromStr};

use super::{Action, Caller, Grant};
use crate::{
    config::{Bears, Certified},
    tls::clients::Presented,
};

/// Who is known by a certificate, and what they may; the first that fits.
#[derive(Debug, Default)]
pub struct Certificates(Vec<(Certified, Grant)>);

impl Certificates {
    /// Those of a configuration.
    pub fn new(known: Vec<Certified>) -> Self {
        let with_grant = |known: Certified| {
            // The configuration takes these names alone.
            let actions = known.actions.iter().filter_map(|name| Action::from_str(name).ok()).collect();
            let grant = Grant { classes: known.classes.clone(), actions };
            (known, grant)
        };
        Self(known.into_iter().map(with_grant).collect())
    }

    /// The caller whose certificate `client` is, on the listener at `local`. One that is
    /// handed on without a look is nobody's.
    pub fn caller(&self, client: &Presented, local: SocketAddr) -> Option<Caller> {
        if !client.is_verified() {
            return None;
        }
        let at = |listener: SocketAddr| {
            listener.port() == local.port() && (listener.ip().is_unspecified() || listener.ip() == local.ip())
        };
        let fits = |known: &Certified| known.listener.is_none_or(at) && bears(client, &known.bears);
        let (known, grant) = self.0.iter().find(|(known, _)| fits(known))?;
        Some(Caller { name: known.name.clone(), token: None, grant: grant.clone() })
    }
}

fn bears(client: &Presented, wanted: &Bears) -> bool {
    match wanted {
        // A DNS name is one whatever its case, and so is no other.
        Bears::Name(name) => client.names.iter().any(|found| found.eq_ignore_ascii_case(name)),
        Bears::Subject(attributes) => attributes.iter().all(|(kind, value)| {
            let mut of_kind = client.subject.iter().filter(|(found, _)| found == kind);
            // Of two common names none is the caller's.
            of_kind.next().is_some_and(|(_, found)| found == value) && of_kind.next().is_none()
        }),
        Bears::Fingerprint(fingerprint) => client.fingerprint == *fingerprint,
        Bears::Anything => true,
    }
}
