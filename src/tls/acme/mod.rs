//! A certificate out of an authority that speaks ACME (RFC 8555): ordered, kept, and
//! ordered again when a third of its life is left.
//!
//! The authority looks whether the names are ours while we serve, so that the first order
//! goes out once listeners are bound; until it is done there is nothing to serve.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use tokio::time::Instant;

use self::kept::Kept;
use super::{
    prove::{self, Proved, Reason, Refusal},
    source::{Look, Source},
};
use crate::{
    config::{AcmeChallenge, AcmeSource},
    fault::chain,
    secret::jittered,
};

mod answers;
mod kept;

pub use answers::Answers;

/// What an authority offers that validates a name by a handshake (RFC 8737, section 3).
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// What an authority says of an account that it doesn't know (RFC 8555, section 6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// An order from its beginning to its certificate.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of that, waiting for the authority's looks, and for the certificate, each.
const POLL: Duration = Duration::from_secs(80);
/// After an order that failed, the next; four times as long after each, to the longest.
/// Authorities count failures, and shut out whoever makes many.
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// Between one order and the next, whoever asks for it.
const AT_MOST: Duration = Duration::from_secs(3);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// One certificate of one authority.
pub struct Acme {
    config: AcmeSource,
    answers: Arc<Answers>,
    kept: Kept,
    account: Option<Account>,
    /// When what is served is to be ordered anew; nothing is served when absent.
    renew: Option<Renewal>,
    looked: bool,
    failures: u32,
    /// When the last order began.
    ordered: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Renewal {
    /// Seconds since 1970.
    at: i64,
    /// How long before its end that is, in seconds.
    left: i64,
}

impl Acme {
    /// What `config` describes; `answers` are what listeners show.
    pub fn new(config: AcmeSource, answers: Arc<Answers>) -> Self {
        let kept = Kept::new(&config.state, &config.directory, &config.domains);
        Self { config, answers, kept, account: None, renew: None, looked: false, failures: 0, ordered: None }
    }

    fn refusal(&self, what: impl Into<String>) -> Refusal {
        Refusal { place: self.config.directory.clone(), reason: Reason::Away(what.into()) }
    }

    fn unkept(&self, error: &std::io::Error) -> Refusal {
        let place = self.config.state.display().to_string();
        Refusal { place, reason: Reason::Unreadable(error.to_string()) }
    }

    /// What was kept, if it can still be served.
    fn found(&self) -> Result<Option<Proved>, Refusal> {
        let Some(bundle) = self.kept.bundle().map_err(|error| self.unkept(&error))? else { return Ok(None) };
        match self.proved(&bundle) {
            Ok(proved) => Ok(Some(proved)),
            Err(refusal) => {
                tracing::warn!("the certificate that was kept is ordered anew: {refusal}");
                Ok(None)
            }
        }
    }

    fn proved(&self, bundle: &[u8]) -> Result<Proved, Refusal> {
        let place: PathBuf = self.kept.place();
        let proved = prove::prove(&place, bundle, &place, bundle)?;
        let has = |domain: &String| proved.names.iter().any(|name| name.eq_ignore_ascii_case(domain));
        match self.config.domains.iter().find(|domain| !has(domain)) {
            None => Ok(proved),
            Some(missing) => Err(Refusal::of(&place, Reason::Away(format!("it isn't for {missing}")))),
        }
    }

    fn serve(&mut self, proved: Proved) -> Look {
        let left = (proved.not_after - proved.not_before) / 3;
        // A twentieth of that, so that a fleet's certificates don't all end in one minute.
        let early = Duration::from_secs(u64::try_from(left / 20).unwrap_or(0));
        let early = i64::try_from(jittered(early).as_secs()).unwrap_or(0);
        self.renew = Some(Renewal { at: proved.not_after - left - early, left });
        self.failures = 0;
        Look::New(proved)
    }

    async fn account(&mut self) -> Result<Account, Refusal> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let builder = || match &self.config.root {
            None => Account::builder(),
            Some(root) => Account::builder_with_root(root),
        };
        // Several certificates of one authority have one account between them.
        let answers = Arc::clone(&self.answers);
        let _alone = answers.accounts.lock().await;
        let kept = self.kept.account().map_err(|error| self.unkept(&error))?;
        let account = if let Some(credentials) = kept {
            let builder = builder().map_err(|error| self.failed("roots", &error))?;
            builder.from_credentials(credentials).await.map_err(|error| self.failed("its account", &error))?
        } else {
            let contact: Vec<&str> = self.config.contact.iter().map(String::as_str).collect();
            let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
            let builder = builder().map_err(|error| self.failed("roots", &error))?;
            let made = builder.create(&new, self.config.directory.clone(), None).await;
            let (account, credentials) = made.map_err(|error| self.failed("an account", &error))?;
            if let Err(error) = self.kept.keep_account(&credentials) {
                // Good for as long as we run.
                tracing::error!(folder = %self.config.state.display(), %error, "the new account can't be kept");
            }
            account
        };
        self.account = Some(account.clone());
        Ok(account)
    }

    fn failed(&self, what: &str, error: &Error) -> Refusal {
        self.refusal(format!("{what}: {}", chain(error)))
    }

