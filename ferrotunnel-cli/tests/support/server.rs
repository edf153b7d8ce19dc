//! The built program as a server, and as a client of it.

use std::net::SocketAddr;
use std::process::Command;

use ferrotunnel_tests::TOKEN;

use super::{Running, command};

/// The program as a server, and where it listens.
pub struct Server {
    pub process: Running,
    pub tunnel: SocketAddr,
    pub http: SocketAddr,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With more arguments.
    pub fn with(more: &[&str]) -> Self {
        Self::spawn(command(&[&Self::args("127.0.0.1:0", "127.0.0.1:0"), more].concat()))
    }

    /// On the ports of one that is gone.
    pub fn again(tunnel: SocketAddr, http: SocketAddr) -> Self {
        Self::spawn(command(&Self::args(&tunnel.to_string(), &http.to_string())))
    }

    pub fn args<'a>(bind: &'a str, http_bind: &'a str) -> [&'a str; 8] {
        ["server", "--json", "--token", TOKEN, "--bind", bind, "--http-bind", http_bind]
    }

    pub fn spawn(command: Command) -> Self {
        let process = Running::spawn(command);
        let listening: serde_json::Value = process.line().parse().unwrap();
        let addr = |name: &str| listening[name].as_str().unwrap().parse().unwrap();
        Self { tunnel: addr("tunnel_addr"), http: addr("http_addr"), process }
    }
}

/// What visitors ask for.
pub fn host(name: &str) -> String {
    format!("{name}.localhost")
}

/// The program as a client with one HTTP tunnel, ready for visitors.
pub fn http_client(server: SocketAddr, name: &str, local: SocketAddr, more: &[&str]) -> Running {
    let (local, server) = (local.to_string(), server.to_string());
    let args = ["http", &local, "--server", &server, "--token", TOKEN, "--name", name];
    let client = Running::start(&[&args, more].concat());
    assert!(client.line().starts_with(&format!("http://{name}.")));
    client
}

/// The program as a client with one TCP tunnel, and where visitors reach it.
pub fn tcp_client(server: SocketAddr, local: SocketAddr, more: &[&str]) -> (Running, SocketAddr) {
    let (local, server) = (local.to_string(), server.to_string());
    let args = ["tcp", &local, "--server", &server, "--token", TOKEN];
    let client = Running::start(&[&args, more].concat());
    let public = ferrotunnel_tests::public_addr(&client.line());
    (client, public)
}
