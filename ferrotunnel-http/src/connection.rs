//! One visitor's connection, from its first byte to its end.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Poll, Waker},
    time::Duration,
};

use ferrotunnel_core::{splice::Socket, tasks::Tasks};
use ferrotunnel_plugin::Chain;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::unconstrained,
    time::timeout,
};
use tracing::debug;

use crate::{
    config::{HttpConfig, MAX_BUFFERED},
    detect::{Version, detect},
    error_pages::ErrorPages,
    executor::Executor,
    forward::Forwarder,
    visitor::{Admission, Visitor},
    visitor_io::VisitorIo,
};

/// How visitors' connections are served; made once.
pub(crate) struct Serving {
    http1: http1::Builder,
    http2: http2::Builder<Executor>,
    header_read_timeout: Duration,
    forwarder: Arc<Forwarder>,
}

impl Serving {
    pub(crate) fn new(config: &HttpConfig, tasks: Tasks, forwarder: Forwarder) -> Self {
        let mut http1 = http1();
        http1.timer(TokioTimer::new()).header_read_timeout(config.header_read_timeout);
        let mut http2 = http2::Builder::new(Executor(tasks));
        // The windows are fixed: adaptive ones grow to 16 MiB for each connection, which anybody
        // may open and then let lie.
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_HTTP2_STREAMS)
            .max_send_buf_size(MAX_BUFFERED)
            .max_header_list_size(MAX_HTTP2_HEADERS)
            .enable_connect_protocol()
            .keep_alive_interval(config.header_read_timeout)
            .keep_alive_timeout(config.header_read_timeout);
        let header_read_timeout = config.header_read_timeout;
        Self { http1, http2, header_read_timeout, forwarder: Arc::new(forwarder) }
    }

    /// Serves a connection to its end, or says that there is no place for it.
    pub(crate) async fn attend<T>(
        self: Arc<Self>,
        io: T,
        visitor: Visitor,
        place: OwnedSemaphorePermit,
        shutdown: watch::Receiver<bool>,
    ) where
        T: Socket + 'static,
    {
        match visitor.admission {
            Admission::Inside => self.serve(io, visitor, place, shutdown).await,
            _ => self.turn_away(io, visitor, place).await,
        }
    }

    /// Other plugins from now on.
    pub(crate) fn set_plugins(&self, plugins: Option<Chain>) {
        self.forwarder.set_plugins(plugins);
    }

    /// Other pages from now on.
    pub(crate) fn set_error_pages(&self, pages: ErrorPages) {
        self.forwarder.set_error_pages(pages);
    }

    /// Serves a connection until its end. Once `shutdown` says so, what is in progress is
    /// finished and nothing new is taken. The place is free again when all of it has ended.
    ///
    /// A visitor who has not asked for anything yet has a moment for it: who has just been
    /// accepted is about to, and would take a closed connection for a broken server.
    async fn serve<T>(
        self: Arc<Self>,
        mut io: T,
        visitor: Visitor,
        _place: OwnedSemaphorePermit,
        mut shutdown: watch::Receiver<bool>,
    ) where
        T: Socket + 'static,
    {
        let detected = {
            let mut detecting = pin!(timeout(self.header_read_timeout, detect(&mut io)));
            tokio::select! {
                detected = &mut detecting => detected,
                () = asked_to_stop(&mut shutdown) => {
                    timeout(FIRST_WORDS, detecting).await.and_then(|detected| detected)
                }
            }
        };
        let Ok(Ok(Some((version, read_ahead)))) = detected else {
            return;
        };
        let visitor = Arc::new(visitor);
        let ended = match version {
            Version::Http1 => {
                let io = VisitorIo::http1(io, read_ahead, visitor.clone(), self.forwarder.clone());
                self.serve_http1(io, &visitor, shutdown).await
            }
            Version::Http2 => {
                let io = VisitorIo::http2(io, read_ahead);
                self.serve_http2(io, &visitor, shutdown).await
            }
        };
        if let Err(error) = ended {
            debug!(visitor = %visitor.address, %error, "a visitor's connection broke");
        }
        let upgrade = visitor.upgrade.lock().take();
        if let Some(upgrade) = upgrade {
            upgrade.run().await;
        }
    }

    /// Says to a visitor for whom there is no place that there is none, and that for a short time only.
    async fn turn_away<T>(self: Arc<Self>, io: T, visitor: Visitor, place: OwnedSemaphorePermit)
    where
        T: Socket + 'static,
    {
        // As in a drain: one request, and the end.
        let (_, shutdown) = watch::channel(true);
        let serving = Box::pin(self.serve(io, visitor, place, shutdown));
        if timeout(TURN_AWAY_WITHIN, serving).await.is_err() {
            debug!("a visitor did not want to be turned away");
        }
    }

    async fn serve_http1<T>(
        &self,
        io: VisitorIo<T>,
        visitor: &Arc<Visitor>,
        mut shutdown: watch::Receiver<bool>,
    ) -> hyper::Result<()>
    where
        T: Socket + 'static,
    {
        let service = service_fn(|request| self.forwarder.answer(visitor, request));
        let connection = self.http1.serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection.with_upgrades());
        let ended = tokio::select! {
            // First, so that a request that is there already is seen.
            biased;
            ended = connection.as_mut() => ended,
            () = told_to_stop(&mut shutdown) => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        let timed_out = ended.as_ref().is_err_and(|error| error.is_timeout() && !error.is_user());
        visitor.timed_out.store(timed_out, Ordering::Relaxed);
        ended
    }

    async fn serve_http2<T>(
        &self,
        io: VisitorIo<T>,
        visitor: &Arc<Visitor>,
        mut shutdown: watch::Receiver<bool>,
    ) -> hyper::Result<()>
    where
        T: Socket + 'static,
    {
        let service = service_fn(|request| self.forwarder.answer(visitor, request));
        let mut connection = pin!(self.http2.serve_connection(TokioIo::new(io), service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = told_to_stop(&mut shutdown) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

/// How HTTP/1 is read, but for how long that may take.
pub(crate) fn http1() -> http1::Builder {
    let mut http1 = http1::Builder::new();
    // Left as it is: `pipeline_flush`. It holds an answer back for as long as bytes of a
    // next request are waiting, which would stop event streams and early answers.
    http1
        // Whether who has ended its side has left is for `VisitorIo` to find out.
        .half_close(true)
        .max_buf_size(MAX_BUFFERED);
    http1
}

/// Resolves when shutdown is asked for, or when nobody is left who could ask.
pub(crate) async fn asked_to_stop(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// The same for somebody who is woken for other reasons, and often: one look is all that it costs then.
async fn told_to_stop(shutdown: &mut watch::Receiver<bool>) {
    let look = shutdown.clone();
    // It has to be heard of even where the task has spent its budget.
    let mut asked = pin!(unconstrained(asked_to_stop(shutdown)));
    let mut waiting: Option<Waker> = None;
    poll_fn(|cx| {
        let is_waiting = waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_waiting && matches!(look.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        waiting = Some(cx.waker().clone());
        asked.as_mut().poll(cx)
    })
    .await;
}

/// What a drain leaves a visitor who was accepted just before it: a round trip, and some time to
/// think.
pub(crate) const FIRST_WORDS: Duration = Duration::from_millis(500);

/// For somebody to be turned away: twice the time of a lost packet, and little for one who means harm.
const TURN_AWAY_WITHIN: Duration = Duration::from_secs(2);

/// Requests at once on one visitor's HTTP/2 connection. Browsers do not go beyond 100, and each
/// may hold [`MAX_BUFFERED`].
const MAX_HTTP2_STREAMS: u32 = 128;

/// What a visitor may upload over HTTP/2 ahead of a local service that does not read: 80 Mbit/s
/// at a round trip of 100 ms.
const HTTP2_STREAM_WINDOW: u32 = 1 << 20;

/// The same for all uploads of one connection, so twice as much: one that stalls leaves room for
/// the others. It is what one connection can make us hold.
const HTTP2_CONNECTION_WINDOW: u32 = 2 << 20;

/// Bytes of one request's headers over HTTP/2 that are read: twice as many as are taken, so that those who send too much
/// get an answer of ours, as over HTTP/1.1. The answer to still more is that of the library below.
const MAX_HTTP2_HEADERS: u32 = 2 * MAX_BUFFERED as u32;
