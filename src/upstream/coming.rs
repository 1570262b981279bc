//! A target's body on its way back, which has to go on. It drives the connection it comes on,
//! and gives that back at its end.

use std::{
    collections::VecDeque,
    error::Error,
    future::{Future, poll_fn},
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

/// How much of an answer is gathered at most before it goes on; bytes.
const GATHERED: u64 = 64 << 10;
/// In how many pieces, each of which costs more than its bytes.
const PIECES: usize = 64;
/// And for how long.
const GATHERING: Duration = Duration::from_secs(5);

type BoxError = Box<dyn Error + Send + Sync>;

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
    /// What was gathered of it and hasn't gone on yet.
    pub(super) gathered: VecDeque<Result<Frame<Bytes>, BoxError>>,
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

    /// Waits until all of it is there, or 64 KiB, or 64 pieces, or five seconds are over.
    ///
    /// So that it goes on in one with its head: a client that hears of an error in the middle of an upload may end
    /// its stream there, short of the length that it promised (curl up to 7.88). Over HTTP/2 that makes
    /// the whole request malformed (RFC 9113, section 8.1.1), and what is still to come of the answer is lost.
    pub async fn gather(&mut self) {
        let gathering = async {
            let mut bytes = 0;
            while bytes < GATHERED
                && self.gathered.len() < PIECES
                && let Some(frame) = poll_fn(|cx| self.poll_coming(cx)).await
            {
                let failed = frame.is_err();
                bytes += frame.as_ref().map_or(0, length);
                self.gathered.push_back(frame);
                if failed || self.body.is_end_stream() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(GATHERING, gathering).await;
        if let Via::One(one) = &mut self.via {
            // Whoever takes the body is another task than whoever gathered of it.
            one.watched = false;
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = &mut self.body;
        match &mut self.via {
            Via::One(one) => one.turn(cx, |cx| Pin::new(&mut *body).poll_frame(cx)),
            Via::Shared { .. } | Via::Over => Pin::new(body).poll_frame(cx),
        }
    }

    fn poll_coming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // Also where there is always more to be passed on, and nothing is waited for.
        if self.target.is_over() && self.in_flight.is_some() {
            return Poll::Ready(Some(Err(GONE.into())));
        }
        if let Poll::Ready(frame) = self.poll_body(cx) {
            self.activity.now();
            if frame.is_none() || self.body.is_end_stream() {
                self.over();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.poll_clock(cx) {
            Poll::Ready(why) => Poll::Ready(Some(Err(why.into()))),
            Poll::Pending => Poll::Pending,
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

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

impl Body for Coming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.gathered.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_coming(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.gathered.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let gathered: u64 = self.gathered.iter().flatten().map(length).sum();
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + gathered);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + gathered);
        }
        hint
    }
}
