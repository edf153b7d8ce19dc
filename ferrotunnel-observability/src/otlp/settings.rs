//! The standard variables of OpenTelemetry that are about traces.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::sampling::Sampling;

/// Where spans go, which, and what they say of this process.
#[derive(Clone)]
#[non_exhaustive]
pub struct OtlpSettings {
    /// How they travel.
    pub protocol: OtlpProtocol,
    /// The URL of the receiver; with HTTP its path too.
    pub endpoint: String,
    /// Sent with each batch; they may hold secrets, and are not shown.
    pub headers: Vec<(String, String)>,
    /// For a batch, with all its attempts.
    pub timeout: Duration,
    /// A PEM file of the CAs that may have issued the receiver's certificate; by default those of the system.
    pub ca_file: Option<PathBuf>,
    /// `service.name` and what else there is to say of this process.
    pub resource: Vec<(String, String)>,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// Spans that wait at most.
    pub queue: usize,
    /// Spans of a batch at most.
    pub batch: usize,
    /// How long a batch that is not full waits for more.
    pub delay: Duration,
}

/// How spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC, over HTTP/2.
    Grpc,
    /// Protocol Buffers in the body of a POST, over HTTP/1.1.
    HttpProtobuf,
}

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// A variable cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The exporter cannot be made of the settings.
    #[error("traces cannot be sent: {0}")]
    Exporter(String),
    /// There is no thread to spare.
    #[error("cannot start the thread that sends traces: {0}")]
    Thread(std::io::Error),
}

impl fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpSettings")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint)
            .field("sampling", &self.sampling)
            .finish_non_exhaustive()
    }
}

impl OtlpSettings {
    /// Those of this process's environment. `None` if nobody wants traces: nothing says where they are to go, or a variable
    /// switches them off. `service` is what the process is called if no variable says so.
    ///
    /// # Errors
    /// A variable cannot be used; the error names it.
    pub fn from_env(service: &str) -> Result<Option<Self>, OtlpError> {
        Self::from_vars(service, |name| std::env::var(name).ok())
    }

    /// The same with variables from elsewhere.
    ///
    /// # Errors
    /// As there.
    pub fn from_vars(
        service: &str,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OtlpError> {
        Vars(&var).settings(service).map_err(OtlpError::Setting)
    }
}

/// An empty variable is as good as none (OpenTelemetry, "Environment Variable Specification").
struct Vars<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Vars<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Of an exporter: what is said of traces wins over what is said of all signals.
    fn of_exporter(&self, rest: &str) -> Option<(String, String)> {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"];
        names.into_iter().find_map(|begin| {
            let name = format!("{begin}{rest}");
            self.get(&name).map(|value| (name, value))
        })
    }

    fn settings(&self, service: &str) -> Result<Option<OtlpSettings>, String> {
        let endpoint = self.of_exporter("ENDPOINT");
        let is_wanted = match self.get("OTEL_TRACES_EXPORTER").as_deref() {
            None => endpoint.is_some(),
            Some("otlp") => true,
            Some("none") => false,
            Some(other) => {
                return Err(format!("OTEL_TRACES_EXPORTER: {other:?} is neither otlp nor none"));
            }
        };
        let is_disabled = self.get("OTEL_SDK_DISABLED");
        if !is_wanted || is_disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let protocol = match self.of_exporter("PROTOCOL") {
            None => OtlpProtocol::HttpProtobuf,
            Some((_, value)) if value == "http/protobuf" => OtlpProtocol::HttpProtobuf,
            Some((_, value)) if value == "grpc" => OtlpProtocol::Grpc,
            Some((name, value)) => {
                return Err(format!("{name}: {value:?} is neither grpc nor http/protobuf"));
            }
        };
        let sampling = match self.get("OTEL_TRACES_SAMPLER") {
            None => Sampling::DEFAULT,
            Some(name) => Sampling::parse(&name, self.get("OTEL_TRACES_SAMPLER_ARG").as_deref())?,
        };
        let queue = self.number("OTEL_BSP_MAX_QUEUE_SIZE")?.unwrap_or(QUEUE) as usize;
        let batch = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")?.unwrap_or(BATCH) as usize;
        let delay = match self.get("OTEL_BSP_SCHEDULE_DELAY").as_deref() {
            Some("0") => Duration::ZERO,
            _ => self.number("OTEL_BSP_SCHEDULE_DELAY")?.map_or(DELAY, Duration::from_millis),
        };
        let timeout = self.of_exporter("TIMEOUT").map(|(name, _)| name);
        let timeout = timeout.map(|name| self.number(&name)).transpose()?.flatten();
        Ok(Some(OtlpSettings {
            protocol,
            endpoint: receiver(endpoint, protocol)?,
            headers: self.of_exporter("HEADERS").map_or(Ok(Vec::new()), |(name, value)| {
                // Their text may be a secret.
                pairs(&value).ok_or(format!("{name} is not like name=value,name=value"))
            })?,
            timeout: timeout.map_or(TIMEOUT, Duration::from_millis),
            ca_file: self.of_exporter("CERTIFICATE").map(|(_, path)| path.into()),
            resource: self.resource(service)?,
            sampling,
            queue,
            batch: batch.min(queue),
            delay,
        }))
    }

