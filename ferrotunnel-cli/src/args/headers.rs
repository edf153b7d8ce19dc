//! What becomes of the headers of an HTTP tunnel, as it is typed.

use clap::Args;
use ferrotunnel::plugin::Dir;
use ferrotunnel::{HeaderRule, HostHeader};

use crate::failure::Failure;
use crate::headers::{self, HeaderSettings};
use crate::value::{self, Secret};

/// Values may be secrets, so they are read here, where a complaint does not repeat them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Headers")]
pub(crate) struct HeaderArgs {
    /// The host that the local service is asked for: the visitor's (keep), that of the local address (rewrite), or this
    /// one [default: keep]
    #[arg(long, env = "FERROTUNNEL_HOST_HEADER", value_name = "keep|rewrite|HOST", value_parser = value::host_header)]
    pub(crate) host_header: Option<HostHeader>,
    /// Take this header out of requests; may be repeated
    #[arg(
        long,
        env = "FERROTUNNEL_REQUEST_HEADER_REMOVE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) request_header_remove: Vec<String>,
    /// Give requests this header in place of any of that name; may be repeated
    #[arg(
        long,
        env = "FERROTUNNEL_REQUEST_HEADER_SET",
        hide_env_values = true,
        value_name = "NAME: VALUE",
        value_delimiter = '\n'
    )]
    pub(crate) request_header_set: Vec<Secret>,
    /// Give requests this header beside others of that name; may be repeated
    #[arg(
        long,
        env = "FERROTUNNEL_REQUEST_HEADER_ADD",
        hide_env_values = true,
        value_name = "NAME: VALUE",
        value_delimiter = '\n'
    )]
    pub(crate) request_header_add: Vec<Secret>,
    /// Take this header out of responses; may be repeated
    #[arg(
        long,
        env = "FERROTUNNEL_RESPONSE_HEADER_REMOVE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) response_header_remove: Vec<String>,
    /// Give responses this header in place of any of that name; may be repeated
    #[arg(
        long,
        env = "FERROTUNNEL_RESPONSE_HEADER_SET",
        hide_env_values = true,
        value_name = "NAME: VALUE",
        value_delimiter = '\n'
    )]
    pub(crate) response_header_set: Vec<Secret>,
    /// Give responses this header beside others of that name; may be repeated
    #[arg(
        long,
        env = "FERROTUNNEL_RESPONSE_HEADER_ADD",
        hide_env_values = true,
        value_name = "NAME: VALUE",
        value_delimiter = '\n'
    )]
    pub(crate) response_header_add: Vec<Secret>,
}

impl HeaderArgs {
    /// What they mean.
    pub(crate) fn read(self) -> Result<HeaderSettings, Failure> {
        use Dir::{Request, Response};
        let remove = |dir| move |name: String| headers::remove(dir)(&name);
        let request = [
            each("request-header-remove", self.request_header_remove, remove(Request))?,
            each("request-header-set", self.request_header_set, headers::set(Request))?,
            each("request-header-add", self.request_header_add, headers::add(Request))?,
        ]
        .concat();
        let response = [
            each("response-header-remove", self.response_header_remove, remove(Response))?,
            each("response-header-set", self.response_header_set, headers::set(Response))?,
            each("response-header-add", self.response_header_add, headers::add(Response))?,
        ]
        .concat();
        Ok(HeaderSettings { host: self.host_header.unwrap_or_default(), request, response })
    }
}

fn each<T>(
    flag: &str,
    given: Vec<T>,
    read: impl Fn(T) -> Result<HeaderRule, String>,
) -> Result<Vec<HeaderRule>, Failure> {
    let wrong = |why| Failure::usage(format!("--{flag}: {why}"));
    given.into_iter().map(|one| read(one).map_err(wrong)).collect()
}
