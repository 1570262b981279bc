//! From the listeners of a configuration to fronts that can be bound, and what keeps
//! their certificates, tickets and clients true.

use std::{pin::Pin, sync::Arc};

use tokio::sync::watch;

use super::{StartError, secrets::Held};
use crate::{
    aws,
    config::{self, AcmeChallenge, CertificateSource, Listener},
    metrics::Metrics,
    server::{Front, Spoken, proxied::Balancers},
    tls::{
        self, CertificateSlot, Certificates,
        acm::Acm,
        acme::{Acme, Answers},
        bundle::Bundle,
        clients::Clients,
        files::Files,
        source::Source,
        staple,
    },
};

/// Work that goes on until it is dropped; it looks at once when the count changes.
pub(super) type Keeper = Box<dyn FnOnce(watch::Receiver<u64>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Fronts, not bound yet.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) fronts: Vec<Front>,
    pub(super) keepers: Vec<Keeper>,
    /// Those that have nothing to serve yet.
    pub(super) empty: Vec<Arc<CertificateSlot>>,
    /// What authorities are shown, on whichever listener they look.
    answers: Arc<Answers>,
}

/// Builds every listener of `listeners`, each certificate looked at for the first time.
///
/// # Errors
/// [`StartError`] names the listener.
pub(super) async fn build(listeners: &[Listener], held: &Held) -> Result<Listeners, StartError> {
    let mut built = Listeners::default();
    let of_acme = |certificate: &config::Certificate| matches!(&certificate.source, CertificateSource::Acme(acme) if acme.challenge == AcmeChallenge::TlsAlpn01);
    let answering =
        listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.certificates).any(of_acme);
    for listener in listeners {
        let balancers = listener.balancers.clone().map(Balancers::new);
        let Some(tls) = &listener.tls else {
            let answers = Arc::clone(&built.answers);
            let spoken = Spoken::Plain(Arc::new(move |token| answers.text(token)));
            built.fronts.push(Front { bind: listener.bind, spoken, clients: None, balancers, desync: listener.desync });
            continue;
        };
        let slots = built.certificates(listener, tls, held).await?;
        let tickets = match &tls.ticket_secret {
            None => None,
            Some(secret) => {
                let (tickets, follow) = held.tickets(secret)?;
                built.keepers.extend(follow.map(|follow| -> Keeper { Box::new(|_| follow) }));
                Some(tickets)
            }
        };
        let clients = built.clients(listener, tls, &held.metrics)?;
        let certificates = Certificates::new(slots, answering.then(|| Arc::clone(&built.answers)));
        let config = tls::server_config(certificates, tls.policy, tickets, clients.clone());
        let spoken = Spoken::Tls(config.map_err(StartError::of("tls"))?);
        built.fronts.push(Front { bind: listener.bind, spoken, clients, balancers, desync: listener.desync });
    }
    Ok(built)
}

impl Listeners {
    async fn certificates(
        &mut self,
        listener: &Listener,
        config: &config::Tls,
        held: &Held,
    ) -> Result<Vec<Arc<CertificateSlot>>, StartError> {
        let mut slots = Vec::new();
        for (at, certificate) in config.certificates.iter().enumerate() {
            let name = listener.certificate(at);
            let source = source(&certificate.source, held, &self.answers).await?;
            let (slot, watch) = tls::source::open(&name, source, held.metrics.clone())
                .await
                .map_err(StartError::of(&format!("the certificate of listener {name}")))?;
            self.keepers.push(Box::new(|reload| Box::pin(watch.run(reload))));
            if let Some(path) = &certificate.ocsp {
                let staple = staple::Watch::new(path, Arc::clone(&slot), held.metrics.clone());
                self.keepers.push(Box::new(|reload| Box::pin(staple.run(reload))));
            }
            if slot.current().is_none() {
                self.empty.push(Arc::clone(&slot));
            }
            slots.push(slot);
        }
        Ok(slots)
    }

    fn clients(
        &mut self,
        listener: &Listener,
        config: &config::Tls,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Clients>>, StartError> {
        let Some(config) = &config.client_auth else { return Ok(None) };
        let part = format!("the clients of listener {}", listener.bind);
        let opened = tls::clients::open(listener.bind, config, metrics.clone());
        let (clients, watch) = opened.map_err(StartError::of(&part))?;
        self.keepers.push(Box::new(|reload| Box::pin(watch.run(reload))));
        Ok(Some(clients))
    }
}

/// The source that `config` describes, which has not looked yet.
///
/// # Errors
/// [`StartError`] where AWS isn't configured.
pub(super) async fn source(
    config: &CertificateSource,
    held: &Held,
    answers: &Arc<Answers>,
) -> Result<Box<dyn Source>, StartError> {
    Ok(match config {
        CertificateSource::Files { cert, key, refresh } => Box::new(Files::new(cert, key, *refresh)),
        CertificateSource::Secret { name, fields } => Box::new(Bundle::new(held.lend(name)?, fields.clone())),
        CertificateSource::Acme(config) => Box::new(Acme::new(config.clone(), Arc::clone(answers))),
        CertificateSource::Acm { arn, region, refresh } => {
            let aws = aws::load(Some(region)).await.map_err(StartError::of("aws"))?;
            Box::new(Acm::new(&aws, arn, *refresh))
        }
    })
}
