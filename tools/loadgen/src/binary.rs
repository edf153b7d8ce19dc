//! The `ferrotunnel` command, run as server and as client.
//!
//! What it costs is measured on the very program that is shipped, with its allocator, its settings
//! and its choice of threads, and not on a copy of its main function in here.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::failure::Failure;
use crate::process::Process;
use crate::stage::{Carrier, TOKEN};

/// Where it is.
#[derive(Clone, Debug)]
pub struct Binary(PathBuf);

/// A server of it.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where clients dial in.
    pub bind: SocketAddr,
    /// Where visitors of HTTP tunnels come in.
    pub http_bind: SocketAddr,
    /// What lies between it and its clients.
    pub carrier: Carrier,
    /// Threads that carry traffic.
    pub threads: usize,
    /// Further arguments.
    pub more: Vec<String>,
    /// How long it may take to start.
    pub patience: Duration,
}

impl Binary {
    /// At that path, or beside the program that runs, where cargo puts it.
    ///
    /// # Errors
    /// There is none.
    pub fn find(path: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => {
                let beside = std::env::current_exe().map_err(Failure::Itself)?;
                beside.with_file_name(format!("ferrotunnel{}", std::env::consts::EXE_SUFFIX))
            }
        };
        if path.is_file() { Ok(Self(path)) } else { Err(Failure::NoBinary(path)) }
    }

    /// A server, and where clients and visitors of HTTP tunnels connect.
    ///
    /// # Errors
    /// It does not start in time.
    pub fn server(
        &self,
        settings: &ServerSettings,
    ) -> Result<(Process, SocketAddr, SocketAddr), Failure> {
        let mut command = self.command(settings.carrier);
        command.arg("server").args(["--bind", &settings.bind.to_string()]);
        command.args(["--http-bind", &settings.http_bind.to_string()]);
        command.args(["--threads", &settings.threads.max(1).to_string()]).args(&settings.more);
        let mut process = Process::start("the server", command)?;
        let said = process.wait_for("listening", settings.patience)?;
        let addr = |name: &str| {
            let text = said[name].as_str().unwrap_or_default();
            text.parse().map_err(|_| Failure::Url(text.to_owned()))
        };
        Ok((process, addr("tunnel_addr")?, addr("http_addr")?))
    }

    /// A client with one tunnel, and its public URL. `arguments` begin with the kind of tunnel.
    ///
    /// # Errors
    /// It has no tunnel in time.
    pub fn client(
        &self,
        server: SocketAddr,
        carrier: Carrier,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<(Process, String), Failure> {
        let mut command = self.command(carrier);
        command.args(arguments).args(["--server", &server.to_string()]);
        let mut process = Process::start("the client", command)?;
        let said = process.wait_for("tunnel_ready", PATIENCE)?;
        let url = said["public_url"].as_str().unwrap_or_default().to_owned();
        Ok((process, url))
    }

    fn command(&self, carrier: Carrier) -> Command {
        let mut command = Command::new(&self.0);
        // Settings of whoever runs this are not those that are measured.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FERROTUNNEL_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.env("FERROTUNNEL_TOKEN", TOKEN);
        if carrier == Carrier::Plaintext {
            command.env("FERROTUNNEL_PLAINTEXT", "true");
        }
        command.args(["--json", "--log-level", "error"]);
        command
    }
}

/// For a process to say that it is ready.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
