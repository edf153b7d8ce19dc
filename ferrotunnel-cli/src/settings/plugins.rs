//! The plugins of a server, in the order in which they are asked.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel::Plugin;
use ferrotunnel::plugin::{
    AccessLog, CircuitBreaker, LogFormat, RateLimit, VisitorAuth, VisitorSecret,
};

use crate::args::PluginArgs;
use crate::failure::Failure;
use crate::value::Secret;

/// Those that are switched on.
#[derive(Clone, Debug)]
pub(crate) struct PluginSettings {
    access_log: Option<(PathBuf, LogFormat)>,
    rates: VisitorRates,
    secrets: Option<Vec<VisitorSecret>>,
    circuit_breaker: Option<(u32, Duration)>,
}

/// How fast visitors may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct VisitorRates {
    requests_per_address: Option<u32>,
    requests_per_tunnel: Option<u32>,
    bytes_per_address: Option<u64>,
    bytes_per_tunnel: Option<u64>,
}

impl PluginSettings {
    pub(crate) fn new(args: PluginArgs) -> Result<Self, Failure> {
        let access_log = match (args.access_log, args.access_log_format) {
            (None, Some(_)) => return Err(needs("access-log-format", "access-log")),
            (path, format) => path.map(|path| (path, format.unwrap_or_default())),
        };
        let circuit_breaker = match (args.circuit_breaker, args.circuit_breaker_pause) {
            (None, Some(_)) => return Err(needs("circuit-breaker-pause", "circuit-breaker")),
            (failures, pause) => failures.map(|most| (most, pause.unwrap_or(DEFAULT_PAUSE))),
        };
        let hashes = args.visitor_secret_hash.map(|hashes| hashes.into_iter().map(hash).collect());
        let secrets = hashes.transpose().map_err(|why: String| {
            Failure::usage(format!(
                "--visitor-secret-hash or FERROTUNNEL_VISITOR_SECRET_HASH: {why}"
            ))
        })?;
        Ok(Self {
            access_log,
            rates: VisitorRates {
                requests_per_address: args.max_requests_per_address,
                requests_per_tunnel: args.max_requests_per_tunnel,
                bytes_per_address: args.max_bytes_per_address,
                bytes_per_tunnel: args.max_bytes_per_tunnel,
            },
            secrets,
            circuit_breaker,
        })
    }

    fn open_log(&self) -> Result<Option<Shared>, Failure> {
        let Some((path, format)) = &self.access_log else { return Ok(None) };
        let opened = if path == Path::new(STDOUT) {
            AccessLog::to_stdout(*format)
        } else {
            AccessLog::to_file(path, *format)
        };
        opened.map(|log| Some(Arc::new(log) as Shared)).map_err(|error| cannot_write(path, &error))
    }

    /// Whether the access log could be opened. Makes no file.
    pub(super) fn check_log(&self) -> Result<(), Failure> {
        let Some((path, _)) = &self.access_log else { return Ok(()) };
        if path == Path::new(STDOUT) {
            return Ok(());
        }
        if path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
            // To open a pipe is to wait for its reader.
            return Ok(());
        }
        let found = match OpenOptions::new().append(true).open(path) {
            // It would be made.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| *folder != Path::new(""));
                folder.map_or(Ok(()), |folder| folder.metadata().map(drop))
            }
            opened => opened.map(drop),
        };
        found.map_err(|error| cannot_write(path, &error))
    }

    /// These in place of others, with their access log opened if it is another one. It waits for the disk, and of a pipe
    /// for its reader.
    pub(crate) fn in_place_of(self, others: &Self) -> Result<NewPlugins, Failure> {
        let is_another = self.access_log != others.access_log;
        let log = is_another.then(|| self.open_log()).transpose()?;
        Ok(NewPlugins { settings: self, log })
    }

    /// The file of the access log.
    pub(crate) fn log_path(&self) -> Option<&Path> {
        self.access_log.as_ref().map(|(path, _)| path.as_path())
    }

    fn auth(&self) -> Option<Shared> {
        let secrets = self.secrets.clone()?;
        Some(Arc::new(VisitorAuth::new(secrets)))
    }
}

