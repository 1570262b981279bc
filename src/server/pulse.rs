//! What a connection is doing, and since when: the clock that tells an idle
//! connection from one that is slow with a request's head.
//!
//! hyper's own `header_read_timeout` starts when the connection becomes idle,
//! so it can't tell these apart; and its HTTP/2 side has no idle limit at all.
//! Here the bytes ([`super::watched`]) and the requests ([`Ticket`]) report, and
//! the task that drives the connection asks [`Pulse::due`] what is due when.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use crate::config::Limits;

/// Requests that a peer may take back before they are answered, beyond those it lets be
/// answered: whoever opens streams to reset them has apps work for nothing (CVE-2023-44487).
const TAKEN_BACK: u32 = 200;
/// How long a peer may take to let a connection go that was asked to end; what it still sends is
/// thrown away meanwhile.
const FAREWELL: Duration = Duration::from_secs(7);

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask it to end: it had no request for `idle_timeout`.
    Idle,
    /// Cut it: a request's head took longer than `header_timeout`.
    SlowHead,
    /// Cut it: a stream's window stayed shut for `send_idle_timeout`.
    Stalled,
    /// Cut it: it was asked to end and didn't.
    Overstayed,
    /// Cut it: it takes back what it asks for.
    TakenBack,
}

/// One connection's state, shared by its socket, its requests and its task.
#[derive(Debug)]
pub(super) struct Pulse {
    protocol: Protocol,
    bounds: Bounds,
    origin: Instant,
    waker: AtomicWaker,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Bounds {
    idle: Duration,
    head: Duration,
    send: Duration,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
struct Now {
    /// Requests under way.
    requests: Vec<Arc<Answer>>,
    /// Since when there is none; later, if bytes of the last answer still go out.
    quiet: Instant,
    /// Since when a head is being read.
    head: Option<Instant>,
    /// Whether a part of the next head has come while requests were under way.
    ahead: bool,
    /// Since when the connection is asked to end.
    ending: Option<Instant>,
    /// Whether the socket won't take what we have; that is [`super::stall`]'s to judge.
    blocked: bool,
    unblocked: Instant,
    /// When the streams are looked at next.
    look: Instant,
    /// What is left of [`TAKEN_BACK`]; `None` when there is nothing.
    patience: Option<u32>,
    /// Whether there was any request.
    asked: bool,
    /// Whether the connection's task is at work, and will ask what is due by itself.
    turning: bool,
    /// Whether somebody in that task waits for the last request's end.
    awaited: bool,
}

/// Milliseconds since the connection's origin at which a piece of the answer was
/// handed over that the peer must make room behind; 0 while the next piece is ours to give.
#[derive(Debug, Default)]
struct Answer(AtomicU64);

/// A request under way, from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct Ticket {
    pulse: Arc<Pulse>,
    answer: Arc<Answer>,
    answered: AtomicBool,
}

impl Pulse {
    pub(super) fn new(protocol: Protocol, limits: &Limits) -> Arc<Self> {
        let now = Instant::now();
        let bounds = Bounds { idle: limits.idle_timeout, head: limits.header_timeout, send: limits.send_idle_timeout };
        let look = now + bounds.send;
        Arc::new(Self {
            protocol,
            bounds,
            // A second back, so that 0 is never the time of anything.
            origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
            waker: AtomicWaker::new(),
            now: Mutex::new(Now {
                requests: Vec::new(),
                quiet: now,
                head: None,
                ahead: false,
                ending: None,
                blocked: false,
                unblocked: now,
                look,
                patience: Some(TAKEN_BACK),
                asked: false,
                turning: false,
                awaited: false,
            }),
        })
    }

    /// A request's head is read.
    pub(super) fn begin(self: &Arc<Self>) -> Ticket {
        let answer = Arc::new(Answer::default());
        let mut now = self.lock();
        now.head = None;
        now.ahead = false;
        now.asked = true;
        now.requests.push(answer.clone());
        Ticket { pulse: self.clone(), answer, answered: AtomicBool::new(false) }
    }