    fn resource(&self, service: &str) -> Result<Vec<(String, String)>, String> {
        let mut resource = match self.get("OTEL_RESOURCE_ATTRIBUTES") {
            None => Vec::new(),
            Some(text) => pairs(&text).ok_or(format!(
                "OTEL_RESOURCE_ATTRIBUTES: {text:?} is not like key=value,key=value"
            ))?,
        };
        let is_named =
            |resource: &[(String, String)]| resource.iter().any(|(key, _)| key == "service.name");
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), name));
        } else if !is_named(&resource) {
            resource.push(("service.name".to_owned(), service.to_owned()));
        }
        if !resource.iter().any(|(key, _)| key == "service.version") {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            resource.push(("service.version".to_owned(), version));
        }
        Ok(resource)
    }

    /// From 1 on.
    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
        number.map(Some).ok_or_else(|| format!("{name}: {text:?} is no number from 1 to {MOST}"))
    }
}

/// The URL that batches go to. What is said of all signals is where they all live, each below a path of its own.
fn receiver(said: Option<(String, String)>, protocol: OtlpProtocol) -> Result<String, String> {
    let (name, url) = match (said, protocol) {
        (Some(said), _) => said,
        (None, OtlpProtocol::Grpc) => return Ok("http://localhost:4317".to_owned()),
        (None, OtlpProtocol::HttpProtobuf) => {
            return Ok(format!("http://localhost:4318{TRACES_PATH}"));
        }
    };
    let uri: Option<Uri> = url.parse().ok();
    let is_url = uri.as_ref().is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    });
    if !is_url {
        return Err(format!("{name}: {url:?} is no URL like http://localhost:4318"));
    }
    if protocol == OtlpProtocol::HttpProtobuf && !name.contains("TRACES") {
        return Ok(format!("{}{TRACES_PATH}", url.trim_end_matches('/')));
    }
    Ok(url)
}

/// `key=value,key=value`, where values are percent-encoded (W3C Baggage). `None` if it is not like that.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let key = key.trim();
        (!key.is_empty()).then_some((key.to_owned(), decoded(value.trim())?))
    };
    parts.map(pair).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

const TRACES_PATH: &str = "/v1/traces";

/// The defaults of the standard. A span takes about a KiB, so the queue some 2 MiB.
const QUEUE: u64 = 2_048;
const BATCH: u64 = 512;
const DELAY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Of any number: in milliseconds more than a day, of spans a GiB.
const MOST: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Option<OtlpSettings>, OtlpError> {
        OtlpSettings::from_vars("ferrotunnel-server", |name| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn on(vars: &[(&str, &str)]) -> OtlpSettings {
        settings(vars).unwrap().unwrap()
    }

    #[test]
    fn nobody_who_names_no_receiver_wants_traces() {
        let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
        for vars in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "a"), ("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[at, ("OTEL_SDK_DISABLED", "TRUE")],
            &[at, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(settings(vars).unwrap().is_none(), "{vars:?}");
        }
        assert!(settings(&[at, ("OTEL_SDK_DISABLED", "false")]).unwrap().is_some());
        let default = on(&[("OTEL_TRACES_EXPORTER", "otlp")]);
        assert_eq!(default.endpoint, "http://localhost:4318/v1/traces");
        assert_eq!((default.queue, default.batch, default.delay), (2_048, 512, DELAY));
    }

    #[test]
    fn what_is_said_of_traces_wins_over_what_is_said_of_all_signals() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/");
        assert_eq!(on(&[all]).endpoint, "http://a:4318/v1/traces");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://b/traces");
        assert_eq!(on(&[all, traces]).endpoint, "https://b/traces");
        let grpc = on(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert_eq!((grpc.protocol, grpc.endpoint.as_str()), (OtlpProtocol::Grpc, "http://a:4318/"));
        let http = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf");
        let http = on(&[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), http]);
        assert_eq!(http.protocol, OtlpProtocol::HttpProtobuf);
        let timed = [all, ("OTEL_EXPORTER_OTLP_TIMEOUT", "9"), ("OTEL_BSP_SCHEDULE_DELAY", "0")];
        assert_eq!(on(&timed).timeout, Duration::from_millis(9));
        assert_eq!(on(&timed).delay, Duration::ZERO);
    }

    #[test]
    fn headers_are_decoded_and_not_shown() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
        let said = on(&[all, ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b%3D, x = y=z")]);
        let headers = [("api-key", "a b="), ("x", "y=z")];
        assert_eq!(said.headers, headers.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(!format!("{said:?}").contains("a b="));
        let wrong = settings(&[all, ("OTEL_EXPORTER_OTLP_HEADERS", "secret")]).unwrap_err();
        assert!(!wrong.to_string().contains("secret"), "{wrong}");
    }

    #[test]
    fn the_service_has_a_name_in_any_case() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
        let named = |vars: &[(&str, &str)]| {
            let resource = on(vars).resource;
            let mut names = resource.iter().filter(|(key, _)| key == "service.name");
            let name = names.next().unwrap().1.clone();
            assert!(names.next().is_none());
            name
        };
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b,deployment.environment=test");
        assert_eq!(named(&[all]), "ferrotunnel-server");
        assert_eq!(named(&[all, attributes]), "b");
        assert_eq!(named(&[all, attributes, ("OTEL_SERVICE_NAME", "c")]), "c");
        let resource = on(&[all, attributes]).resource;
        assert!(resource.contains(&("deployment.environment".to_owned(), "test".to_owned())));
    }

    #[test]
    fn what_cannot_be_used_names_its_variable() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://a/"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "some"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a"),
        ] {
            let vars = [(name, value), ("OTEL_TRACES_EXPORTER", "otlp")];
            let error = settings(&vars).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
