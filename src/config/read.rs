//! From a document to a [`Config`]: what each key is, and what must hold between them.

use std::{collections::BTreeMap, fs, io::ErrorKind, net::SocketAddr, path::Path, time::Duration};

use ipnet::IpNet;
use toml::de::DeTable;
use tracing_subscriber::EnvFilter;

use super::{
    AccessFormat, AccessLog, Admin, Config, Desync, Faults, Identity, KeyCache, KeyProvider, Keys, Limits, Listener,
    Log, LogFormat, LogObjectKeys, Parsed, Text, Tokens, Values, acme, catalog,
    classes::{self, Classes},
    clients,
    document::{Document, Found, Section},
    expand::Environment,
    quotas,
    report::{Fault, listed, nearest, quoted},
    routes, secrets, tls, traces, upstreams,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The shortest duration that can be meant: every bound is more than nothing.
const TICK: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads the file at `path`.
pub(super) fn text(path: &Path) -> Result<Text, Faults> {
    let origin = path.display().to_string();
    let refused = |title: String, help: String| Faults::new(&origin, "", vec![Fault::new(title, help)]);
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => refused(
            format!("there is no configuration file {}", quoted(&origin)),
            "name the file with `--config FILE`; `config/sealward.toml` in the source is a whole one to start from"
                .into(),
        ),
        ErrorKind::IsADirectory => refused(
            format!("{} is a folder, not a configuration file", quoted(&origin)),
            format!("name the file in it, such as {}", quoted(&path.join("sealward.toml").display().to_string())),
        ),
        _ => refused(
            format!("the configuration file {} can't be read: {error}", quoted(&origin)),
            "sealward must be allowed to read it".into(),
        ),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        refused(
            format!("the configuration file {} is not UTF-8: see line {line}", quoted(&origin)),
            "save it as UTF-8 text".into(),
        )
    })?;
    Ok(Text::new(&text, &origin, path.parent().unwrap_or(Path::new(""))))
}

/// Reads and checks a text with the environment and the secrets given.
pub(super) fn parse_in(text: &Text, environment: Environment<'_>, values: Values<'_>) -> Result<Parsed, Faults> {
    let Text { content: text, origin, base } = text;
    let document = Document::new(base, environment, values);
    let faults = match table(text) {
        Err(faults) => faults,
        Ok(table) => {
            let config = config(&document.root(&table), &document);
            let wanted = document.wanted();
            match config {
                _ if !document.is_clean() => document.into_faults(),
                Some(config) if wanted.is_empty() => return Ok(Parsed::Whole(Box::new(config))),
                // What else is wrong shows once they are there.
                _ => {
                    let secrets = document.defined().into_iter().filter(|secret| wanted.contains(&secret.name));
                    return Ok(Parsed::Wanting(secrets.collect()));
                }
            }
        }
    };
    Err(Faults::new(origin, text, faults))
}

/// As [`parse_in`], of a text that can do without secrets.
pub(super) fn whole(text: &Text, environment: Environment<'_>) -> Result<Config, Faults> {
    match parse_in(text, environment, &|_, _| None)? {
        Parsed::Whole(config) => Ok(*config),
        Parsed::Wanting(secrets) => {
            let names: Vec<_> = secrets.iter().map(|secret| secret.name.as_str()).collect();
            let title = format!("values come out of secrets here: {}", listed(names.into_iter()));
            let fault = Fault::new(title, "write them in plain where nothing can be fetched");
            Err(Faults::new(&text.origin, &text.content, vec![fault]))
        }
    }
}

/// Every key that the reader asked `text` for, dotted: what the example must mention.
#[cfg(test)]
pub(super) fn known_keys(text: &str) -> std::collections::BTreeSet<String> {
    let document = Document::new(Path::new(""), &super::expand::process, &|_, _| None);
    if let Ok(table) = table(text) {
        config(&document.root(&table), &document);
    }
    document.known()
}

/// The text as TOML, or its syntax faults, at most one a line: one slip often
/// makes several, and no value can be trusted beside it.
pub(super) fn table(text: &str) -> Result<DeTable<'_>, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table.into_inner());
    }
    let mut faults = BTreeMap::new();
    for error in errors {
        let span = error.span().unwrap_or_default();
        let line = text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count();
        let help = if error.message().contains("duplicate key") {
            "a key or `[section]` is written once; sections that may repeat are written `[[listener]]`, `[[class]]`, \
             `[[route]]`"
        } else {
            "a line is `key = value`, `[section]`, `[[section]]` or `# comment`; text, durations and sizes with a \
             unit stand in double quotes"
        };
        let fault = Fault::new(format!("not TOML: {}", error.message()), help).at(&span, "here");
        faults.entry(line).or_insert(fault);
    }
    Err(faults.into_values().collect())
}