    /// Orders a certificate, and keeps it.
    async fn order(&mut self) -> Result<Proved, Refusal> {
        let account = self.account().await?;
        let names: Vec<_> = self.config.domains.iter().cloned().map(Identifier::Dns).collect();
        let new = NewOrder::new(&names);
        let mut order = match account.new_order(&new).await {
            // The authority has forgotten us: one of a house that was set up anew.
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(NO_ACCOUNT) => {
                tracing::warn!(
                    directory = self.config.directory,
                    "the authority knows our account no more: another is made"
                );
                self.account = None;
                self.kept.forget_account().map_err(|error| self.unkept(&error))?;
                self.account().await?.new_order(&new).await
            }
            other => other,
        }
        .map_err(|error| self.failed("an order", &error))?;
        // Shown until the order is over, however it ends.
        let mut shown = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(found) = authorizations.next().await {
            let mut found = found.map_err(|error| self.failed("an authorization", &error))?;
            match found.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                other => return Err(self.refusal(format!("an authorization is {other:?}"))),
            }
            let kind = match self.config.challenge {
                AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
                AcmeChallenge::Http01 => ChallengeType::Http01,
            };
            let mut challenge = found.challenge(kind).ok_or_else(|| {
                self.refusal(format!("it offers no {}; write another `challenge`", self.config.challenge))
            })?;
            let answer = challenge.key_authorization();
            let name = challenge.identifier().to_string();
            shown.push(match self.config.challenge {
                AcmeChallenge::Http01 => self.answers.show_text(&challenge.token, answer.as_str()),
                AcmeChallenge::TlsAlpn01 => {
                    let made = self.answers.show_certificate(&name, answer.digest().as_ref());
                    made.map_err(|words| self.refusal(words))?
                }
            });
            challenge.set_ready().await.map_err(|error| self.failed("a challenge", &error))?;
        }
        let policy = RetryPolicy::new().timeout(POLL);
        let status = order.poll_ready(&policy).await.map_err(|error| self.failed("the order", &error))?;
        if status != OrderStatus::Ready {
            return Err(self.refusal(format!("the order is refused: {}", why(&mut order).await)));
        }
        let key =
            order.finalize().await.map(zeroize::Zeroizing::new).map_err(|error| self.failed("the order", &error))?;
        let chain = order.poll_certificate(&policy).await.map_err(|error| self.failed("the certificate", &error))?;
        let bundle = zeroize::Zeroizing::new(format!("{}\n{}", chain.trim_end(), *key));
        let proved = self.proved(bundle.as_bytes())?;
        if let Err(error) = self.kept.keep_bundle(&bundle) {
            // It is good all the same: served now, and ordered again at the next start.
            tracing::error!(folder = %self.config.state.display(), %error, "the new certificate can't be kept");
        }
        Ok(proved)
    }
}

/// What the authority says of names that it didn't find to be ours.
async fn why(order: &mut instant_acme::Order) -> String {
    let mut words = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut found)) = authorizations.next().await {
        let name = found.identifier().to_string();
        let Ok(state) = found.refresh().await else { continue };
        let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        words.extend(errors.map(|problem| format!("{name}: {problem}")));
    }
    if words.is_empty() { "it doesn't say why".into() } else { words.join("; ") }
}

#[async_trait]
impl Source for Acme {
    async fn look(&mut self) -> Result<Look, Refusal> {
        if !self.looked {
            self.looked = true;
            // What is ordered has to be kept: each order counts with the authority.
            self.kept.prepare().map_err(|error| {
                let what = format!("can't be written ({error}); make it a folder of sealward's own, mode 0700");
                Refusal { place: self.config.state.display().to_string(), reason: Reason::Away(what) }
            })?;
            // Nobody can look at us yet.
            return Ok(match self.found()? {
                Some(proved) => self.serve(proved),
                None => Look::Waiting,
            });
        }
        if self.renew.is_some_and(|renewal| prove::now() < renewal.at) {
            return Ok(Look::Same);
        }
        // Who asks us to look again and again must not make us ask so often.
        if self.ordered.is_some_and(|last| last.elapsed() < AT_MOST) {
            return Ok(Look::Waiting);
        }
        self.ordered = Some(Instant::now());
        let ordered = tokio::time::timeout(PATIENCE, self.order()).await;
        let ordered = ordered.unwrap_or_else(|_| Err(self.refusal("an order took longer than 3 minutes")));
        match ordered {
            Ok(proved) => Ok(self.serve(proved)),
            Err(refusal) => {
                self.failures += 1;
                Err(refusal)
            }
        }
    }

    fn may_begin_empty(&self) -> bool {
        true
    }

    async fn due(&mut self) {
        let until = match (self.failures, self.renew) {
            (0, None) => Duration::ZERO,
            (0, Some(renewal)) => {
                let left = u64::try_from(renewal.at - prove::now()).unwrap_or(0);
                Duration::from_secs(left)
            }
            (failures, renew) => {
                let longest = match renew {
                    // The shorter a certificate lives, the less time there is to mend things.
                    Some(renewal) => {
                        LONGEST_RETRY.min(Duration::from_secs(u64::try_from(renewal.left / 4).unwrap_or(1)))
                    }
                    None => LONGEST_RETRY,
                };
                jittered((FIRST_RETRY * 4_u32.saturating_pow(failures - 1).min(1 << 10)).min(longest))
            }
        };
        tokio::time::sleep_until(Instant::now() + until).await;
    }
}
