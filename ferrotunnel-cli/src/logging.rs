//! The log: on stderr, filtered by one rule of precedence.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::LogLevel;

/// Starts logging for the whole process. `typed` wins over `RUST_LOG`, which wins over `default`.
pub(crate) fn start(typed: Option<LogLevel>, default: LogLevel) {
    let directives = directives(typed, std::env::var("RUST_LOG").ok(), default);
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn directives(typed: Option<LogLevel>, rust_log: Option<String>, default: LogLevel) -> String {
    match (typed, rust_log) {
        (Some(level), _) => word(level).to_owned(),
        (None, Some(filter)) if !filter.trim().is_empty() => filter,
        (None, _) => word(default).to_owned(),
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_wins_over_the_environment_and_that_over_the_default() {
        let filter = || Some("ferrotunnel_core=trace".to_owned());
        assert_eq!(directives(Some(LogLevel::Error), filter(), LogLevel::Info), "error");
        assert_eq!(directives(None, filter(), LogLevel::Info), "ferrotunnel_core=trace");
        assert_eq!(directives(None, Some(" ".to_owned()), LogLevel::Info), "info");
        assert_eq!(directives(None, None, LogLevel::Warn), "warn");
    }
}