fn config(root: &Section<'_>, document: &Document<'_>) -> Option<Config> {
    secrets::read(root.sections("secret"));
    let (binds, listeners): (Vec<_>, Vec<_>) = root.sections("listener").iter().map(listener).unzip();
    let keys = root.section("keys").map(|section| keys(&section));
    let provider = keys.as_ref().and_then(Option::as_ref).map(|keys| &keys.provider);
    let classes = classes::read(root.sections("class"), provider, root.has("catalog"));
    let upstreams = upstreams::read(root.sections("upstream"));
    let quotas = quotas::read(root.sections("quota"));
    let routes = routes::read(root.sections("route"), &classes, &upstreams, &quotas);
    let catalog = root.section("catalog").map(|section| catalog::read(&section));
    let identity = root.section("identity");
    let tokens_named = identity.as_ref().is_some_and(|section| section.has("tokens") || section.has("mtls"));
    let identity = identity.map(|section| self::identity(&section, &classes, root.has("catalog"))).unwrap_or_default();
    let limits = root.section("limits").map(|section| limits(&section)).unwrap_or_default();
    let (admin_bind, admin) = root.section("admin").map_or((None, Admin::default()), |section| admin(&section));
    let log = root.section("log").map(|section| log(&section)).unwrap_or_default();
    let traces = root.section("traces").map(|section| traces::read(&section));
    root.finish();
    if let Some(KeyProvider::Kms { region, .. }) = provider {
        document.set_region(region.as_deref());
    }

    if !root.has("listener") {
        let help = "add a `[[listener]]` with `bind` and `tls`; `config/sealward.toml` in the source shows one";
        document.fault(Fault::new("no `[[listener]]`: clients could not come in", help));
    }
    let admin_bind = admin_bind.or_else(|| {
        // The default may meet a listener's address too; there is then only one place to show.
        let span = binds.iter().flatten().find(|bind| meet(bind.value, admin.bind))?.span.clone();
        Some(Found { value: admin.bind, raw: admin.bind.to_string(), span })
    });
    binds_differ(document, &binds.into_iter().flatten().chain(admin_bind).collect::<Vec<_>>());
    if let Some(span) = classes.first().filter(|_| !root.has("keys")) {
        let help = "add `[keys]` with `provider = \"local\"` and `keyring = \"keyring.json\"`";
        let title = "a `[[class]]` needs data keys, and there is no `[keys]`";
        document.fault(Fault::new(title, help).at(&span, "this class seals"));
    }
    if let Some(span) = routes.first_closed().filter(|_| !tokens_named) {
        let help = "add `[identity]` with `tokens = \"tokens.json\"`, the file that `sealward token new` writes, \
                    or `public = true` to the route if anyone may use it";
        let title = "a route that is not public needs callers, and `[identity]` has no `tokens`";
        document.fault(Fault::new(title, help).at(&span, "nobody could use this route"));
    }

    let listeners: Vec<Listener> = listeners.into_iter().collect::<Option<_>>()?;
    acme::can_be_answered(&listeners, |fault| document.fault(fault));
    if root.has("listener") && listeners.iter().all(|listener| listener.tls.is_none()) {
        let help = "add `tls = { source = { files = { cert = \"cert.pem\", key = \"key.pem\" } } }` to one; without it \
                    a listener answers ACME's http-01, and sends everybody else to https";
        let fault = Fault::new("no `[[listener]]` has `tls`: nothing could be served", help);
        document.fault(match root.sections("listener").first() {
            Some(first) => fault.at(&first.span(), "`tls` must be set here"),
            None => fault,
        });
    }
    clients::agree(&listeners, &identity, |fault| document.fault(fault));
    let keys = match keys {
        Some(keys) => Some(keys?),
        None => None,
    };
    Some(Config {
        listeners,
        keys,
        classes: classes.finished()?,
        routes: routes.finished()?,
        upstreams: upstreams.finished()?,
        quotas: quotas.finished()?,
        secrets: document.defined(),
        catalog: match catalog {
            Some(catalog) => Some(catalog?),
            None => None,
        },
        identity,
        limits,
        admin,
        log,
        traces: match traces {
            Some(traces) => Some(traces?),
            None => None,
        },
    })
}

const DESYNC: [(&str, Desync); 3] =
    [("strictest", Desync::Strictest), ("defensive", Desync::Defensive), ("monitor", Desync::Monitor)];

