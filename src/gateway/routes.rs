//! Which request goes where.

use std::{collections::HashMap, sync::Arc};

use http::{Request, header};

use super::path;
use crate::{
    config::{Action, Config},
    fault::{Fault, Kind},
    objects::Objects,
};

/// The routes of one configuration, in the order in which they are tried.
pub(super) struct Routes(Vec<Arc<Route>>);

/// One route at work.
pub(super) struct Route {
    /// The configured path, which is the metric's label too.
    pub(super) path: String,
    host: Option<String>,
    pub(super) public: bool,
    pub(super) objects: Arc<Objects>,
}

/// Where one request goes.
pub(super) struct Matched {
    pub(super) route: Arc<Route>,
    /// The decoded path behind the route's own; empty for the collection.
    pub(super) rest: String,
}

impl Routes {
    /// The routes of `config`, over `classes` by name.
    ///
    /// # Errors
    /// The name of a class that isn't there, which a checked configuration has not.
    pub(super) fn new(config: &Config, classes: &HashMap<String, Arc<Objects>>) -> Result<Self, String> {
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let Action::Seal { class } = &route.action;
            routes.push(Arc::new(Route {
                path: route.path.clone(),
                host: route.host.clone(),
                public: route.public,
                objects: Arc::clone(classes.get(class).ok_or_else(|| class.clone())?),
            }));
        }
        // The longest path first; with a host before without; then as written.
        routes.sort_by_key(|route| (std::cmp::Reverse(route.path.len()), route.host.is_none()));
        Ok(Self(routes))
    }

    /// The route of `request`.
    ///
    /// # Errors
    /// 400 for a path that can't be read, 404 for one that leads nowhere.
    pub(super) fn find<B>(&self, request: &Request<B>) -> Result<Matched, Fault> {
        let path = path::decode(request.uri().path())?;
        let host = host_of(request);
        let route = self.0.iter().find(|route| {
            path.starts_with(&route.path)
                && route.host.as_ref().is_none_or(|wanted| host.as_deref() == Some(wanted.as_str()))
        });
        match route {
            Some(route) => Ok(Matched { route: Arc::clone(route), rest: path[route.path.len()..].to_owned() }),
            None if self.0.iter().any(|route| route.path.strip_suffix('/') == Some(&path)) => {
                Err(Fault::new(Kind::NotFound, "nothing is served there; the path needs a slash at its end"))
            }
            None => Err(Fault::new(Kind::NotFound, "nothing is served there")),
        }
    }
}

/// The host a request is for, in lower case and without its port.
fn host_of<B>(request: &Request<B>) -> Option<String> {
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