impl VisitorRates {
    fn plugin(self) -> Option<Shared> {
        let Self { requests_per_address, requests_per_tunnel, bytes_per_address, bytes_per_tunnel } =
            self;
        let of_requests = requests_per_address.or(requests_per_tunnel);
        of_requests.map(u64::from).or(bytes_per_address).or(bytes_per_tunnel)?;
        let mut limit = RateLimit::new();
        if let Some(most) = requests_per_address {
            limit = limit.per_address(most);
        }
        if let Some(most) = requests_per_tunnel {
            limit = limit.per_tunnel(most);
        }
        if let Some(most) = bytes_per_address {
            limit = limit.bytes_per_address(most);
        }
        if let Some(most) = bytes_per_tunnel {
            limit = limit.bytes_per_tunnel(most);
        }
        Some(Arc::new(limit))
    }
}

type Shared = Arc<dyn Plugin>;

/// Settings that can be gone by from now on.
pub(crate) struct NewPlugins {
    settings: PluginSettings,
    /// If it is another one than before.
    log: Option<Option<Shared>>,
}

/// The plugins of a server that runs.
pub(crate) struct Plugins {
    settings: PluginSettings,
    log: Option<Shared>,
    limit: Option<Shared>,
    auth: Option<Shared>,
    breaker: Option<Shared>,
}

impl Plugins {
    /// Makes them, and opens the access log, if there is to be one.
    pub(crate) fn start(settings: PluginSettings) -> Result<Self, Failure> {
        let breaker = settings
            .circuit_breaker
            .map(|(most, pause)| Arc::new(CircuitBreaker::new(most, pause)) as Shared);
        let (log, limit, auth) = (settings.open_log()?, settings.rates.plugin(), settings.auth());
        Ok(Self { settings, log, limit, auth, breaker })
    }

    /// The log is the first, since it tells of all; who comes too fast costs least after it; then nothing of what
    /// nobody may ask for reaches the breaker.
    pub(crate) fn all(&self) -> Vec<Shared> {
        let all = [&self.log, &self.limit, &self.auth, &self.breaker];
        all.into_iter().flatten().cloned().collect()
    }

    /// What they go by.
    pub(crate) fn settings(&self) -> &PluginSettings {
        &self.settings
    }

    /// Goes by these settings from now on. What they leave as it is goes on as it was, with all that it has counted.
    /// The breaker stays in any case: it hears of registrations, which is decided at the start.
    pub(crate) fn change(&mut self, NewPlugins { settings, log }: NewPlugins) {
        if let Some(log) = log {
            self.log = log;
        }
        if settings.rates != self.settings.rates {
            self.limit = settings.rates.plugin();
        }
        if settings.secrets != self.settings.secrets {
            self.auth = settings.auth();
        }
        self.settings = settings;
    }
}

impl PluginArgs {
    /// Without settings whose other half may still come from another layer.
    pub(crate) fn without_halves(mut self) -> Self {
        self.access_log_format = self.access_log_format.filter(|_| self.access_log.is_some());
        self.circuit_breaker_pause =
            self.circuit_breaker_pause.filter(|_| self.circuit_breaker.is_some());
        self
    }
}

/// What is kept of a visitor secret. The text is not repeated: it may be the secret itself.
pub(crate) fn hash(text: Secret) -> Result<VisitorSecret, String> {
    text.reveal().parse().map_err(|why: ferrotunnel::plugin::VisitorSecretError| why.to_string())
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("--access-log: cannot write to {}: {error}", path.display()))
}

fn needs(setting: &str, other: &str) -> Failure {
    Failure::usage(format!("--{setting} means nothing without --{other}; give that too"))
}

/// Long enough for a service that restarts, and for its visitors not too long.
pub(crate) const DEFAULT_PAUSE: Duration = Duration::from_secs(10);

/// In the place of a file.
pub(crate) const STDOUT: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_plugin_is_told() {
        let format =
            PluginArgs { access_log_format: Some(LogFormat::Json), ..PluginArgs::default() };
        let pause = Some(Duration::from_secs(1));
        let pause = PluginArgs { circuit_breaker_pause: pause, ..PluginArgs::default() };
        for (args, other) in [(format, "--access-log"), (pause, "--circuit-breaker")] {
            let failure = PluginSettings::new(args.clone()).unwrap_err().to_string();
            assert!(failure.contains(&format!("without {other}; ")), "{failure}");
            assert!(PluginSettings::new(args.without_halves()).is_ok());
        }
    }

    #[test]
    fn a_secret_in_place_of_its_hash_is_not_repeated() {
        let hashes = Some(vec![Secret::from("the secret itself")]);
        let args = PluginArgs { visitor_secret_hash: hashes, ..PluginArgs::default() };
        let failure = PluginSettings::new(args).unwrap_err().to_string();
        assert!(failure.contains("--visitor-secret-hash") && failure.contains("sha256:"));
        assert!(!failure.contains("itself"), "{failure}");
    }
}
