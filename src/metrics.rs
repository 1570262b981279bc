//! Owns every metric family and its name.
//!
//! Rooms are handed a clone of [`Metrics`] and touch the families they need; no
//! registry is global. Seconds, bytes, `_total`; every label is bounded: `key`
//! and `class` are configured names, `route` is a configured path.

use std::{ops::Deref, sync::Arc};

use prometheus::{
    CounterVec, Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::fault::Tamper;

/// From a millisecond to half a minute: what a person waits for.
const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// To an hour: uploads may be large.
const UPLOAD_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Of a family that is there only where somebody sets it.
pub const NO_LABELS: &[&str] = &[];

/// [`Families`] for whoever needs them; a clone is one count.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0
    }
}

macro_rules! families {
    ($($(#[$doc:meta])* $field:ident: $kind:ident = $name:literal, $help:literal $(, [$($label:literal),*])? $(, in $buckets:expr)?;)*) => {
        /// Every family, registered once.
        #[derive(Debug)]
        pub struct Families {
            registry: Registry,
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl Metrics {
            /// Makes and registers every family.
            ///
            /// # Errors
            /// When two families share a name, which the test below rules out.
            pub fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(let $field = make!($kind, $name, $help $(, [$($label),*])? $(, $buckets)?)?;
                registry.register(Box::new($field.clone()))?;)*
                let metrics = Self(Arc::new(Families { registry, $($field,)* }));
                metrics.begin()?;
                Ok(metrics)
            }
        }
    };
}

macro_rules! make {
    (IntCounter, $name:literal, $help:literal) => { IntCounter::new($name, $help) };
    (IntGauge, $name:literal, $help:literal) => { IntGauge::new($name, $help) };
    (IntCounterVec, $name:literal, $help:literal, [$($label:literal),*]) => {
        IntCounterVec::new(Opts::new($name, $help), &[$($label),*])
    };
    (CounterVec, $name:literal, $help:literal, [$($label:literal),*]) => {
        CounterVec::new(Opts::new($name, $help), &[$($label),*])
    };
    (IntGaugeVec, $name:literal, $help:literal, [$($label:literal),*]) => {
        IntGaugeVec::new(Opts::new($name, $help), &[$($label),*])
    };
    (HistogramVec, $name:literal, $help:literal, [$($label:literal),*], $buckets:expr) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &[$($label),*])
    };
}

