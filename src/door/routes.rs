//! Which request goes where.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use http::{Request, header};

use crate::{
    config::{self, Action, Config, Forward, Host, Matching, Path, Redirect, Respond},
    fault::{Fault, Kind},
    http::{Connection, path},
    objects::Objects,
    upstream::Upstream,
};

/// The routes of one configuration, in the order in which they are tried.
pub(super) struct Routes(Vec<Arc<Route>>);

/// One route at work.
pub(super) struct Route {
    /// The configured path, which is the metric's label too.
    pub(super) label: String,
    matching: Matching,
    pub(super) public: bool,
    pub(super) does: Does,
}

/// What a route does.
pub(super) enum Does {
    /// Seals and opens objects.
    Seal(Arc<Objects>),
    /// Sends on.
    Forward(Box<Forward>, Arc<Upstream>),
    /// Sends elsewhere.
    Redirect(Redirect),
    /// Says one thing.
    Respond(Respond),
}

/// Where one request goes.
pub(super) struct Matched {
    pub(super) route: Arc<Route>,
    /// The decoded path behind the route's own; empty for the collection.
    pub(super) rest: String,
}

impl Routes {
    /// The routes of `config`, over `classes` and `upstreams` by name.
    ///
    /// # Errors
    /// The name of what isn't there, which a checked configuration has not.
    pub(super) fn new(
        config: &Config,
        classes: &HashMap<String, Arc<Objects>>,
        upstreams: &HashMap<String, Arc<Upstream>>,
    ) -> Result<Self, String> {
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let config::Route { label, matching, public, action } = route.clone();
            let does = match action {
                Action::Seal { class } => Does::Seal(classes.get(&class).ok_or(class)?.clone()),
                Action::Forward(forward) => {
                    let upstream = upstreams.get(&forward.upstream).ok_or(&forward.upstream)?.clone();
                    Does::Forward(forward, upstream)
                }
                Action::Redirect(redirect) => Does::Redirect(redirect),
                Action::Respond(respond) => Does::Respond(respond),
            };
            routes.push(Arc::new(Route { label, matching, public, does }));
        }
        routes.sort_by_cached_key(|route| rank(&route.matching));
        Ok(Self(routes))
    }

    /// The route of `request`.
    ///
    /// # Errors
    /// 400 for a path that can't be read, 404 for one that leads nowhere.
    pub(super) fn find<B>(&self, request: &Request<B>) -> Result<Matched, Fault> {
        let path = path::decode(request.uri().path())?;
        let host = host_of(request);
        let seen = Seen { request, path: &path, host: host.as_deref() };
        if let Some(route) = self.0.iter().find(|route| seen.fits(&route.matching)) {
            let rest = match &route.matching.path {
                Path::Prefix(prefix) => path[prefix.len()..].to_owned(),
                Path::Exact(_) | Path::Pattern(_) => String::new(),
            };
            return Ok(Matched { route: Arc::clone(route), rest });
        }
        let slashed = |route: &Arc<Route>| matches!(&route.matching.path, Path::Prefix(prefix) if prefix.strip_suffix('/') == Some(&path));
        Err(if self.0.iter().any(slashed) {
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

/// The host a request is for, in lower case and without its port.
pub(super) fn host_of<B>(request: &Request<B>) -> Option<String> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(header::HOST)?.to_str().ok()?,
    };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    Some(host.to_ascii_lowercase())
}
