//! The thread that sends spans.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::metadata::MetadataMap;

use super::connect::{Connector, HttpSender};
use super::settings::{OtlpError, OtlpProtocol, OtlpSettings};
use super::{LAST_WORDS, SpanCounts};

/// Returns what is hung up when the thread has ended.
pub(super) fn start(
    settings: OtlpSettings,
    waiting: mpsc::Receiver<SpanData>,
    stopping: watch::Receiver<bool>,
    counts: Arc<SpanCounts>,
) -> Result<Receiver<()>, OtlpError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(OtlpError::Thread)?;
    let mut exporter = {
        // gRPC begins with a task of its own.
        let _guard = runtime.enter();
        exporter(&settings)?
    };
    exporter.set_resource(&resource(&settings));
    let (end, ended) = sync_channel(0);
    let sender = Sender { exporter, settings, counts, is_failing: false };
    let sending = move || {
        runtime.block_on(sender.run(waiting, stopping));
        drop(end);
    };
    std::thread::Builder::new()
        .name("otlp".to_owned())
        .spawn(sending)
        .map_err(OtlpError::Thread)?;
    Ok(ended)
}

fn exporter(settings: &OtlpSettings) -> Result<SpanExporter, OtlpError> {
    let built = match settings.protocol {
        OtlpProtocol::Grpc => {
            let channel = Connector::http2(settings)?.channel(settings)?;
            let mut headers = http::HeaderMap::new();
            for (name, value) in &settings.headers {
                let (name, value) = header(name, value)?;
                headers.insert(name, value);
            }
            SpanExporter::builder()
                .with_tonic()
                .with_channel(channel)
                .with_metadata(MetadataMap::from_headers(headers))
                .with_timeout(settings.timeout)
                .build()
        }
        OtlpProtocol::HttpProtobuf => {
            for (name, value) in &settings.headers {
                header(name, value)?;
            }
            SpanExporter::builder()
                .with_http()
                .with_http_client(HttpSender::new(settings)?)
                .with_headers(settings.headers.iter().cloned().collect())
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(&settings.endpoint)
                .with_timeout(settings.timeout)
                .build()
        }
    };
    built.map_err(|error| OtlpError::Exporter(error.to_string()))
}

fn header(name: &str, value: &str) -> Result<(http::HeaderName, http::HeaderValue), OtlpError> {
    // Values may be secrets.
    let wrong = || {
        OtlpError::Setting(format!(
            "OTEL_EXPORTER_OTLP_HEADERS: {name:?} and its value are no header"
        ))
    };
    let parsed = http::HeaderName::try_from(name).ok().zip(http::HeaderValue::try_from(value).ok());
    parsed.ok_or_else(wrong)
}

fn resource(settings: &OtlpSettings) -> Resource {
    let pairs = settings.resource.iter();
    let pairs = pairs.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty().with_attributes(pairs).build()
}

struct Sender {
    exporter: SpanExporter,
    settings: OtlpSettings,
    counts: Arc<SpanCounts>,
    is_failing: bool,
}

impl Sender {
    /// Until nobody can hand in any more, or it is told to stop; then what waits is sent, if that is quick.
    async fn run(
        mut self,
        mut waiting: mpsc::Receiver<SpanData>,
        mut stopping: watch::Receiver<bool>,
    ) {
        loop {
            let mut batch = Vec::new();
            let is_last = tokio::select! {
                is_more = self.gather(&mut waiting, &mut batch) => !is_more,
                _ = stopping.wait_for(|stop| *stop) => true,
            };
            if is_last {
                waiting.close();
                let rest = async {
                    while waiting.recv_many(&mut batch, self.settings.batch).await > 0 {
                        self.send(std::mem::take(&mut batch)).await;
                    }
                    self.send(batch).await;
                };
                let _ = timeout(LAST_WORDS, rest).await;
                return;
            }
            tokio::select! {
                () = self.send(batch) => {}
                // What is under way has its time, and not more.
                () = a_moment_after(&mut stopping) => {}
            }
        }
    }

    /// Waits for a batch. `false`: nothing will follow.
    async fn gather(
        &self,
        waiting: &mut mpsc::Receiver<SpanData>,
        batch: &mut Vec<SpanData>,
    ) -> bool {
        let most = self.settings.batch;
        if waiting.recv_many(batch, most).await == 0 {
            return false;
        }
        let until = Instant::now() + self.settings.delay;
        while batch.len() < most {
            let more = waiting.recv_many(batch, most - batch.len());
            match timeout_at(until, more).await {
                Ok(0) => return false,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        true
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let receiver = &self.settings.endpoint;
        match self.exporter.export(batch).await {
            Ok(()) => {
                self.counts.sent.fetch_add(count, Ordering::Relaxed);
                if std::mem::take(&mut self.is_failing) {
                    let (no_room, not_taken) = (self.counts.no_room(), self.counts.not_taken());
                    tracing::info!(%receiver, dropped = no_room + not_taken, "traces are sent again");
                }
            }
            Err(error) => {
                self.counts.not_taken.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%receiver, %error, "traces cannot be sent; they are dropped until they can, and requests go on");
                }
            }
        }
    }
}

/// Some time after it is told to stop.
async fn a_moment_after(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
    tokio::time::sleep(LAST_EXPORT).await;
}

/// For what is being sent when all is over; a part of [`LAST_WORDS`].
const LAST_EXPORT: Duration = Duration::from_secs(1);

impl From<io::Error> for OtlpError {
    fn from(error: io::Error) -> Self {
        Self::Thread(error)
    }
}
