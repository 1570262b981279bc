//! From the listeners of a configuration to fronts that can be bound, and what keeps
//! their certificates, tickets and clients true.

use std::{pin::Pin, sync::Arc};

use tokio::sync::watch;

use super::{StartError, secrets::Held};
use crate::{
    aws,
    config::{CertificateSource, Listener},
    metrics::Metrics,
    server::{Front, proxied::Balancers},
    tls::{
        self, CertificateSlot, Certificates, acm::Acm, bundle::Bundle, clients::Clients, files::Files, source::Source,
    },
};

/// Work that goes on until it is dropped; it looks at once when the count changes.
pub(super) type Keeper = Box<dyn FnOnce(watch::Receiver<u64>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Fronts, not bound yet.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) fronts: Vec<Front>,
    pub(super) keepers: Vec<Keeper>,
}

/// Builds every listener of `listeners`, each certificate looked at for the first time.
///
/// # Errors
/// [`StartError`] names the listener.
pub(super) async fn build(listeners: &[Listener], held: &Held) -> Result<Listeners, StartError> {
    let mut built = Listeners::default();
    for listener in listeners {
        let slots = built.certificates(listener, held).await?;
        let tickets = match &listener.tls.ticket_secret {
            None => None,
            Some(secret) => {
                let (tickets, follow) = held.tickets(secret)?;
                built.keepers.extend(follow.map(|follow| -> Keeper { Box::new(|_| follow) }));
                Some(tickets)
            }
        };
        let clients = built.clients(listener, &held.metrics)?;
        let tls = tls::server_config(Certificates::new(slots), listener.tls.policy, tickets, clients.clone());
        let balancers = listener.balancers.clone().map(Balancers::new);
        let tls = tls.map_err(StartError::of("tls"))?;
        built.fronts.push(Front { bind: listener.bind, tls, clients, balancers });
    }
    Ok(built)
}

impl Listeners {
    async fn certificates(
        &mut self,
        listener: &Listener,
        held: &Held,
    ) -> Result<Vec<Arc<CertificateSlot>>, StartError> {
        let mut slots = Vec::new();
        for (at, config) in listener.tls.certificates.iter().enumerate() {
            let name = listener.certificate(at);
            let source = source(config, held).await?;
            let (slot, watch) = tls::source::open(&name, source, held.metrics.clone())
                .await
                .map_err(StartError::of(&format!("the certificate of listener {name}")))?;
            slots.push(slot);
            self.keepers.push(Box::new(|reload| Box::pin(watch.run(reload))));
        }
        Ok(slots)
    }

    fn clients(&mut self, listener: &Listener, metrics: &Metrics) -> Result<Option<Arc<Clients>>, StartError> {
        let Some(config) = &listener.tls.client_auth else { return Ok(None) };
        let part = format!("the clients of listener {}", listener.bind);
        let opened = tls::clients::open(&listener.bind.to_string(), config, metrics.clone());
        let (clients, watch) = opened.map_err(StartError::of(&part))?;
        self.keepers.push(Box::new(|reload| Box::pin(watch.run(reload))));
        Ok(Some(clients))
    }
}

/// The source that `config` describes, which has not looked yet.
///
/// # Errors
/// [`StartError`] where AWS isn't configured.
pub(super) async fn source(config: &CertificateSource, held: &Held) -> Result<Box<dyn Source>, StartError> {
    Ok(match config {
        CertificateSource::Files { cert, key, refresh } => Box::new(Files::new(cert, key, *refresh)),
        CertificateSource::Secret { name, fields } => Box::new(Bundle::new(held.lend(name)?, fields.clone())),
        CertificateSource::Acm { arn, region, refresh } => {
            let aws = aws::load(Some(region)).await.map_err(StartError::of("aws"))?;
            Box::new(Acm::new(&aws, arn, *refresh))
        }
    })
}
