//! A connection of HTTP/1 to a target, driven by the task whose request it carries.
//!
//! That task polls the connection and what the connection brings, which tell each other by wakers
//! that there is news. Within one turn of the task that is no reason to wake it: [`Woken`] takes
//! note, and the turn goes on.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use hyper::client::conn::http1;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep},
};

use super::{sent::Lent, target::Target};

/// How long a connection waits for a request.
pub(super) const KEPT: Duration = Duration::from_secs(60);
/// How often one turn goes on before others have theirs.
const ROUNDS: usize = 8;

pub(super) type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection of HTTP/1, for one request at a time.
pub(super) struct One {
    pub(super) sender: http1::SendRequest<Lent>,
    /// There until it has ended.
    connection: Option<Connection>,
    /// Moved only when it has run out: most requests are over long before.
    pub(super) timer: Pin<Box<Sleep>>,
    /// Whether the task whose request it carries has had its waker put into both of these.
    pub(super) watched: bool,
    /// Resolves when the target's requests are to end.
    pub(super) cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    since: Instant,
    woken: Arc<Woken>,
    /// `woken`, as polls take it.
    waker: Waker,
}

/// Wakes the task that has a connection, but not while that is at work on it.
#[derive(Default)]
struct Woken {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

/// Nobody is at work.
const REST: u8 = 0;
/// The task is, and nothing has happened since it last looked.
const WORK: u8 = 1;
/// The task is, and has to look again.
const NEWS: u8 = 2;

impl Woken {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task behind `waker` goes to work.
    fn begin(&self, waker: &Waker) {
        let mut task = self.task();
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
        drop(task);
        self.state.store(WORK, Ordering::Release);
    }

    /// The task has looked at everything; whether there is news since.
    fn looked(&self) -> bool {
        if self.state.compare_exchange(WORK, REST, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return false;
        }
        // Not a plain store: what is looked at next must not be read before it.
        self.state.swap(WORK, Ordering::AcqRel);
        true
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.state.compare_exchange(WORK, NEWS, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(NEWS) => {}
            Err(_) => {
                if let Some(task) = &*self.task() {
                    task.wake_by_ref();
                }
            }
        }
    }
}

impl One {
    /// A connection over which `sender` sends, to be given up when nothing comes for `idle`.
    pub(super) fn new(
        sender: http1::SendRequest<Lent>,
        connection: Connection,
        target: &Target,
        idle: Duration,
    ) -> Self {
        let woken = Arc::<Woken>::default();
        Self {
            sender,
            connection: Some(connection),
            timer: Box::pin(tokio::time::sleep(idle)),
            watched: false,
            cut: Box::pin(target.cut_asked()),
            since: Instant::now(),
            waker: Arc::clone(&woken).into(),
            woken,
        }
    }

    /// Goes on with whatever the connection has to do, until it brings what `look` looks for or
    /// there is nothing more to do now.
    pub(super) fn turn<T>(&mut self, cx: &Context<'_>, mut look: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.woken.begin(cx.waker());
        let waker = self.waker.clone();
        let mut quiet = Context::from_waker(&waker);
        for _ in 0..ROUNDS {
            self.drive(&mut quiet);
            if let found @ Poll::Ready(_) = look(&mut quiet) {
                self.woken.state.store(REST, Ordering::Release);
                return found;
            }
            if !self.woken.looked() {
                return Poll::Pending;
            }
        }
        self.woken.state.store(REST, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Begins to wait for the next request.
    pub(super) fn rest(&mut self) {
        self.since = Instant::now();
        self.watched = false;
        // Nor does it keep its last task in memory.
        *self.woken.task() = None;
    }

    /// Has the timer run out no later than `due`: earlier is looked at, and set right.
    pub(super) fn due_by(&mut self, due: Instant) {
        if self.timer.deadline() > due {
            self.timer.as_mut().reset(due);
        }
    }

    /// Goes on with whatever the connection has to do.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(ended) = connection.as_mut().poll(cx)
        {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to a target ended");
            }
            self.connection = None;
        }
    }

    /// Whether it can carry a request.
    pub(super) fn is_good(&mut self) -> bool {
        if self.since.elapsed() > KEPT {
            return false;
        }
        // Truly: a task that has had its share of polls would be told that nothing has come.
        let drive = std::pin::pin!(unconstrained(poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(())
        })));
        let _ = drive.poll(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Has the connection go on by itself: another protocol will be spoken on it.
    pub(super) fn let_go(self) {
        if let Some(connection) = self.connection {
            tokio::spawn(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_at_work_takes_note_and_one_at_rest_is_woken() {
        let (counted, woken) = (Arc::<Counted>::default(), Arc::<Woken>::default());
        let (task, inner): (Waker, Waker) = (Arc::clone(&counted).into(), Arc::clone(&woken).into());
        woken.begin(&task);
        inner.wake_by_ref();
        inner.wake_by_ref();
        assert_eq!(counted.0.load(Ordering::Relaxed), 0);
        assert!(woken.looked(), "there is news");
        assert!(!woken.looked(), "and then none");
        inner.wake_by_ref();
        assert_eq!(counted.0.load(Ordering::Relaxed), 1);
    }
}
