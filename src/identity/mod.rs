//! Who is calling, and may they.
//!
//! A [`Caller`] comes out of a bearer token, a signed link or a client's certificate.
//! Nothing is open unless its route says so.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Kind};

mod certificate;
mod file;
mod link;
mod token;

pub use certificate::Certificates;
pub use file::{TokenFile, TokenFileError};
pub use link::{Link, MAX_LINK_AGE};
pub use token::{Token, TokenKey};

/// Who is calling.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's or the certificate's name, for the log; `anonymous` on public routes.
    pub name: Cow<'static, str>,
    /// The token's id; none on public routes, nor behind a certificate.
    pub token: Option<String>,
    grant: Grant,
}

/// What a caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Classes by name; every one when empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub classes: BTreeSet<String>,
    /// Actions; every one when empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub actions: BTreeSet<Action>,
}

/// What can be done to a class's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// GET, HEAD, and conditions that reveal what stands there.
    Read,
    /// PUT and POST.
    Write,
    /// DELETE.
    Delete,
    /// `?list`.
    List,
    /// Signed links for others to read by.
    Share,
}

/// A token as it is kept: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What people call it.
    pub name: String,
    /// The public half of the token.
    pub id: String,
    /// HMAC-SHA-256 of the secret half under the file's key, base64.
    pub hash: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it ends: seconds since 1970; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// What it may.
    #[serde(flatten)]
    pub grant: Grant,
}

/// Where tokens are kept. A revocation there ends a token within seconds.
#[async_trait]
pub trait TokenStore: Send + Sync + 'static {
    /// The record under `id`.
    async fn find(&self, id: &str) -> Result<Option<TokenRecord>, Fault>;

    /// Takes note that the token `id` has let somebody in.
    fn used(&self, id: &str) {
        let _ = id;
    }

    /// The key that hashes tokens and signs links.
    fn key(&self) -> &TokenKey;
}

impl Caller {
    /// A caller on a public route, who may do all that the route does.
    pub fn anonymous() -> Self {
        Self { name: "anonymous".into(), token: None, grant: Grant::default() }
    }

    /// Whether the caller may do `action` to objects of `class`.
    pub fn may(&self, action: Action, class: &str) -> bool {
        (self.grant.classes.is_empty() || self.grant.classes.contains(class))
            && (self.grant.actions.is_empty() || self.grant.actions.contains(&action))
    }

    /// Whether nothing is kept from the caller.
    pub fn may_all(&self) -> bool {
        self.grant.classes.is_empty() && self.grant.actions.is_empty()
    }

    /// The caller if they may, else 403.
    ///
    /// # Errors
    /// 403 that names the action.
    pub fn require(&self, action: Action, class: &str) -> Result<(), Fault> {
        if self.may(action, class) {
            return Ok(());
        }
        Err(Fault::new(Kind::Forbidden, format!("you may not {action} here"))
            .because(format!("caller `{}`, class `{class}`", self.name)))
    }
}

/// The caller behind an `Authorization` header.
///
/// # Errors
/// 401, the same for every reason, so that nobody learns which half was wrong;
/// the reason is in the detail.
pub async fn authenticate(store: &dyn TokenStore, authorization: Option<&[u8]>) -> Result<Caller, Fault> {
    let refused = |why: &str| Fault::new(Kind::Unauthorized, "a valid access token is needed").because(why);
    let value = authorization.ok_or_else(|| refused("no Authorization header"))?;
    let token = std::str::from_utf8(value)
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .and_then(|(_, token)| Token::parse(token.trim()))
        .ok_or_else(|| refused("not a bearer token of ours"))?;
    let record = store.find(token.id()).await?.ok_or_else(|| refused("unknown or revoked"))?;
    if !store.key().matches(&token, &record) {
        return Err(refused("the secret half is wrong"));
    }
    let caller = caller(record).ok_or_else(|| refused("expired"))?;
    store.used(token.id());
    Ok(caller)
}

/// The caller on whose behalf a link was signed, with leave for that object alone.
///
/// # Errors
/// 401 for a link that is forged, expired, or whose signer's token is gone.
pub async fn follow(store: &dyn TokenStore, link: &Link, class: &str, key: &str) -> Result<Caller, Fault> {
    let refused = |why: &str| Fault::new(Kind::Unauthorized, "this link is not valid, or no longer").because(why);
    if !store.key().verifies(link, class, key) {
        return Err(refused("the signature is wrong"));
    }
    if link.expires <= unix_now() {
        return Err(refused("expired"));
    }
    let record = store.find(&link.by).await?.ok_or_else(|| refused("its signer's token is revoked"))?;
    let mut caller = caller(record).ok_or_else(|| refused("its signer's token has expired"))?;
    if !caller.may(Action::Share, class) || !caller.may(Action::Read, class) {
        return Err(refused("its signer may no longer share or read"));
    }
    caller.grant.actions = BTreeSet::from([Action::Read]);
    Ok(caller)
}

fn caller(record: TokenRecord) -> Option<Caller> {
    if record.expires.is_some_and(|expires| expires <= unix_now()) {
        return None;
    }
    Some(Caller { name: record.name.into(), token: Some(record.id), grant: record.grant })
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Share => "share",
        })
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Read, Self::Write, Self::Delete, Self::List, Self::Share]
            .into_iter()
            .find(|action| action.to_string() == text)
            .ok_or_else(|| format!("`{text}` is none of read, write, delete, list, share"))
    }
}

#[cfg(test)]
mod tests;
