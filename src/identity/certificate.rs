//! Callers by the certificates that their connections came with.

use std::str::FromStr;

use super::{Action, Caller, Grant};
use crate::{
    config::{Bears, Certified, San},
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

    /// The caller whose certificate `client` is. One that is handed on without a look is
    /// nobody's.
    pub fn caller(&self, client: &Presented) -> Option<Caller> {
        if !client.is_verified() {
            return None;
        }
        let fits = |known: &Certified| {
            known.listener.is_none_or(|listener| client.listener() == Some(listener)) && bears(client, &known.bears)
        };
        let (known, grant) = self.0.iter().find(|(known, _)| fits(known))?;
        Some(Caller { name: known.name.clone().into(), token: None, grant: grant.clone() })
    }
}

fn bears(client: &Presented, wanted: &Bears) -> bool {
    match wanted {
        Bears::Name(kind, name) => client.names.iter().any(|(of, found)| of == kind && same_name(*kind, found, name)),
        Bears::Subject(attributes) => attributes.iter().all(|(oid, value)| {
            let mut of_kind = client.attributes.iter().filter(|(found, _)| found == oid);
            // Of two common names none is the caller's, whatever they are written in.
            of_kind.next().is_some_and(|(_, found)| found.as_ref() == Some(value)) && of_kind.next().is_none()
        }),
        Bears::Fingerprint(fingerprint) => client.fingerprint == *fingerprint,
        Bears::Anything => true,
    }
}

/// A DNS name is one whatever its case, and so is a mail address's host; a URI is what it is.
fn same_name(kind: San, one: &str, other: &str) -> bool {
    match kind {
        San::Dns => one.eq_ignore_ascii_case(other),
        San::Uri => one == other,
        San::Mail => match (one.rsplit_once('@'), other.rsplit_once('@')) {
            (Some((one, at)), Some((other, host))) => one == other && at.eq_ignore_ascii_case(host),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_their_kind_is() {
        for (kind, one, other, same) in [
            (San::Dns, "A.example", "a.EXAMPLE", true),
            (San::Uri, "spiffe://a/Admin", "spiffe://a/admin", false),
            (San::Uri, "spiffe://a/admin", "spiffe://a/admin", true),
            (San::Mail, "boss@A.example", "boss@a.example", true),
            (San::Mail, "Boss@a.example", "boss@a.example", false),
            (San::Mail, "boss", "boss", false),
        ] {
            assert_eq!(same_name(kind, one, other), same, "{one} {other}");
        }
    }
}
