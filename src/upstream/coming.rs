//! A target's body on its way back, which has to go on. It drives the connection it comes on,
//! and gives that back at its end.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep},
};

use super::{InFlight, one::One, sent::Activity, shared::Stream, target::Target};

const GONE: &str = "the app behind is gone, and its time over";

/// A body that a target sends.
pub struct Coming {
    pub(super) body: Incoming,
    pub(super) idle: Duration,
    /// When something last went or came, the client's own body included.
    pub(super) activity: Arc<Activity>,
    pub(super) via: Via,
    pub(super) target: Arc<Target>,
    pub(super) in_flight: Option<InFlight>,
    /// Whether it is clear where the answer ends, so that another may follow on its connection.
    pub(super) clear: bool,
}

pub(super) enum Via {
    /// A connection that is ours until the end.
    One(Box<One>),
    /// A stream of one that others share, with a clock of our own once it is waited for.
    Shared { _stream: Arc<Stream>, waiting: Option<Waiting> },
    /// Nothing is left to come.
    Over,
}

pub(super) struct Waiting {
    timer: Pin<Box<Sleep>>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Coming {
    /// As it begins: what has no body is over at once.
    pub(super) fn begun(mut self, switching: bool) -> Self {
        self.activity.now();
        if let Via::One(one) = &mut self.via {
            // A body may be another task's, and has a time of its own.
            one.watched = false;
            one.due_by(self.activity.last() + self.idle);
        }
        if self.body.is_end_stream() && !switching {
            self.over();
        }
        self
    }

    /// The request counts as under way no more, and its connection is another's.
    fn over(&mut self) {
        self.in_flight = None;
        if let Via::One(one) = std::mem::replace(&mut self.via, Via::Over)
            && self.clear
        {
            self.target.pool.give_back(one);
        }
    }

    /// Has the connection go on by itself, since another protocol is spoken on it from now on;
    /// the request counts as under way for as long as what is returned is there.
    pub fn switched(&mut self) -> Option<InFlight> {
        if let Via::One(one) = std::mem::replace(&mut self.via, Via::Over) {
            one.let_go();
        }
        self.in_flight.take()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = &mut self.body;
        match &mut self.via {
            Via::One(one) => one.turn(cx, |cx| Pin::new(&mut *body).poll_frame(cx)),
            Via::Shared { .. } | Via::Over => Pin::new(body).poll_frame(cx),
        }
    }

    /// Why nothing more is waited for, if that is so.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let (timer, cut) = match &mut self.via {
            Via::One(one) if one.watched && !one.timer.is_elapsed() => return Poll::Pending,
            Via::One(one) => {
                one.watched = true;
                (&mut one.timer, &mut one.cut)
            }
            Via::Shared { waiting, .. } => {
                let waiting = waiting.get_or_insert_with(|| Waiting {
                    timer: Box::pin(tokio::time::sleep(self.idle)),
                    cut: Box::pin(self.target.cut_asked()),
                });
                (&mut waiting.timer, &mut waiting.cut)
            }
            Via::Over => return Poll::Pending,
        };
        // A task that has had its share of polls would be told to wait without being remembered.
        if std::pin::pin!(unconstrained(cut.as_mut())).poll(cx).is_ready() {
            return Poll::Ready(GONE);
        }
        while std::pin::pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            let due = self.activity.due(self.idle);
            if due <= Instant::now() {
                return Poll::Ready("the app behind stopped in the middle of its answer");
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        // Also where there is always more to be passed on, and nothing is waited for.
        if this.target.is_over() && this.in_flight.is_some() {
            return Poll::Ready(Some(Err(GONE.into())));
        }
        if let Poll::Ready(frame) = this.poll_body(cx) {
            this.activity.now();
            if frame.is_none() || this.body.is_end_stream() {
                this.over();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match this.poll_clock(cx) {
            Poll::Ready(why) => Poll::Ready(Some(Err(why.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
