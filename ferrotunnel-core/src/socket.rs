//! Socket options, binding and routes. Dialling is in `dial.rs`.

use std::io;
use std::net::{IpAddr, SocketAddr};
#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWrite;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpListener, TcpStream};

/// Options of a visitor's socket or of one to a local service. An answer written in two parts must
/// not wait 40 ms for a delayed acknowledgement. Buffer sizes are left to the kernel's autotuning.
///
/// A peer on this very machine gets no paced congestion control: there is no queue on the way to be
/// kind to, and the timers that BBR paces with would cost half of what moving the bytes does.
pub(crate) fn tune(socket: &TcpStream) {
    // The connection may be gone already; its next read tells.
    let _ = socket.set_nodelay(true);
    #[cfg(target_os = "linux")]
    if let (Ok(ours), Ok(peer)) = (socket.local_addr(), socket.peer_addr())
        && ours.ip() == peer.ip()
    {
        let _ = SockRef::from(socket).set_tcp_congestion(b"reno");
    }
}

/// Whether whoever connected has taken that back, by RST, and said nothing before.
pub(crate) fn is_gone(socket: &TcpStream) -> bool {
    let mut first = [std::mem::MaybeUninit::uninit()];
    is_closed(socket) && !matches!(SockRef::from(socket).peek(&mut first), Ok(1..))
}

/// The error of a connection that has ended by one, which its next read or write does not tell any more. Of one that lives
/// nothing is asked: the answer could be what only happens to it now and then, like a way that was gone for a moment.
pub(crate) fn take_break(socket: &TcpStream) -> Option<io::Error> {
    if is_closed(socket) { socket.take_error().unwrap_or_else(Some) } else { None }
}

fn is_closed(socket: &TcpStream) -> bool {
    // The latter is what macOS calls it once both directions are over.
    let is_closed = [io::ErrorKind::NotConnected, io::ErrorKind::InvalidInput];
    socket.peer_addr().is_err_and(|error| is_closed.contains(&error.kind()))
}

/// Options of a carrier, beside those of every socket.
pub(crate) fn tune_carrier(socket: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(socket);
        let _ = socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES);
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    }
}

/// Has the calling thread told of what happens to a socket, instead of the thread that made it. Costs a descriptor for a
/// moment; where there is none, nothing changes.
pub(crate) fn settle(socket: &mut TcpStream) {
    #[cfg(unix)]
    {
        let twin = twin(socket).map(std::net::TcpStream::from).and_then(TcpStream::from_std);
        replace(socket, twin);
    }
    #[cfg(not(unix))]
    let _ = socket;
}

/// The same for a local one.
#[cfg(unix)]
pub(crate) fn settle_unix(socket: &mut UnixStream) {
    let twin =
        twin(socket).map(std::os::unix::net::UnixStream::from).and_then(UnixStream::from_std);
    replace(socket, twin);
}

#[cfg(unix)]
fn twin(socket: &impl AsFd) -> io::Result<OwnedFd> {
    socket.as_fd().try_clone_to_owned()
}

#[cfg(unix)]
fn replace<T>(socket: &mut T, twin: io::Result<T>) {
    match twin {
        Ok(twin) => *socket = twin,
        Err(error) => {
            tracing::debug!(%error, "a connection stays with the thread that it was made on");
        }
    }
}

/// Takes back what only a multiplexed carrier needs: one that serves a single visitor has nothing
/// urgent to let through, and that visitor may well stop reading for longer than a carrier may.
pub(crate) fn tune_direct(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    #[cfg(target_os = "linux")]
    {
        // 0: as the system has it.
        let _ = socket.set_tcp_notsent_lowat(0);
        let _ = socket.set_tcp_user_timeout(None);
    }
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
    #[cfg(target_os = "linux")]
    let keepalive = keepalive.with_interval(KEEPALIVE_EVERY).with_retries(KEEPALIVE_TIMES);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// Its peer may have vanished: what it does not take within a while ends the connection. It may as well only be slow to read,
/// which looks the same.
pub(crate) fn doubt(socket: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(socket).set_tcp_user_timeout(Some(DOUBTED_TIMEOUT));
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Closes with RST instead of FIN when it is dropped: what the peer has so far is not all.
pub(crate) fn abort_on_close(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Takes `abort_on_close` back: all that was to be said has been.
pub(crate) fn close_in_peace(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(None);
}

/// Ends the writing direction.
pub(crate) fn poll_shutdown<W: AsyncWrite + Unpin>(
    socket: &mut W,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    match ready!(Pin::new(socket).poll_shutdown(cx)) {
        // The peer has closed already; there is nobody left to tell.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
        other => Poll::Ready(other),
    }
}

/// Where to listen.
#[derive(Debug)]
pub enum Listen {
    /// On an address, to be bound.
    At(SocketAddr),
    /// On a socket that listens already, and that others may hold too: what comes in while this
    /// process is not there waits in the kernel's queue for its successor.
    On(std::net::TcpListener),
    /// Nowhere: somebody else listens at that address, and brings what is meant for us.
    Elsewhere(SocketAddr),
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Self {
        Self::At(addr)
    }
}

/// Takes over a listener that was bound elsewhere.
pub(crate) fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    let socket = SockRef::from(&listener);
    // Without it the first accept would fail, and every other one.
    #[cfg(target_os = "linux")]
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    socket.set_nonblocking(true)?;
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER));
    TcpListener::from_std(listener)
}