    /// Whether there was any request.
    pub(super) fn was_asked(&self) -> bool {
        self.lock().asked
    }

    /// Bytes came from the peer.
    pub(super) fn received(&self) {
        if self.protocol == Protocol::Http2 {
            // Frames of many kinds come at any time; only streams are requests.
            return;
        }
        let mut now = self.lock();
        if now.requests.is_empty() && now.head.is_none() {
            now.head = Some(Instant::now());
        }
    }

    /// A part of a head has come, and the rest hasn't.
    pub(super) fn awaits_head(&self) {
        let mut now = self.lock();
        if now.requests.is_empty() {
            now.head.get_or_insert_with(Instant::now);
        } else {
            now.ahead = true;
        }
    }

    /// The socket took what it was given, or (`blocked`) it didn't.
    pub(super) fn wrote(&self, blocked: bool) {
        let mut now = self.lock();
        if blocked || now.blocked {
            now.unblocked = Instant::now();
            // While an answer still goes out, the peer isn't idle.
            now.quiet = now.unblocked;
        }
        now.blocked = blocked;
    }

    /// Whether no request is under way; the connection's task is woken when that is so.
    pub(super) fn is_quiet(&self) -> bool {
        let mut now = self.lock();
        now.awaited = !now.requests.is_empty();
        !now.awaited
    }

    /// The connection was asked to end.
    pub(super) fn ending(&self) {
        self.lock().ending.get_or_insert_with(Instant::now);
    }

    /// The connection's task goes to work, and asks what is due at the end of it: until then
    /// nobody needs to wake it.
    pub(super) fn turns(&self) {
        self.lock().turning = true;
    }

    /// What is due next, and when, unless something happens before; a time that is past means
    /// now. `None` while others keep the time: the request's own limits, or the socket's.
    pub(super) fn due(&self) -> Option<(Instant, Due)> {
        let mut now = self.lock();
        now.turning = false;
        if now.patience.is_none() {
            return Some((self.origin, Due::TakenBack));
        }
        if !now.requests.is_empty() {
            return match self.protocol {
                Protocol::Http1 => None,
                Protocol::Http2 => Some(self.look_at_streams(&mut now, Instant::now())),
            };
        }
        if let Some(head) = now.head {
            return Some((head + self.bounds.head, Due::SlowHead));
        }
        if now.blocked {
            return None;
        }
        Some(match now.ending {
            Some(ending) => (now.quiet.max(ending) + FAREWELL, Due::Overstayed),
            None => (now.quiet + self.bounds.idle, Due::Idle),
        })
    }

    /// Wakes `waker` when the last request ends.
    pub(super) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// A stream whose window stays shut while the socket is free is the peer's doing.
    /// Looked at a few times within the limit: exact to a quarter of it.
    fn look_at_streams(&self, now: &mut Now, at: Instant) -> (Instant, Due) {
        if at >= now.look {
            let free = if now.blocked { at } else { now.unblocked };
            let stalled = now.requests.iter().any(|answer| {
                let handed = answer.0.load(Ordering::Relaxed);
                handed != 0 && at >= free.max(self.origin + Duration::from_millis(handed)) + self.bounds.send
            });
            if stalled {
                return (at, Due::Stalled);
            }
            now.look = at + self.bounds.send / 4;
        }
        (now.look, Due::Stalled)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Nothing under this lock panics half-way.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Whether the connection speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.pulse.protocol == Protocol::Http2
    }