families! {
    /// `sealward_kms_requests_total{operation,key,outcome}`
    kms_requests: IntCounterVec = "sealward_kms_requests_total",
        "Calls to KMS, by outcome; `skipped` ones were kept back while KMS was away.", ["operation", "key", "outcome"];
    /// `sealward_kms_request_duration_seconds{operation,key}`
    kms_seconds: HistogramVec = "sealward_kms_request_duration_seconds",
        "Calls to KMS, all tries together.", ["operation", "key"], in REQUEST_SECONDS;
    /// `sealward_kms_cost_dollars_total{key}`
    kms_cost: CounterVec = "sealward_kms_cost_dollars_total",
        "An estimate of what KMS asks for these calls: 0.03 US dollars for 10,000, without the SDK's own retries.", ["key"];
    /// `sealward_kms_key_usable{key}`
    kms_key_usable: IntGaugeVec = "sealward_kms_key_usable",
        "Whether the class's key is enabled and for encryption, as DescribeKey last said.", ["key"];
    /// `sealward_data_keys_issued_total{key}`
    data_keys_issued: IntCounterVec = "sealward_data_keys_issued_total",
        "Data keys made and wrapped.", ["key"];
    /// `sealward_data_key_uses_total{key,use}`
    data_key_uses: IntCounterVec = "sealward_data_key_uses_total",
        "Messages sealed or opened under a data key.", ["key", "use"];
    /// `sealward_data_key_cache_requests_total{result}`
    data_key_cache: IntCounterVec = "sealward_data_key_cache_requests_total",
        "Requests for a data key, by what the cache answered.", ["result"];
    /// `sealward_sealed_bytes_total{class,key}`
    sealed_bytes: IntCounterVec = "sealward_sealed_bytes_total",
        "Plaintext bytes sealed and stored.", ["class", "key"];
    /// `sealward_opened_bytes_total{class,key}`
    opened_bytes: IntCounterVec = "sealward_opened_bytes_total",
        "Plaintext bytes verified and handed out.", ["class", "key"];
    /// `sealward_tamper_total{reason}`
    tamper: IntCounterVec = "sealward_tamper_total",
        "Stored objects that were not believed, by reason.", ["reason"];
    /// `sealward_uploads_total{class,outcome}`
    uploads: IntCounterVec = "sealward_uploads_total",
        "Uploads ended, by outcome.", ["class", "outcome"];
    /// `sealward_upload_duration_seconds{class}`
    upload_seconds: HistogramVec = "sealward_upload_duration_seconds",
        "From the head of an upload to its answer.", ["class"], in UPLOAD_SECONDS;
    /// `sealward_downloads_total{class,outcome}`
    downloads: IntCounterVec = "sealward_downloads_total",
        "Downloads ended, by outcome.", ["class", "outcome"];
    /// `sealward_uploads_in_flight`
    uploads_in_flight: IntGauge = "sealward_uploads_in_flight",
        "Uploads under way.";
    /// `sealward_buffer_memory_bytes{state}`
    buffer_memory: IntGaugeVec = "sealward_buffer_memory_bytes",
        "The budget of part and frame buffers: used and total.", ["state"];
    /// `sealward_buffer_waits_total{outcome}`
    buffer_waits: IntCounterVec = "sealward_buffer_waits_total",
        "Waits in line for buffer memory, by outcome.", ["outcome"];
    /// `sealward_store_request_duration_seconds{operation,outcome}`
    store_seconds: HistogramVec = "sealward_store_request_duration_seconds",
        "Requests to the store.", ["operation", "outcome"], in REQUEST_SECONDS;
    /// `sealward_store_read_bytes_total`
    store_read_bytes: IntCounter = "sealward_store_read_bytes_total",
        "Sealed bytes read from the store.";
    /// `sealward_orphans_aborted_total{class}`
    orphans: IntCounterVec = "sealward_orphans_aborted_total",
        "Uploads left unfinished in a bucket and aborted by the sweep.", ["class"];
    /// `sealward_http_requests_total{route,method,status}`
    http_requests: IntCounterVec = "sealward_http_requests_total",
        "Requests answered.", ["route", "method", "status"];
    /// `sealward_http_request_duration_seconds{route,method}`
    http_seconds: HistogramVec = "sealward_http_request_duration_seconds",
        "From a request's head to its answer's head.", ["route", "method"], in REQUEST_SECONDS;
    /// `sealward_upstream_requests_total{upstream,status}`
    upstream_requests: IntCounterVec = "sealward_upstream_requests_total",
        "Requests sent to targets, by the status of the answer or why there was none.", ["upstream", "status"];
    /// `sealward_upstream_connections{upstream}`
    upstream_connections: IntGaugeVec = "sealward_upstream_connections",
        "Connections open to targets.", ["upstream"];
    /// `sealward_upstream_requests_in_flight{upstream}`
    upstream_in_flight: IntGaugeVec = "sealward_upstream_requests_in_flight",
        "Requests under way to targets.", ["upstream"];
    /// `sealward_upstream_retries_total{upstream,outcome}`
    upstream_retries: IntCounterVec = "sealward_upstream_retries_total",
        "Requests sent to another target, and those kept back by the budget.", ["upstream", "outcome"];
    /// `sealward_upstream_target_healthy{upstream,target}`
    upstream_healthy: IntGaugeVec = "sealward_upstream_target_healthy",
        "1 while active checks find the target well.", ["upstream", "target"];
    /// `sealward_connections{state}`
    connections: IntGaugeVec = "sealward_connections",
        "Client connections open now, by state.", ["state"];
    /// `sealward_connections_refused_total{reason}`
    connections_refused: IntCounterVec = "sealward_connections_refused_total",
        "Client connections refused or evicted, by reason.", ["reason"];
    /// `sealward_quota_refusals_total{quota,kind}`
    quota_refusals: IntCounterVec = "sealward_quota_refusals_total",
        "Requests refused with 429, by quota and what of it was used up.", ["quota", "kind"];
    /// `sealward_quota_clients{quota}`
    quota_clients: IntGaugeVec = "sealward_quota_clients",
        "Clients told apart by a quota, as last counted.", ["quota"];
    /// `sealward_access_log_lines_total{outcome}`
    access_log_lines: IntCounterVec = "sealward_access_log_lines_total",
        "Lines of the access log: written, dropped where the disk is slower than requests, or failed.", ["outcome"];
    /// `sealward_desync_requests_total{class,reason,outcome}`
    desync_requests: IntCounterVec = "sealward_desync_requests_total",
        "Requests that two readers could read in two ways, and those over a limit.", ["class", "reason", "outcome"];
    /// `sealward_tls_handshakes_total{version,group,outcome}`
    tls_handshakes: IntCounterVec = "sealward_tls_handshakes_total",
        "TLS handshakes.", ["version", "group", "outcome"];
    /// `sealward_tls_handshake_duration_seconds{outcome}`
    tls_handshake_seconds: HistogramVec = "sealward_tls_handshake_duration_seconds",
        "From the first byte to a finished handshake.", ["outcome"], in REQUEST_SECONDS;
    /// `sealward_certificate_expiry_timestamp_seconds{name}`
    certificate_expiry: IntGaugeVec = "sealward_certificate_expiry_timestamp_seconds",
        "When the certificate that is served expires.", ["name"];
    /// `sealward_certificate_chain_linked{name}`
    certificate_chain: IntGaugeVec = "sealward_certificate_chain_linked",
        "1 while each certificate of the chain served was issued by the next.", ["name"];
    /// `sealward_certificate_loads_total{name,outcome}`
    certificate_loads: IntCounterVec = "sealward_certificate_loads_total",
        "Changed certificates that were published or refused.", ["name", "outcome"];
    /// `sealward_ocsp_staple_expiry_timestamp_seconds{name}`
    staple_expiry: IntGaugeVec = "sealward_ocsp_staple_expiry_timestamp_seconds",
        "When the OCSP response that is sent along is due to be replaced; 0 while none is sent.", ["name"];
    /// `sealward_client_trust_loads_total{listener,outcome}`
    client_trust_loads: IntCounterVec = "sealward_client_trust_loads_total",
        "Changed trust bundles and revocation lists of clients that were published or refused.", ["listener", "outcome"];
    /// `sealward_client_revocation_expiry_timestamp_seconds{listener}`
    client_revocation_expiry: IntGaugeVec = "sealward_client_revocation_expiry_timestamp_seconds",
        "When the first of the revocation lists is due to be replaced.", ["listener"];
    /// `sealward_secret_version_timestamp_seconds{secret}`
    secret_version: IntGaugeVec = "sealward_secret_version_timestamp_seconds",
        "When the version of the secret that is in use came to be.", ["secret"];
    /// `sealward_secret_refreshes_total{secret,outcome}`
    secret_refreshes: IntCounterVec = "sealward_secret_refreshes_total",
        "Looks at a secret, by outcome: same, new or failed.", ["secret", "outcome"];
    /// `sealward_catalog_up`
    catalog_up: IntGaugeVec = "sealward_catalog_up",
        "1 while the catalogue's database answers; not there without a catalogue.", [];
    /// `sealward_catalog_connections{state}`
    catalog_connections: IntGaugeVec = "sealward_catalog_connections",
        "Connections to the catalogue's database, idle or used.", ["state"];
    /// `sealward_catalog_logins_refused_total`
    catalog_logins_refused: IntCounter = "sealward_catalog_logins_refused_total",
        "Connections that the catalogue's database refused for their credentials.";
    /// `sealward_catalog_records_total{outcome}`
    catalog_records: IntCounterVec = "sealward_catalog_records_total",
        "Records of objects: written, failed, spooled, replayed from the spool, or put aside there as spoilt.", ["outcome"];
    /// `sealward_catalog_spool_records`
    catalog_spool_records: IntGauge = "sealward_catalog_spool_records",
        "Records that wait in the spool.";
    /// `sealward_catalog_spool_bytes`
    catalog_spool_bytes: IntGauge = "sealward_catalog_spool_bytes",
        "Sealed bytes in the spool.";
    /// `sealward_trace_spans_total{outcome}`
    trace_spans: IntCounterVec = "sealward_trace_spans_total",
        "Spans of traces: sent, failed where the collector didn't take them, or dropped where it is slower than requests.", ["outcome"];
    /// `sealward_catalog_spool_limit_bytes`
    catalog_spool_limit: IntGaugeVec = "sealward_catalog_spool_limit_bytes",
        "What the spool holds at most; not there without a spool.", [];
    /// `sealward_ready`
    ready: IntGauge = "sealward_ready",
        "1 while /readyz answers 200.";
    /// `sealward_impairments`
    impairments: IntGauge = "sealward_impairments",
        "How many things /readyz names as impaired, or as reasons not to be ready; none while it stops.";
    /// `sealward_stopping`
    stopping: IntGauge = "sealward_stopping",
        "1 from the word to stop on: what is under way finishes, and sealward_ready is 0 as it should be.";
    /// `sealward_config_reloads_total{outcome}`
    config_reloads: IntCounterVec = "sealward_config_reloads_total",
        "Configurations read again: taken or refused.", ["outcome"];
    /// `sealward_build_info{version}`
    build_info: IntGaugeVec = "sealward_build_info",
        "Always 1; the label says which build runs.", ["version"];
}

impl Metrics {
    /// Writes every family in Prometheus's text format.
    ///
    /// # Errors
    /// When the encoder fails, which it does for no registry of this room.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Families that say something by being zero are there from the start.
    fn begin(&self) -> Result<(), prometheus::Error> {
        #[cfg(target_os = "linux")]
        self.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for reason in Tamper::ALL {
            self.tamper.with_label_values(&[reason.as_str()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_registers_and_renders() {
        let metrics = Metrics::new().expect("no two families share a name");
        let text = String::from_utf8(metrics.render().expect("renders")).expect("is text");
        for reason in Tamper::ALL {
            assert!(text.contains(&format!("sealward_tamper_total{{reason=\"{}\"}} 0", reason.as_str())));
        }
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
