//! One file for each command; each turns its arguments into settings and runs what the library builds from them.

mod cert;
mod check;
mod client;
mod completions;
mod control;
mod demo;
mod forward;
mod http;
mod password;
mod reload;
mod server;
mod status;
mod tcp;
mod tls;
mod token;
mod version;

use crate::args::Command;
use crate::failure::Failure;
use crate::output::Output;
use crate::runtime::block_on;
use crate::systemd::Sockets;

/// Runs one command to its end.
pub(crate) fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Server(args) => {
            let sockets = Sockets::inherited()?;
            block_on(server::run(*args, sockets, output))
        }
        Command::Client(args) => block_on(client::run(args, output)),
        Command::Http(args) => block_on(http::run(*args, output)),
        Command::Tcp(args) => block_on(tcp::run(args, output)),
        Command::Tls(args) => block_on(tls::run(args, output)),
        Command::Demo(args) => block_on(demo::run(args, output)),
        Command::Token(command) => token::run(&command, output),
        Command::Cert(command) => cert::run(&command, output),
        Command::Password(args) => password::run(&args, output),
        Command::Reload(args) => block_on(reload::run(args, output)),
        Command::Status(args) => block_on(status::run(args, output)),
        Command::Check(args) => check::run(&args, output),
        Command::Version => version::run(output),
        Command::Completions(args) => completions::run(&args, output),
    }
}
