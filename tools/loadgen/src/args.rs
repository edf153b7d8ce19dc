//! What may be typed.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use ferrotunnel_loadgen::value::{count, duration, duration_or_none};

/// Put load on a tunnel, or on anything else, and say what went through.
///
/// Without --target a server, a client and an origin are started in this process, each on a
/// thread of its own, and the load goes through them. With --processes, server and client are
/// processes, and the result says what each of them cost.
#[derive(Debug, Parser)]
#[command(name = "ferrotunnel-loadgen", version, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Print JSON on stdout, and the table on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Measure what runs there already
    #[arg(long, global = true, value_name = "HOST:PORT")]
    #[arg(conflicts_with_all = ["direct", "plaintext", "processes", "binary"])]
    pub(crate) target: Option<String>,
    /// Measure the origin alone, without a tunnel before it
    #[arg(long, global = true, conflicts_with_all = ["plaintext", "processes", "binary"])]
    pub(crate) direct: bool,
    /// A tunnel without encryption between server and client
    #[arg(long, global = true)]
    pub(crate) plaintext: bool,
    /// Run server and client as processes, and say what processor time and memory each takes
    #[arg(long, global = true)]
    pub(crate) processes: bool,
    /// The ferrotunnel command to run as server and client [default: the one beside this]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// How visitors of a TCP tunnel travel between server and client
    #[arg(long, global = true, value_enum, default_value_t = Visitors::Auto)]
    pub(crate) visitors: Visitors,
    /// Threads of the server's own; with 0 it has one
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 0)]
    pub(crate) server_threads: usize,
    /// Threads that make the load
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 1, value_parser = count)]
    pub(crate) threads: usize,
    /// How long to measure
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long to wait for answers after that
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) patience: Duration,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One kind of work each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// As many bytes as go through; a target has to be a sink, a source or both, until our end
    Bulk {
        /// Which way, as the visitor sees it
        #[arg(long, value_enum, default_value_t = Way::Down)]
        direction: Way,
        /// Connections at once
        #[arg(long, default_value_t = 1, value_parser = count)]
        streams: usize,
    },
    /// Messages that come back over connections that stay; a target has to be an echo
    Pingpong {
        #[command(flatten)]
        repeated: Repeated,
        /// Bytes of a message
        #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = size)]
        size: usize,
    },
    /// New connections, to the first byte that comes back; a target has to be an echo
    Connect {
        #[command(flatten)]
        repeated: Repeated,
        /// Leave by resetting the connection, which frees its port at once
        #[arg(long)]
        reset: bool,
    },
    /// Connections that are open and silent; a target has to be an echo
    Idle {
        /// How many
        #[arg(long, default_value_t = 1_000, value_parser = count)]
        streams: usize,
        /// How many are opened at once
        #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = count)]
        at_once: usize,
    },
    /// HTTP requests over connections that stay
    Http(Http),
    /// Many clients of one server process, which is then killed and started again
    Sessions(Sessions),
    /// Run an origin, as the other commands start it, for a tunnel that runs elsewhere
    Origin {
        /// What it does
        #[arg(value_enum)]
        kind: OriginKind,
        /// Where it listens
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        #[command(flatten)]
        answer: Answer,
    },
}

/// For work that is done over and over.
#[derive(Debug, clap::Args)]
pub(crate) struct Repeated {
    /// How many at once
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub(crate) connections: usize,
    /// Begin that many per second, whatever became of those before, and count latency from when
    /// each was due; without it each begins when the one before has ended
    #[arg(long, value_name = "PER_SECOND")]
    pub(crate) rate: Option<NonZeroU32>,
    /// How long to warm up, before the time that is measured
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration_or_none)]
    pub(crate) warmup: Duration,
}

/// HTTP requests over connections that stay
#[derive(Debug, clap::Args)]
pub(crate) struct Http {
    #[command(flatten)]
    pub(crate) repeated: Repeated,
    /// Visitors speak HTTP/2, without TLS
    #[arg(long)]
    pub(crate) http2: bool,
    /// Requests at once on each connection of HTTP/2
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = count)]
    #[arg(requires = "http2")]
    pub(crate) streams: usize,
    #[command(flatten)]
    pub(crate) answer: Answer,
    /// The kind of the tunnel
    #[arg(long, value_enum, default_value_t = Tunnel::Http)]
    pub(crate) tunnel: Tunnel,
    /// The client speaks HTTP/2 with the origin
    #[arg(long)]
    pub(crate) origin_http2: bool,
    /// The host to ask for, if the target goes by another name
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// The path to ask for
    #[arg(long, default_value = "/")]
    pub(crate) path: String,
}

/// Many clients of one server process, which is then killed and started again
#[derive(Debug, clap::Args)]
pub(crate) struct Sessions {
    /// How many
    #[arg(long, default_value_t = 100, value_parser = count)]
    pub(crate) count: usize,
    /// TCP tunnels of each
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub(crate) tunnels: usize,
    /// How many connect at once at first; after the restart all do
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = count)]
    pub(crate) at_once: usize,
    /// How many tunnels have to carry an echo, before and after the restart
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) checks: usize,
    /// Connections that may be in their handshake at the server; without it the server's own limit
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub(crate) max_handshakes: Option<usize>,
    /// Ask for ports, instead of having the server pick them
    #[arg(long)]
    pub(crate) ask_for_ports: bool,
    /// Leave the server alone
    #[arg(long)]
    pub(crate) no_restart: bool,
}

/// How our origin answers HTTP.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Answer {
    /// Bytes of an HTTP answer
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = size_or_none)]
    pub(crate) size: usize,
    /// How long the origin takes for an HTTP answer
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration_or_none)]
    pub(crate) delay: Duration,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Way {
    Up,
    Down,
    Both,
}

/// By what visitors find a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tunnel {
    /// By host name: the server reads the requests
    Http,
    /// By port: bytes pass untouched
    Tcp,
}

/// How visitors of a TCP tunnel travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Visitors {
    /// All over one connection
    Multiplexed,
    /// Each over one of its own, as far as they are ready
    Direct,
    /// A few over connections of their own
    Auto,
}

/// What an origin does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OriginKind {
    /// Sends back what it gets: pingpong, connect, idle
    Echo,
    /// Takes bytes: bulk --direction up
    Sink,
    /// Gives bytes: bulk --direction down
    Source,
    /// Takes and gives bytes: bulk --direction both
    Both,
    /// Answers HTTP/1.1 and HTTP/2
    Http,
}

/// A message there and back is held in memory twice for each connection.
fn size_or_none(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size <= LARGEST => Ok(size),
        _ => Err(format!("give a number of bytes up to {LARGEST}")),
    }
}

fn size(text: &str) -> Result<usize, String> {
    match size_or_none(text)? {
        0 => Err("nothing would be sent".to_owned()),
        size => Ok(size),
    }
}

/// More is work for `bulk`.
const LARGEST: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(text.split_whitespace())
    }

    #[test]
    fn the_arguments_hold_together() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn common_options_may_follow_the_command() {
        let args = parse("x bulk --direction both --streams 3 --json --plaintext").unwrap();
        assert!(args.json && args.plaintext);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "x bulk --target a:1 --plaintext",
            "x bulk --direct --plaintext",
            "x pingpong --size 0",
            "x pingpong --rate 0",
            "x pingpong --connections 0",
            "x http --streams 4",
            "x http --direct --processes",
            "x sessions --count 0",
            "x sessions --target a:1 --binary b",
            "x http --duration 0s",
            "x http --duration 5h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
