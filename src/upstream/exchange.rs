//! One request to one target, from the connection it goes by to its answer's head.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request::Parts, uri};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2},
};
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep},
};

use super::{
    Failure, InFlight, TRIES, Upstream,
    coming::{Coming, Via},
    connect::Lack,
    one::One,
    pool::{MOST_SHARED, Taken, Wants},
    sent::{Activity, Lender, Lent},
    target::Target,
};
use crate::{config::Protocol, fault::chain};

impl Upstream {
    /// One request to one target, and its answer's head.
    pub(super) async fn exchange(
        &self,
        head: &Parts,
        target: &Arc<Target>,
        lender: &Lender,
        activity: &Arc<Activity>,
        in_flight: InFlight,
    ) -> Result<Response<Coming>, Failure> {
        let upgrade = head.headers.contains_key(header::UPGRADE);
        let mut unsent = None;
        let mut ended = 0;
        loop {
            let again = ended > 0;
            let wants = match again {
                _ if upgrade => Wants::Switching,
                true => Wants::Fresh,
                false => Wants::Any,
            };
            let taken = match target.pool.take(target, &self.connector, wants).await {
                Err(unconnected) if unconnected.lack == Some(Lack::Connections) => {
                    // Those that wait on another thread, or for another target, do no good there.
                    self.connector.connections.spare();
                    target.pool.take(target, &self.connector, wants).await
                }
                taken => taken,
            };
            let taken = taken.map_err(|unconnected| {
                if unconnected.lack.is_some() {
                    Failure::Ours(unconnected.words)
                } else {
                    Failure::Unreachable(unconnected.words)
                }
            })?;
            let mut request = match unsent.take() {
                Some(request) => request,
                None => {
                    let Some(body) = lender.lend(activity) else {
                        return Err(Failure::Broken("its body has gone to another target in part".into()));
                    };
                    self.request(head, target, body)
                }
            };
            let (response, via) = match taken {
                Taken::One(mut one) => (self.on_one(&mut one, target, request, activity).await, Via::One(one)),
                Taken::Shared(mut sender, stream) => {
                    request.body_mut().goes_by(&stream);
                    let response = self.on_shared(&mut sender, target, request, activity).await;
                    if let Err(
                        Broke { request: Some(_), .. } | Broke { failure: Failure::Refused { goodbye: true, .. }, .. },
                    ) = &response
                    {
                        stream.was_the_last();
                    }
                    (response, Via::Shared { _stream: stream, waiting: None })
                }
            };
            match response {
                Ok(response) => {
                    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                    let clear = !is_ambiguous(response.headers());
                    let coming = |body| Coming {
                        body,
                        idle: self.idle,
                        activity: Arc::clone(activity),
                        via,
                        target: Arc::clone(target),
                        in_flight: Some(in_flight),
                        clear,
                        gathered: VecDeque::new(),
                    };
                    return Ok(response.map(|body| coming(body).begun(switching)));
                }
                // The target has ended it while it waited, and nothing has left.
                Err(Broke { request: Some(request), failure }) => {
                    ended += 1;
                    // There are no more that others share than those, and each is tried once.
                    let most = if matches!(via, Via::Shared { .. }) { MOST_SHARED + 1 } else { TRIES };
                    if ended >= most {
                        return Err(Failure::Unreachable(format!("connections end before they are used: {failure}")));
                    }
                    unsent = Some(request);
                }
                Err(broke) => return Err(broke.failure),
            }
        }
    }

