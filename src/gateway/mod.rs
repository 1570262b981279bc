//! HTTP to objects: what a request wants of which object, and the answer.
//!
//! The door has found its route and its caller. Whatever can refuse a request does so before
//! a byte of its body is asked for.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, Response};

use crate::{
    fault::{Fault, Kind},
    http::{Arriving, Body, Pace},
    identity::{Action, Caller, Link, TokenStore},
    objects::{ObjectKey, Objects, WriteCondition},
};

mod answer;
mod bodies;
mod head;
mod query;
mod share;
mod upload;

pub use answer::without_body;
pub use query::Query;

/// Methods of an object's own path.
const OBJECT_METHODS: &str = "GET, HEAD, PUT, DELETE, POST, OPTIONS";
/// Methods of the collection.
const COLLECTION_METHODS: &str = "GET, HEAD, POST, OPTIONS";

/// The gateway, which each connection shares.
pub struct Gateway {
    /// By whose key links are signed.
    tokens: Option<Arc<dyn TokenStore>>,
    pace: Pace,
}

/// Where a request goes.
pub struct Place<'a> {
    /// The route's own path, with `/` at both ends.
    pub path: &'a str,
    /// What is behind it.
    pub objects: &'a Arc<Objects>,
    /// The decoded path behind the route's own; empty for the collection.
    pub rest: &'a str,
}

/// The name that an object got from us: an extension of the answer.
#[derive(Clone, Debug)]
pub struct Named(pub String);

/// What may be done there.
pub fn methods(collection: bool) -> &'static str {
    if collection { COLLECTION_METHODS } else { OBJECT_METHODS }
}

impl Gateway {
    /// A gateway that reads bodies at `pace`.
    pub fn new(tokens: Option<Arc<dyn TokenStore>>, pace: Pace) -> Self {
        Self { tokens, pace }
    }

    /// Answers a request of `caller` at `at`.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub async fn answer(
        &self,
        request: Request<Arriving>,
        at: &Place<'_>,
        query: &Query,
        caller: &Caller,
    ) -> Result<Response<Body>, Fault> {
        if request.method() == Method::OPTIONS {
            return Ok(answer::allow(methods(at.rest.is_empty())));
        }
        if at.rest.is_empty() {
            self.collection(request, at, query, caller).await
        } else {
            let key = ObjectKey::new(at.rest, &at.objects.class().prefix)?;
            self.object(request, at, &key, query, caller).await
        }
    }

    async fn object(
        &self,
        request: Request<Arriving>,
        at: &Place<'_>,
        key: &ObjectKey,
        query: &Query,
        caller: &Caller,
    ) -> Result<Response<Body>, Fault> {
        let objects = at.objects;
        let class = objects.class().name.as_str();
        match *request.method() {
            Method::GET | Method::HEAD => {
                query.allow(&["expires", "by", "signature"])?;
                caller.require(Action::Read, class)?;
                answer::read(objects, key, request.method(), request.headers()).await
            }
            Method::PUT => {
                query.allow(&[])?;
                caller.require(Action::Write, class)?;
                upload::put(objects, key, request, caller, self.pace).await
            }
            Method::DELETE => {
                query.allow(&[])?;
                caller.require(Action::Delete, class)?;
                let condition = head::write_condition(request.headers())?;
                match &condition {
                    WriteCondition::None => {}
                    WriteCondition::Absent => {
                        return Err(Fault::bad_request("If-None-Match makes no sense of a removal; use If-Match"));
                    }
                    // Whether a condition holds tells what stands there.
                    _ => caller.require(Action::Read, class)?,
                }
                objects.delete(key, &condition, &caller.name).await?;
                Ok(answer::no_content())
            }
            Method::POST if query.has("share") => {
                query.allow(&["share", "expires"])?;
                caller.require(Action::Share, class)?;
                caller.require(Action::Read, class)?;
                let age = Duration::from_secs(query.number("expires")?.unwrap_or(3600));
                let tokens = self
                    .tokens
                    .as_deref()
                    .ok_or_else(|| Fault::new(Kind::Forbidden, "links are signed on behalf of an access token"))?;
                let link = Link::sign(tokens.key(), caller, class, key.as_str(), age)?;
                Ok(share::link(&request, at.path, key, &link))
            }
            _ => Err(Fault::new(Kind::MethodNotAllowed, "an object takes GET, HEAD, PUT, DELETE, and POST ?share")),
        }
    }

    async fn collection(
        &self,
        request: Request<Arriving>,
        at: &Place<'_>,
        query: &Query,
        caller: &Caller,
    ) -> Result<Response<Body>, Fault> {
        let objects = at.objects;
        let class = objects.class().name.as_str();
        match *request.method() {
            Method::GET | Method::HEAD if query.has("list") => {
                query.allow(&["list", "prefix", "after", "limit", "order"])?;
                caller.require(Action::List, class)?;
                answer::list(objects, query).await
            }
            Method::POST => {
                query.allow(&[])?;
                caller.require(Action::Write, class)?;
                upload::post(at, request, caller, self.pace).await
            }
            Method::PUT => Err(Fault::bad_request(
                "the object has no name: put one behind the path (`curl -T -` needs a full URL), or use POST",
            )),
            Method::GET | Method::HEAD => {
                Err(Fault::bad_request("name an object, or add ?list to see which there are"))
            }
            _ => Err(Fault::new(Kind::MethodNotAllowed, "the collection takes GET ?list and POST")),
        }
    }
}
