//! A connection of HTTP/1 that costs little while nobody has asked for anything: hyper, and
//! its buffers, come with the first byte.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite as _;

use super::{
    Handler,
    connection::{Decrypted, Served},
    guard::Guard,
    watched::Door,
};

/// A connection of HTTP/1, from its handshake on.
pub(super) struct Http1<S: Handler> {
    state: State<S>,
    builder: http1::Builder,
}

enum State<S: Handler> {
    /// No byte has come.
    Quiet(Box<(Guard<Decrypted>, Door<S>)>),
    /// As long as there is something to be said.
    Speaking(Box<http1::UpgradeableConnection<TokioIo<Guard<Decrypted>>, Door<S>>>),
    /// Told to end before anybody asked.
    Ending(Box<Guard<Decrypted>>),
    Ended,
}

impl<S: Handler> Http1<S> {
    pub(super) fn new(guard: Guard<Decrypted>, door: Door<S>, builder: http1::Builder) -> Self {
        Self { state: State::Quiet(Box::new((guard, door))), builder }
    }
}

impl<S: Handler> Served for Http1<S> {
    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if let State::Quiet(quiet) = &mut self.state {
            // An end, or a failure, is hyper's to judge as well.
            let _ = ready!(quiet.0.poll_first(cx));
            if let State::Quiet(quiet) = std::mem::replace(&mut self.state, State::Ended) {
                let (guard, door) = *quiet;
                let connection = self.builder.serve_connection(TokioIo::new(guard), door).with_upgrades();
                self.state = State::Speaking(Box::new(connection));
            }
        }
        match &mut self.state {
            State::Speaking(connection) => Pin::new(connection).poll(cx),
            State::Ending(guard) => {
                // Who is gone already needs no goodbye.
                let _ = ready!(Pin::new(guard).poll_shutdown(cx));
                Poll::Ready(Ok(()))
            }
            State::Quiet(_) | State::Ended => Poll::Ready(Ok(())),
        }
    }

    fn end(&mut self) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Quiet(quiet) => self.state = State::Ending(Box::new(quiet.0)),
            State::Speaking(mut connection) => {
                Pin::new(&mut *connection).graceful_shutdown();
                self.state = State::Speaking(connection);
            }
            other => self.state = other,
        }
    }
}