fn listener(section: &Section<'_>) -> (Option<Found<SocketAddr>>, Option<Listener>) {
    section.require("bind", "\"0.0.0.0:8443\"");
    let bind = section.address("bind");
    let tls = tls::read(section.tables("tls"));
    let plain = !section.has("tls");
    let balancers = section.section("proxy_protocol").map(|section| balancers(&section));
    let desync = section.one_of("desync", &DESYNC).unwrap_or_default();
    section.finish();
    let listener = match &bind {
        Some(bind) if plain || tls.is_some() => Some(Listener { bind: bind.value, tls, balancers, desync }),
        _ => None,
    };
    (bind, listener)
}

/// The networks in `from`; those with a fault are left out, and the fault stands.
fn balancers(section: &Section<'_>) -> Vec<IpNet> {
    section.require("from", "[\"10.0.0.0/8\"]");
    if section.is_empty_list("from") {
        let help = "name the networks of the balancers in front, or leave `proxy_protocol` out";
        section.own_fault(Fault::new("`from` is empty: nobody would speak the PROXY protocol", help), "in this table");
    }
    let found = section.networks("from");
    section.finish();
    found
}

fn keys(section: &Section<'_>) -> Option<Keys> {
    #[derive(Clone, Copy)]
    enum Kind {
        Local,
        Kms,
    }
    section.require("provider", "\"local\"");
    let kind = section.one_of("provider", &[("local", Kind::Local), ("kms", Kind::Kms)]);
    let provider = match kind {
        // Under another provider its absence would be a second fault for one cause.
        None => {
            section.path("keyring");
            None
        }
        Some(Kind::Local) => {
            section.require("keyring", "\"keyring.json\"");
            for key in ["region", "endpoint", "key_check"] {
                section.refuse(key, &format!("the local keyring has no `{key}`"), "leave it out");
            }
            section.path("keyring").map(|keyring| KeyProvider::Local { keyring: keyring.value })
        }
        Some(Kind::Kms) => {
            section.refuse("keyring", "KMS takes no `keyring`", "leave it out, or write `provider = \"local\"`");
            let text = |key| section.string(key).map(|found| found.value);
            let key_check = section.duration("key_check", SECOND..=DAY).unwrap_or(HOUR);
            Some(KeyProvider::Kms { region: text("region"), endpoint: text("endpoint"), key_check })
        }
    };
    let cache = cache(section);
    section.finish();
    Some(Keys { provider: provider?, cache })
}

fn cache(section: &Section<'_>) -> KeyCache {
    let default = KeyCache::default();
    KeyCache {
        max_age: section.duration("max_age", TICK..=default.max_age).unwrap_or(default.max_age),
        max_messages: section.integer("max_messages", 1..=default.max_messages).unwrap_or(default.max_messages),
        max_bytes: section.size("max_bytes", 1..=TIB).map_or(default.max_bytes, |size| size.value),
        unwrapped_entries: section.integer("unwrapped_entries", 1..=1_000_000).unwrap_or(default.unwrapped_entries),
        unwrapped_age: section.duration("unwrapped_age", TICK..=HOUR).unwrap_or(default.unwrapped_age),
    }
}

/// A file's path, or `{ catalog = true }`.
fn tokens(section: &Section<'_>, catalog: bool) -> Option<Tokens> {
    if !section.has("tokens") || section.is_string("tokens") || section.is_reference("tokens") {
        return section.path("tokens").map(|path| Tokens::File(path.value));
    }
    let table = section.section("tokens")?;
    let there = table.boolean("catalog");
    table.finish();
    if there != Some(true) {
        let help = "write `tokens = \"tokens.json\"`, or `tokens = { catalog = true }`";
        table.own_fault(Fault::new("`tokens` names no place", help), "in this table");
        return None;
    }
    if !catalog {
        let help = "add `[catalog]` with `url = \"sqlite:catalog.db\"`, or name a file";
        table.own_fault(Fault::new("`tokens` are in a catalogue, and there is no [catalog]", help), "here");
    }
    Some(Tokens::Catalog)
}

fn identity(section: &Section<'_>, classes: &Classes, catalog: bool) -> Identity {
    let tokens = tokens(section, catalog);
    let certified = clients::certified(section.sections("mtls"), classes);
    section.finish();
    Identity { tokens, certified }
}