/// Binds a listener. `SO_REUSEADDR` lets a server that was just stopped have its port again; who lets the system pick
/// one gets it afterwards: Linux looks for those who want it among half of the ports only, which takes milliseconds
/// once some thousand of them are in use.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    let named = addr.port() != 0;
    #[cfg(unix)]
    if named {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    if addr == SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), addr.port()) {
        // `[::]` takes IPv4 visitors too, whatever the system's default.
        let _ = socket.set_only_v6(false);
    }
    // What it accepts inherits this: a visitor who vanished is noticed though nobody writes to it.
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER));
    socket.bind(&addr.into())?;
    #[cfg(unix)]
    if !named {
        socket.set_reuse_address(true)?;
    }
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The address of this machine from which packets to `peer` leave; `None` while there is no way to it.
/// Costs no packet: a UDP socket only looks the route up.
pub(crate) fn source_toward(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Unsent bytes the kernel takes on a carrier. A small urgent frame never waits behind more than
/// this; less would let a fast link run dry between two turns of the driver.
#[cfg(target_os = "linux")]
const NOTSENT_LOWAT_BYTES: u32 = 128 << 10;

/// Unacknowledged data this old ends the carrier: the same as three heartbeats.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// The same for a connection whose peer is doubted. Without it the kernel tries for a quarter of an hour.
#[cfg(target_os = "linux")]
pub(crate) const DOUBTED_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence after which the kernel asks a visitor's machine whether it is still there; a connection
/// that is alive costs one empty packet in that time.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// How often it is asked before the answer is given up.
#[cfg(target_os = "linux")]
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
#[cfg(target_os = "linux")]
const KEEPALIVE_TIMES: u32 = 3;

/// Connections the kernel holds for us between two accepts; it cuts this to its own limit.
const BACKLOG: i32 = 4_096;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use super::*;

    /// A socket at whose other end something is said and then the connection reset, once that has come.
    async fn reset_after(words: &[u8]) -> TcpStream {
        let listener = listen((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let visitor = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(!is_gone(&accepted));
        assert_eq!(visitor.try_write(words).unwrap(), words.len());
        abort_on_close(&visitor);
        drop(visitor);
        while accepted.peer_addr().is_ok() {
            tokio::task::yield_now().await;
        }
        accepted
    }

    #[tokio::test]
    async fn who_has_reset_is_gone_and_who_has_said_something_before_is_heard() {
        assert!(is_gone(&reset_after(b"").await));
        assert!(!is_gone(&reset_after(b"last words").await));
    }

    #[tokio::test]
    async fn what_a_connection_has_ended_by_is_told_once() {
        let ended = reset_after(b"last words").await;
        assert_eq!(take_break(&ended).unwrap().kind(), io::ErrorKind::ConnectionReset);
        assert!(take_break(&ended).is_none());
    }

    /// A way that is gone for a moment cannot be had in a test; what nobody takes at the other end of UDP is told in the
    /// same manner, and ends nothing either.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_only_happens_to_a_connection_is_left_to_it() {
        let local = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let socket = std::net::UdpSocket::bind(local).unwrap();
        let nobody = std::net::UdpSocket::bind(local).unwrap().local_addr().unwrap();
        socket.connect(nobody).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.send(b"x").unwrap();
        let socket = TcpStream::from_std(Socket::from(socket).into()).unwrap();
        socket.ready(tokio::io::Interest::ERROR).await.unwrap();
        assert!(take_break(&socket).is_none());
        let told = socket.take_error().unwrap().unwrap();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Who had a port picked comes back to the very same one, though the kernel remembers visitors of it.
    #[tokio::test]
    async fn a_port_that_was_picked_can_be_had_again_at_once() {
        let listener = listen((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut visitor = TcpStream::connect(addr).await.unwrap();
        // The end that closes first is the one that is remembered.
        drop(listener.accept().await.unwrap());
        assert_eq!(visitor.read(&mut [0]).await.unwrap(), 0);
        drop((visitor, listener));
        assert_eq!(listen(addr).unwrap().local_addr().unwrap(), addr);
    }
}
