//! Which request goes where.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, Request, header};

use crate::{
    config::{self, Action, Config, Forward, Host, Matching, Path, Redirect, Respond},
    fault::{Fault, Kind},
    http::{Connection, path},
    objects::Objects,
    quota::Quota,
    secret::random_array,
    upstream::{Cookies, Upstream},
};

/// The routes of one configuration, in the order in which they are tried.
pub(super) struct Routes {
    routes: Vec<Arc<Route>>,
    /// Whether any of them asks for the host.
    by_host: bool,
}

/// One route at work.
pub(super) struct Route {
    /// The configured path, which is the metric's label too.
    pub(super) label: String,
    matching: Matching,
    pub(super) public: bool,
    pub(super) priority: Option<u32>,
    pub(super) quotas: Vec<Arc<Quota>>,
    pub(super) compress: bool,
    pub(super) does: Does,
}

/// What a route does.
pub(super) enum Does {
    /// Seals and opens objects.
    Seal(Arc<Objects>),
    /// Sends on.
    Forward(Box<Onward>),
    /// Sends elsewhere.
    Redirect(Redirect),
    /// Says one thing.
    Respond(Respond),
}

/// Where requests are sent on to.
pub(super) struct Onward {
    pub(super) forward: Forward,
    groups: Vec<(Arc<Upstream>, u32)>,
    cookies: Option<Cookies>,
}

impl Onward {
    /// The upstream of this request, and what leads the client to it again.
    pub(super) fn group<B>(&self, request: &Request<B>) -> (&Arc<Upstream>, Option<HeaderValue>) {
        let open: u64 = self.groups.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let bound = || {
            let names = self.groups.iter().map(|(upstream, _)| upstream.name());
            self.cookies.as_ref()?.find(request.headers(), names)
        };
        let drawn = || {
            let random = u32::from_be_bytes(random_array().unwrap_or_default());
            let mut at = (u64::from(random) * open) >> 32;
            let found = self.groups.iter().position(|(_, weight)| {
                let weight = u64::from(*weight);
                let here = at < weight;
                at = at.saturating_sub(weight);
                here
            });
            found.unwrap_or_default()
        };
        // The configuration sees to it that there is one.
        let at = if self.groups.len() == 1 { 0 } else { bound().unwrap_or_else(drawn) };
        let upstream = &self.groups[at].0;
        (upstream, self.cookies.as_ref().and_then(|cookies| cookies.set(upstream.name())))
    }
}

/// Where one request goes.
pub(super) struct Matched {
    pub(super) route: Arc<Route>,
    /// The decoded path behind the route's own; empty for the collection.
    pub(super) rest: String,
}

impl Routes {
    /// The routes of `config`, over `classes`, `upstreams` and `quotas` by name.
    ///
    /// # Errors
    /// The name of what isn't there, which a checked configuration has not.
    pub(super) fn new(
        config: &Config,
        classes: &HashMap<String, Arc<Objects>>,
        upstreams: &HashMap<String, Arc<Upstream>>,
        quotas: &HashMap<String, Arc<Quota>>,
    ) -> Result<Self, String> {
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let config::Route { label, matching, public, quotas: wanted, compress, action } = route.clone();
            let quotas = wanted.into_iter().map(|name| quotas.get(&name).cloned().ok_or(name));
            let quotas = quotas.collect::<Result<_, _>>()?;
            let does = match action {
                Action::Seal { class } => Does::Seal(classes.get(&class).ok_or(class)?.clone()),
                Action::Forward(forward) => {
                    let group = |group: &config::Group| {
                        let upstream = upstreams.get(&group.upstream).ok_or(group.upstream.clone())?;
                        Ok((Arc::clone(upstream), group.weight))
                    };
                    let groups = forward.groups.iter().map(group).collect::<Result<_, String>>()?;
                    let cookies = forward.sticky.as_ref().map(|sticky| Cookies::new(sticky, &label));
                    Does::Forward(Box::new(Onward { forward: *forward, groups, cookies }))
                }
                Action::Redirect(redirect) => Does::Redirect(redirect),
                Action::Respond(respond) => Does::Respond(respond),
            };
            routes.push(Arc::new(Route {
                label,
                priority: matching.priority,
                matching,
                public,
                quotas,
                compress,
                does,
            }));
        }
        routes.sort_by_cached_key(|route| rank(&route.matching));
        let by_host = routes.iter().any(|route: &Arc<Route>| route.matching.host.is_some());
        Ok(Self { routes, by_host })
    }

    /// The route of `request`.
    ///
    /// # Errors
    /// 400 for a path that can't be read, 404 for one that leads nowhere.
    pub(super) fn find<B>(&self, request: &Request<B>) -> Result<Matched, Fault> {
        let path = match request.uri().path() {
            // Asked of the server as a whole (RFC 9110, section 9.3.7): whoever has its root answers.
            "*" if *request.method() == Method::OPTIONS => "/".to_owned(),
            path => path::decode(path)?,
        };
        let host = if self.by_host { host_of(request) } else { None };
        let seen = Seen { request, path: &path, host: host.as_deref() };
        if let Some(route) = self.routes.iter().find(|route| seen.fits(&route.matching)) {
            if matches!(route.does, Does::Forward(_)) && path::is_otherwise_to_some(&path) {
                return Err(Fault::bad_request("the path has a backslash, or a dot segment with a parameter"));
            }
            let rest = match &route.matching.path {
                Path::Prefix(prefix) => path[prefix.len()..].to_owned(),
                Path::Exact(_) | Path::Pattern(_) => String::new(),
            };
            return Ok(Matched { route: Arc::clone(route), rest });
        }
        let slashed = |route: &Arc<Route>| matches!(&route.matching.path, Path::Prefix(prefix) if prefix.strip_suffix('/') == Some(&path));
        Err(if self.routes.iter().any(slashed) {
            Fault::new(Kind::NotFound, "nothing is served there; the path needs a slash at its end")
        } else {
            Fault::new(Kind::NotFound, "nothing is served there")
        })
    }
}

