//! How many tasks a process says that it has.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Asks its admin interface, and waits for the answer.
pub(crate) fn of(admin: SocketAddr) -> io::Result<u64> {
    let mut asking = TcpStream::connect_timeout(&admin, PATIENCE)?;
    asking.set_read_timeout(Some(PATIENCE))?;
    let host = admin.to_string();
    write!(asking, "GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut said = String::new();
    asking.read_to_string(&mut said)?;
    in_metrics(&said).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn in_metrics(text: &str) -> Option<u64> {
    let count = |line: &str| NAMES.iter().find_map(|name| line.strip_prefix(name)?.parse().ok());
    text.lines().find_map(count)
}

/// At a server, and at a client.
const NAMES: [&str; 2] = ["ferrotunnel_tasks ", "ferrotunnel_client_tasks "];

/// A process may just be killed.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_others() {
        let help = "# HELP ferrotunnel_tasks Tasks of the server's runtimes.\n";
        let server = format!("{help}ferrotunnel_tasks 17\nferrotunnel_sessions 3\n");
        assert_eq!(in_metrics(&server), Some(17));
        assert_eq!(in_metrics("a 1\nferrotunnel_client_tasks 9\n"), Some(9));
        assert_eq!(in_metrics(help), None);
    }
}
