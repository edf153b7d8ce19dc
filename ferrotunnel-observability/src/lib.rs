//! What FerroTunnel's servers and clients count, shown: metrics in the OpenMetrics format, and the admin interface.
//!
//! Counting is the business of those who carry traffic; here their counters are read when somebody asks. Nothing is global:
//! [`ServerMetrics`] of two servers in one process stay apart, so do [`ClientMetrics`] of two clients, and each goes into whichever registry it is put.
//!
//! Not here: the path of traffic, and settings.

mod admin;
mod client_metrics;
mod families;
mod histogram;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod plugin_times;
mod process;
mod requests;

pub use admin::{
    Admin, AdminError, AdminToken, AdminWish, AdminWishes, Overview, Phase, Reply, WatchedClient,
    check_bind,
};
pub use client_metrics::ClientMetrics;
pub use metrics::{Certificate, ServerMetrics, Watched};
#[cfg(feature = "otlp")]
pub use otlp::{Otlp, OtlpError, OtlpProtocol, OtlpSettings, OtlpTracer, Sampling, SpanCounts};
pub use process::ProcessMetrics;
/// The registry that metrics are put into, and its text.
pub use prometheus_client::{encoding::text::encode, registry::Registry};
