//! Traces of requests for whoever keeps them: spans as OpenTelemetry has them, sent over OTLP.
//!
//! What is sent where follows the standard `OTEL_*` variables ([`OtlpSettings`]). Spans wait in a bounded queue for a
//! thread of their own that sends them in batches; a receiver that is slow or away costs spans, which are counted, and
//! holds no request up.
//!
//! Not here: when a span begins and ends. Those who carry traffic say so ([`RequestTracer`], [`DialTracer`]).

mod connect;
mod sampling;
mod sending;
mod settings;
mod spans;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferrotunnel_common::TraceContext;
use ferrotunnel_core::{DialTracer, Dialled};
use ferrotunnel_plugin::{RequestTracer, TracedRequest};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SpanData};
use tokio::sync::{mpsc, watch};

pub use self::sampling::Sampling;
pub use self::settings::{OtlpError, OtlpProtocol, OtlpSettings};
use self::spans::{of_dial, of_request};

/// Sends spans. What is still waiting when it is dropped is sent, within three seconds.
#[derive(Debug)]
pub struct Otlp {
    tracer: Arc<OtlpTracer>,
    stop: watch::Sender<bool>,
    /// Hung up when the thread has ended.
    ended: std::sync::mpsc::Receiver<()>,
}

/// Where spans are handed in; of a server or of a client, or of both in one process.
pub struct OtlpTracer {
    sampling: Sampling,
    ids: RandomIdGenerator,
    queue: mpsc::Sender<SpanData>,
    counts: Arc<SpanCounts>,
}

/// What became of spans so far.
#[derive(Debug, Default)]
pub struct SpanCounts {
    sent: AtomicU64,
    no_room: AtomicU64,
    not_taken: AtomicU64,
}

impl SpanCounts {
    /// Taken by the receiver.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Dropped because as many waited already as may.
    pub fn no_room(&self) -> u64 {
        self.no_room.load(Ordering::Relaxed)
    }

    /// Dropped because the receiver could not be reached, or did not take them.
    pub fn not_taken(&self) -> u64 {
        self.not_taken.load(Ordering::Relaxed)
    }
}

impl Otlp {
    /// Starts the thread. Whether the receiver is there is found out by the first spans.
    ///
    /// # Errors
    /// A setting cannot be used, or the system has no thread to spare.
    pub fn start(settings: OtlpSettings) -> Result<Self, OtlpError> {
        let (stop, stopping) = watch::channel(false);
        let (queue, waiting) = mpsc::channel(settings.queue.max(1));
        let counts = Arc::<SpanCounts>::default();
        let sampling = settings.sampling;
        let ended = sending::start(settings, waiting, stopping, Arc::clone(&counts))?;
        let ids = RandomIdGenerator::default();
        Ok(Self { tracer: Arc::new(OtlpTracer { sampling, ids, queue, counts }), stop, ended })
    }

    /// Where spans are handed in.
    pub fn tracer(&self) -> Arc<OtlpTracer> {
        Arc::clone(&self.tracer)
    }

    /// What became of spans so far.
    pub fn counts(&self) -> Arc<SpanCounts> {
        Arc::clone(&self.tracer.counts)
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // It says nothing; it hangs up.
        let _ = self.ended.recv_timeout(LAST_WORDS);
    }
}

impl fmt::Debug for OtlpTracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpTracer").field("sampling", &self.sampling).finish_non_exhaustive()
    }
}

impl OtlpTracer {
    /// All of them or none: a trace with holes says less than one that is missing.
    fn hand_in(&self, spans: Vec<SpanData>) {
        let count = spans.len();
        match self.queue.try_reserve_many(count) {
            Ok(places) => places.zip(spans).for_each(|(place, span)| place.send(span)),
            Err(_) => {
                self.counts.no_room.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
    }
}

impl RequestTracer for OtlpTracer {
    fn begun(&self, parent: Option<TraceContext>) -> TraceContext {
        let trace = match parent {
            Some(parent) => parent.trace,
            None => self.ids.new_trace_id().to_bytes(),
        };
        let is_sampled = self.sampling.takes(parent, trace);
        let flags = parent.map_or(RANDOM, |parent| parent.flags) & !SAMPLED;
        let flags = if is_sampled { flags | SAMPLED } else { flags };
        TraceContext { trace, span: self.next_span(), flags }
    }

    fn next_span(&self) -> [u8; 8] {
        self.ids.new_span_id().to_bytes()
    }

    fn ended(&self, request: &TracedRequest<'_>) {
        self.hand_in(of_request(request));
    }
}

impl DialTracer for OtlpTracer {
    fn dialled(&self, dialled: &Dialled<'_>) {
        // Whoever has the request has decided.
        if dialled.trace.is_sampled() {
            self.hand_in(vec![of_dial(dialled, self.next_span())]);
        }
    }
}

const SAMPLED: u8 = 1;

/// All of the name of a trace is random (W3C Trace Context, level 2).
const RANDOM: u8 = 2;

/// For what waits at the end. A receiver that is there takes it in a moment.
const LAST_WORDS: Duration = Duration::from_secs(3);