    /// The answer's head is there.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// A piece of the answer was handed over: the next one is asked for when the peer has room.
    pub(super) fn handed_over(&self) {
        if self.pulse.protocol == Protocol::Http2 {
            let since = self.pulse.origin.elapsed().as_millis();
            self.answer.0.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The next piece of the answer is asked for: waiting for it is not the peer's doing.
    pub(super) fn asked(&self) {
        self.answer.0.store(0, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut now = self.pulse.lock();
        now.requests.retain(|other| !Arc::ptr_eq(other, &self.answer));
        if self.is_http2() {
            now.patience = if self.answered.load(Ordering::Relaxed) {
                now.patience.map(|left| (left + 1).min(TAKEN_BACK))
            } else {
                now.patience.and_then(|left| left.checked_sub(1))
            };
        }
        if now.requests.is_empty() {
            now.quiet = Instant::now();
            if std::mem::take(&mut now.ahead) {
                now.head = Some(now.quiet);
            }
            let wakes = std::mem::take(&mut now.awaited) || !now.turning;
            drop(now);
            if wakes {
                self.pulse.waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            idle_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            send_idle_timeout: Duration::from_secs(40),
            ..Limits::default()
        }
    }

    fn due_in(pulse: &Pulse) -> Option<(u64, Due)> {
        let now = Instant::now();
        pulse.due().map(|(at, due)| (at.saturating_duration_since(now).as_secs(), due))
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn idle_head_request_idle() {
        let pulse = Pulse::new(Protocol::Http1, &limits());
        assert_eq!(due_in(&pulse), Some((60, Due::Idle)));
        pass(50).await;
        pulse.received();
        assert_eq!(due_in(&pulse), Some((10, Due::SlowHead)));
        pass(9).await;
        pulse.received();
        assert_eq!(due_in(&pulse), Some((1, Due::SlowHead)), "each byte doesn't buy time");
        let ticket = pulse.begin();
        assert_eq!(due_in(&pulse), None);
        pass(500).await;
        drop(ticket);
        assert_eq!(due_in(&pulse), Some((60, Due::Idle)));
        pulse.ending();
        assert_eq!(due_in(&pulse), Some((FAREWELL.as_secs(), Due::Overstayed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_began_while_another_was_answered_is_not_idleness() {
        let pulse = Pulse::new(Protocol::Http1, &limits());
        let ticket = pulse.begin();
        pulse.awaits_head();
        pass(30).await;
        assert_eq!(due_in(&pulse), None);
        drop(ticket);
        assert_eq!(due_in(&pulse), Some((10, Due::SlowHead)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_still_going_out_is_not_idle() {
        let pulse = Pulse::new(Protocol::Http1, &limits());
        drop(pulse.begin());
        pulse.wrote(true);
        pass(100).await;
        assert_eq!(due_in(&pulse), None);
        pulse.wrote(false);
        assert_eq!(due_in(&pulse), Some((60, Due::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_back_more_than_is_answered_is_cut() {
        let pulse = Pulse::new(Protocol::Http2, &limits());
        for _ in 0..1000 {
            pulse.begin().answered();
            drop(pulse.begin());
        }
        for _ in 0..TAKEN_BACK {
            assert!(!matches!(due_in(&pulse), Some((_, Due::TakenBack))));
            drop(pulse.begin());
        }
        assert_eq!(due_in(&pulse), Some((0, Due::TakenBack)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shut_stream_window_stalls() {
        let pulse = Pulse::new(Protocol::Http2, &limits());
        let ticket = pulse.begin();
        pass(300).await;
        assert_eq!(due_in(&pulse), Some((10, Due::Stalled)), "nothing handed over: not the peer's doing");
        ticket.handed_over();
        pass(30).await;
        assert_eq!(due_in(&pulse), Some((10, Due::Stalled)));
        pulse.wrote(true);
        pass(20).await;
        assert_eq!(due_in(&pulse), Some((10, Due::Stalled)), "the socket is slow, not the window shut");
        pulse.wrote(false);
        pass(45).await;
        assert_eq!(due_in(&pulse), Some((0, Due::Stalled)));
        ticket.asked();
        assert_eq!(due_in(&pulse), Some((10, Due::Stalled)));
    }
}
