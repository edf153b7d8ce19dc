//! The log: on stderr, filtered by one rule of precedence, for people or for programs.

use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::args::LogForm;

/// How much is logged: a level, and others for parts of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = String;

    /// Stricter than `RUST_LOG`, where a level with a typing error is taken for a part of the program.
    fn from_str(text: &str) -> Result<Self, String> {
        for directive in text.split(',').map(str::trim) {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            // Numbers and nothing at all are levels, too, but nobody means them.
            let is_word = level.bytes().all(|byte| byte.is_ascii_alphabetic()) && !level.is_empty();
            if !is_word || level.parse::<LevelFilter>().is_err() {
                return Err(format!(
                    "{level:?} is none of off, error, warn, info, debug and trace"
                ));
            }
        }
        EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        Ok(Self(text.to_owned()))
    }
}

/// Starts logging for the whole process. `typed` wins over `RUST_LOG`, which wins over `default`.
pub(crate) fn start(typed: Option<&LogFilter>, default: &str, form: LogForm) {
    let directives = directives(typed, std::env::var("RUST_LOG").ok(), default);
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr);
    match form {
        LogForm::Human => log.with_ansi(std::io::stderr().is_terminal()).init(),
        // Fields beside the message, as programs look for them.
        LogForm::Json => log.json().flatten_event(true).init(),
    }
}

fn directives(typed: Option<&LogFilter>, rust_log: Option<String>, default: &str) -> String {
    match (typed, rust_log) {
        (Some(LogFilter(filter)), _) => filter.clone(),
        (None, Some(filter)) if !filter.trim().is_empty() => filter,
        (None, _) => default.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_wins_over_the_environment_and_that_over_the_default() {
        let filter = || Some("ferrotunnel_core=trace".to_owned());
        let typed = "error".parse::<LogFilter>().unwrap();
        assert_eq!(directives(Some(&typed), filter(), "info"), "error");
        assert_eq!(directives(None, filter(), "info"), "ferrotunnel_core=trace");
        assert_eq!(directives(None, Some(" ".to_owned()), "info"), "info");
        assert_eq!(directives(None, None, "warn"), "warn");
    }

    #[test]
    fn a_level_may_be_for_a_part_of_the_program() {
        for good in
            ["off", "DEBUG", "info,ferrotunnel_core=debug", "ferrotunnel_http::early=trace, warn"]
        {
            assert!(good.parse::<LogFilter>().is_ok(), "{good}");
        }
        for bad in ["", "inf", "5", "ferrotunnel_core", "ferrotunnel_core=loud", "info,", "a=b=c"] {
            assert!(bad.parse::<LogFilter>().is_err(), "{bad}");
        }
    }
}