fn limits(section: &Section<'_>) -> Limits {
    let default = Limits::default();
    let duration = |key, default| section.duration(key, TICK..=DAY).unwrap_or(default);
    let count = |key, default| section.integer(key, 1..=1_000_000).map_or(default, to_usize);

    let memory = section.size("buffer_memory", 32 * MIB..=TIB).map_or(default.buffer_memory as u64, |size| size.value);
    let max_part = section.size("max_part", 5 * MIB..=5 * GIB);
    if let Some(part) = max_part.as_ref().filter(|part| part.value > memory) {
        let help = "lower `max_part`, or raise `buffer_memory` (256MiB unless written) to hold several parts";
        let fault = Fault::new("`max_part` is larger than `buffer_memory`", help);
        section.fault(fault.at(&part.span, "a part of this size never fits"));
    }
    let limits = Limits {
        buffer_memory: to_usize(memory),
        buffer_wait: section.duration("buffer_wait", TICK..=HOUR).unwrap_or(default.buffer_wait),
        max_part: max_part.map_or(default.max_part.min(memory / 4), |part| part.value),
        uploads: count("uploads", default.uploads),
        connections: count("connections", default.connections),
        handshake_timeout: duration("handshake_timeout", default.handshake_timeout),
        header_timeout: duration("header_timeout", default.header_timeout),
        idle_timeout: duration("idle_timeout", default.idle_timeout),
        body_idle_timeout: duration("body_idle_timeout", default.body_idle_timeout),
        send_idle_timeout: duration("send_idle_timeout", default.send_idle_timeout),
        min_body_rate: section.size("min_body_rate", 0..=GIB).map_or(default.min_body_rate, |size| size.value),
        header_bytes: section
            .size("header_bytes", 8 * KIB..=64 * KIB)
            .map_or(default.header_bytes, |size| to_usize(size.value)),
        drain_delay: section.duration("drain_delay", Duration::ZERO..=HOUR).unwrap_or(default.drain_delay),
        drain_timeout: duration("drain_timeout", default.drain_timeout),
    };
    section.finish();
    limits
}

fn admin(section: &Section<'_>) -> (Option<Found<SocketAddr>>, Admin) {
    let bind = section.address("bind");
    section.finish();
    let admin = bind.as_ref().map_or(Admin::default(), |bind| Admin { bind: bind.value });
    (bind, admin)
}

fn log(section: &Section<'_>) -> Log {
    let default = Log::default();
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let names =
        [("plain", LogObjectKeys::Plain), ("hashed", LogObjectKeys::Hashed), ("omitted", LogObjectKeys::Omitted)];
    let log = Log {
        format: section.one_of("format", &formats).unwrap_or(default.format),
        level: section.string("level").and_then(|level| filter(section, level)).unwrap_or(default.level),
        object_keys: section.one_of("object_keys", &names).unwrap_or(default.object_keys),
        access: section.section("access").map(|access| self::access(&access)),
    };
    section.finish();
    log
}

/// `access` of `[log]`.
fn access(section: &Section<'_>) -> AccessLog {
    let formats = [("alb", AccessFormat::Alb), ("json", AccessFormat::Json)];
    section.require("path", "\"access.log\"");
    let access = AccessLog {
        path: section.path("path").map(|path| path.value).unwrap_or_default(),
        format: section.one_of("format", &formats).unwrap_or(AccessFormat::Alb),
        query: section.boolean("query").unwrap_or(false),
    };
    section.finish();
    access
}

fn filter(section: &Section<'_>, level: Found<String>) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A bare word that is no level would be taken for a module's name, and silence all the rest.
    let bare = |part: &str| !part.contains(['=', '[']) && !LEVELS.contains(&part.trim().to_ascii_lowercase().as_str());
    if level.value.split(',').any(bare) || EnvFilter::try_new(&level.value).is_err() {
        let fits = "write `off`, `error`, `warn`, `info`, `debug` or `trace`, or a list such as `info,sealward=debug`";
        let help = match nearest(&level.raw, LEVELS) {
            Some(meant) => format!("did you mean `{meant}`? {fits}"),
            None => fits.to_owned(),
        };
        let fault = Fault::new(format!("`level` cannot be {}", quoted(&level.raw)), help);
        section.fault(fault.at(&level.span, "not a log filter"));
        return None;
    }
    Some(level.value)
}

/// Each address that meets an earlier one is a fault at both places.
fn binds_differ(document: &Document<'_>, binds: &[Found<SocketAddr>]) {
    for (at, bind) in binds.iter().enumerate() {
        let Some(first) = binds[..at].iter().find(|first| meet(first.value, bind.value)) else { continue };
        let help = "give each `[[listener]]`, and `[admin]` (127.0.0.1:9464 unless written), a port of its own";
        let fault = Fault::new("two listeners have one bind address", help).at(&bind.span, "taken already");
        document.fault(if first.span == bind.span { fault } else { fault.and_at(&first.span, "first taken here") });
    }
}

/// Whether the system would refuse to bind both. Port 0 asks for any free one.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified();
    let one_address = a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (all(a) || all(b)));
    a.port() != 0 && a.port() == b.port() && one_address
}

/// Sizes and counts here fit 64-bit systems; elsewhere the most that fits is meant.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
