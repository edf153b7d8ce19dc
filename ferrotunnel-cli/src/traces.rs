//! Traces over OTLP, as the standard `OTEL_*` variables of OpenTelemetry want them.

#[cfg(feature = "otlp")]
use ferrotunnel::observability::{Otlp, OtlpSettings};
use ferrotunnel::{ClientBuilder, ServerBuilder};

use crate::failure::Failure;

/// Where spans go, if they go anywhere. What waits is sent when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    #[cfg(feature = "otlp")]
    otlp: Option<Otlp>,
}

impl Traces {
    /// Of a process that is called so, unless a variable says otherwise.
    #[cfg(feature = "otlp")]
    pub(crate) fn start(service: &str) -> Result<Self, Failure> {
        let wrong =
            |error: ferrotunnel::observability::OtlpError| Failure::usage(error.to_string());
        let settings = OtlpSettings::from_env(service).map_err(wrong)?;
        Ok(Self { otlp: settings.map(Otlp::start).transpose().map_err(wrong)? })
    }

    /// Nothing is sent, and whoever wants it is told.
    #[cfg(not(feature = "otlp"))]
    pub(crate) fn start(_: &str) -> Result<Self, Failure> {
        let names = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
        if names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
            crate::output::warning(
                "this program was built without the feature otlp; no traces are sent",
            );
        }
        Ok(Self::default())
    }

    #[cfg(feature = "otlp")]
    pub(crate) fn server(&self, builder: ServerBuilder) -> ServerBuilder {
        match &self.otlp {
            Some(otlp) => builder.otlp(otlp),
            None => builder,
        }
    }

    #[cfg(not(feature = "otlp"))]
    pub(crate) fn server(&self, builder: ServerBuilder) -> ServerBuilder {
        builder
    }

    #[cfg(feature = "otlp")]
    pub(crate) fn client(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.otlp {
            Some(otlp) => builder.tracer(otlp.tracer()),
            None => builder,
        }
    }

    #[cfg(not(feature = "otlp"))]
    pub(crate) fn client(&self, builder: ClientBuilder) -> ClientBuilder {
        builder
    }
}