/// What is tried first: by priority, then the narrower. An exact path goes before a pattern,
/// a pattern before a beginning, a longer beginning before a shorter; then a host before
/// `*.`, and that before none; then more conditions before fewer; then as written.
fn rank(matching: &Matching) -> impl Ord + use<> {
    let path = match &matching.path {
        Path::Exact(_) => (0, 0),
        Path::Pattern(_) => (1, 0),
        Path::Prefix(prefix) => (2, usize::MAX - prefix.len()),
    };
    let host = match &matching.host {
        Some(Host::Exact(_)) => (0, 0),
        Some(Host::Below(domain)) => (1, usize::MAX - domain.len()),
        None => (2, 0),
    };
    let conditions = usize::from(!matching.methods.is_empty())
        + usize::from(!matching.sources.is_empty())
        + matching.headers.len()
        + matching.query.len();
    (matching.priority.unwrap_or(u32::MAX), path, host, usize::MAX - conditions)
}

/// What of a request routes look at.
struct Seen<'a, B> {
    request: &'a Request<B>,
    path: &'a str,
    host: Option<&'a str>,
}

impl<B> Seen<'_, B> {
    fn fits(&self, matching: &Matching) -> bool {
        let Self { request, path, host } = self;
        let path_fits = match &matching.path {
            Path::Exact(exact) => path == exact,
            Path::Prefix(prefix) => path.starts_with(prefix),
            Path::Pattern(pattern) => pattern.is_match(path),
        };
        path_fits
            && matching.host.as_ref().is_none_or(|wanted| host.is_some_and(|host| host_fits(host, wanted)))
            && (matching.methods.is_empty() || matching.methods.contains(request.method()))
            && matching.headers.iter().all(|(name, pattern)| {
                let values = request.headers().get_all(name).iter();
                values.filter_map(|value| value.to_str().ok()).any(|value| pattern.is_match(value))
            })
            && matching.query.iter().all(|(name, pattern)| {
                let pairs = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
                pairs.into_iter().any(|(key, value)| key == *name && pattern.is_match(&value))
            })
            && (matching.sources.is_empty()
                || self.source().is_some_and(|source| matching.sources.iter().any(|network| network.contains(&source))))
    }

    fn source(&self) -> Option<IpAddr> {
        let connection = self.request.extensions().get::<Arc<Connection>>()?;
        Some(connection.peer.ip().to_canonical())
    }
}

fn host_fits(host: &str, wanted: &Host) -> bool {
    match wanted {
        Host::Exact(name) => host == name,
        Host::Below(domain) => {
            host.strip_suffix(domain.as_str()).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        }
    }
}

/// What a request is for: host and port, as the client writes them.
pub(super) fn authority_of<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST)?.to_str().ok(),
    }
}

/// The host a request is for, in lower case and without its port.
pub(super) fn host_of<B>(request: &Request<B>) -> Option<String> {
    let authority = authority_of(request)?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    // `a.example.` is the same name, from the root.
    Some(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}