    /// A request on a connection of its own, which is driven here.
    async fn on_one(
        &self,
        one: &mut One,
        target: &Target,
        request: Request<Lent>,
        activity: &Arc<Activity>,
    ) -> Result<Response<Incoming>, Broke> {
        activity.now();
        one.due_by(activity.last() + self.head);
        let mut answer = std::pin::pin!(one.sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = one.turn(cx, |cx| answer.as_mut().poll(cx)) {
                return Poll::Ready(answer.map_err(|error| broke(error, activity)));
            }
            if target.is_over() {
                return Poll::Ready(Err(gone()));
            }
            if one.watched && !one.timer.is_elapsed() {
                // Both have this task's waker.
                return Poll::Pending;
            }
            one.watched = true;
            self.poll_clock(one.timer.as_mut(), one.cut.as_mut(), activity, cx).map(Err)
        });
        answer.await
    }

    /// A request on a connection that others share.
    async fn on_shared(
        &self,
        sender: &mut http2::SendRequest<Lent>,
        target: &Target,
        request: Request<Lent>,
        activity: &Arc<Activity>,
    ) -> Result<Response<Incoming>, Broke> {
        activity.now();
        let mut answer = std::pin::pin!(sender.try_send_request(request));
        let mut timer = std::pin::pin!(tokio::time::sleep(self.head));
        let mut cut = std::pin::pin!(target.cut_asked());
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer.map_err(|error| broke(error, activity)));
            }
            self.poll_clock(timer.as_mut(), cut.as_mut(), activity, cx).map(Err)
        });
        answer.await
    }

    /// Why an answer is waited for no longer.
    fn poll_clock(
        &self,
        mut timer: Pin<&mut Sleep>,
        cut: Pin<&mut (impl Future<Output = ()> + ?Sized)>,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<Broke> {
        // A task that has had its share of polls would be told to wait without being remembered.
        let mut cut = std::pin::pin!(unconstrained(cut));
        if cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(gone());
        }
        while std::pin::pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            let due = activity.due(self.head);
            if due <= Instant::now() {
                return Poll::Ready(Broke { failure: Failure::Idle(self.head), request: None });
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// The request as the target is to see it.
    fn request(&self, head: &Parts, target: &Target, body: Lent) -> Request<Lent> {
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        let mut headers = head.headers.clone();
        // HTTP/1.0 may do without, and what goes on is 1.1 (RFC 9112, section 3.2).
        let host = headers.get(header::HOST).cloned();
        let host = host.or_else(|| HeaderValue::from_str(&target.place().of).ok());
        let mut uri = uri::Parts::default();
        uri.path_and_query = head.uri.path_and_query().cloned();
        if self.connector.protocol == Protocol::Http2 {
            // There the host has a place of its own (RFC 9113, section 8.3.1).
            headers.remove(header::HOST);
            uri.authority = host.and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
            uri.scheme = Some(if target.place().https { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
            *request.version_mut() = Version::HTTP_2;
        } else if let Some(host) = host {
            headers.insert(header::HOST, host);
        }
        // Each part was parsed before.
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.headers_mut() = headers;
        request
    }
}

/// A request that came to nothing on a connection.
struct Broke {
    failure: Failure,
    /// There if nothing of it has left.
    request: Option<Request<Lent>>,
}

fn gone() -> Broke {
    Broke { failure: Failure::Broken("the target is gone, and its time over".into()), request: None }
}

fn broke(mut error: TrySendError<Request<Lent>>, activity: &Activity) -> Broke {
    let request = error.take_message();
    let error = error.into_error();
    let failure = if let Some(error) = activity.client_failed() {
        Failure::Client(error)
    } else if let Some(goodbye) = unprocessed(&error) {
        Failure::Refused { words: chain(&error), goodbye }
    } else {
        Failure::Broken(chain(&error))
    };
    Broke { failure, request }
}

/// Whether the target says that it has done nothing of the request, and never will (RFC 9113,
/// sections 6.8 and 8.7): a stream that it refuses, or one that came after its goodbye, which is true.
fn unprocessed(error: &hyper::Error) -> Option<bool> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let goodbye = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            let refused = goodbye || error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return (error.is_remote() && refused).then_some(goodbye);
        }
        cause = error.source();
    }
    None
}

/// Whether an answer was framed in two ways: what comes behind it is nobody's to believe
/// (RFC 9112, section 6.3).
fn is_ambiguous(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}
