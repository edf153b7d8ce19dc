//! Dialling a name that has several addresses: Happy Eyeballs (RFC 8305).
//!
//! An address that does not answer holds up the next one for a moment only, and one that refuses not at
//! all. The first connection that is there is used; the others are dropped.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

/// Resolves `host:port` anew and connects to the address that answers first. Each may take `limit`, and so
/// may the resolver: one that nobody answers may ask for minutes.
pub(crate) async fn dial(name: &str, limit: Duration) -> io::Result<TcpStream> {
    connect(in_time(tokio::net::lookup_host(name), limit).await?, limit).await
}

async fn in_time<T>(lookup: impl Future<Output = io::Result<T>>, limit: Duration) -> io::Result<T> {
    timeout(limit, lookup).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the name servers did not answer in time"))
    })
}

/// Connects to the address that answers first. Each may take `limit`.
pub(crate) async fn connect(
    addrs: impl IntoIterator<Item = SocketAddr>,
    limit: Duration,
) -> io::Result<TcpStream> {
    race(interleaved(addrs), |addr| async move {
        match timeout(limit, TcpStream::connect(addr)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    })
    .await
}

/// In the order of the resolver, which knows what is near (RFC 6724), but with the two families taking
/// turns (RFC 8305, section 4): if one of them is broken, the second address is of the other.
fn interleaved(addrs: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addrs = addrs.into_iter().peekable();
    let first_is_ipv6 = addrs.peek().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addrs.partition(|addr| addr.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let turn = [first.next(), second.next()];
        if turn == [None, None] {
            return turns;
        }
        turns.extend(turn.into_iter().flatten());
    }
}

/// Begins with each address a moment after the one before it, or as soon as one has failed, and gives
/// what succeeds first.
async fn race<T, F>(addrs: Vec<SocketAddr>, attempt: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut race =
        Race { waiting: addrs.into_iter(), under_way: Vec::new(), failure: None, next: None };
    poll_fn(|cx| race.poll(cx, &attempt)).await
}

struct Race<F> {
    waiting: std::vec::IntoIter<SocketAddr>,
    under_way: Vec<Pin<Box<F>>>,
    failure: Option<io::Error>,
    /// When the next one begins.
    next: Option<Pin<Box<Sleep>>>,
}

impl<F> Race<F> {
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &impl Fn(SocketAddr) -> F,
    ) -> Poll<io::Result<T>>
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            let before = self.under_way.len();
            if let Some(winner) = self.poll_attempts(cx) {
                return Poll::Ready(Ok(winner));
            }
            let failed = self.under_way.len() < before || self.under_way.is_empty();
            let is_time = self.next.as_mut().is_some_and(|next| next.as_mut().poll(cx).is_ready());
            if !failed && !is_time {
                return Poll::Pending;
            }
            self.next = None;
            let Some(addr) = self.waiting.next() else {
                if !self.under_way.is_empty() {
                    return Poll::Pending;
                }
                let no_address =
                    || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Poll::Ready(Err(self.failure.take().unwrap_or_else(no_address)));
            };
            self.under_way.push(Box::pin(attempt(addr)));
            if self.waiting.len() > 0 {
                self.next = Some(Box::pin(sleep(STAGGER)));
            }
        }
    }

    fn poll_attempts<T>(&mut self, cx: &mut Context<'_>) -> Option<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        let mut winner = None;
        let failure = &mut self.failure;
        self.under_way.retain_mut(|attempt| match attempt.as_mut().poll(cx) {
            _ if winner.is_some() => true,
            Poll::Pending => true,
            Poll::Ready(Ok(connected)) => {
                winner = Some(connected);
                false
            }
            Poll::Ready(Err(error)) => {
                // That a machine is there and nobody listens says more than that there is no way.
                if failure
                    .as_ref()
                    .is_none_or(|known| known.kind() != io::ErrorKind::ConnectionRefused)
                {
                    *failure = Some(error);
                }
                false
            }
        });
        winner
    }
}

/// How long an address is waited for before the next one is tried beside it: the "Connection Attempt
/// Delay" of RFC 8305, section 5, as recommended there.
const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|addr| format!("{addr}:1").parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_in_the_order_of_the_resolver() {
        let sorted = |list: &[&str]| interleaved(addrs(list));
        let mixed = ["[::1]", "[::2]", "[::3]", "1.1.1.1", "2.2.2.2"];
        assert_eq!(sorted(&mixed), addrs(&["[::1]", "1.1.1.1", "[::2]", "2.2.2.2", "[::3]"]));
        let four_first = ["1.1.1.1", "[::1]", "2.2.2.2", "3.3.3.3"];
        assert_eq!(sorted(&four_first), addrs(&["1.1.1.1", "[::1]", "2.2.2.2", "3.3.3.3"]));
        assert_eq!(sorted(&["1.1.1.1", "2.2.2.2"]), addrs(&["1.1.1.1", "2.2.2.2"]));
        assert!(sorted(&[]).is_empty());
    }

    /// What becomes of an address in a test, by its last number.
    async fn fate(addr: SocketAddr) -> io::Result<SocketAddr> {
        let SocketAddr::V4(v4) = addr else { unreachable!() };
        match v4.ip().octets() {
            [0, ..] => pending().await,
            [1, ..] => Err(io::ErrorKind::ConnectionRefused.into()),
            [2, ..] => Err(io::ErrorKind::NetworkUnreachable.into()),
            [3, millis, ..] => {
                sleep(Duration::from_millis(u64::from(millis) * 10)).await;
                Ok(addr)
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// The winner, and after how long.
    async fn winner(list: &[&str]) -> (io::Result<SocketAddr>, Duration) {
        let began = Instant::now();
        (race(addrs(list), fate).await, began.elapsed())
    }

    fn is_after(elapsed: Duration, expected: Duration) -> bool {
        (expected..expected + Duration::from_millis(5)).contains(&elapsed)
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_costs_a_stagger_and_one_that_refuses_nothing() {
        let (won, after) = winner(&["0.0.0.1", "3.1.0.0"]).await;
        assert_eq!(won.unwrap(), addrs(&["3.1.0.0"])[0]);
        assert!(is_after(after, STAGGER + Duration::from_millis(10)), "{after:?}");
        let (won, after) = winner(&["1.0.0.1", "2.0.0.1", "3.0.0.0"]).await;
        assert!(won.is_ok() && is_after(after, Duration::ZERO), "{after:?}");
        // A failure lets the next one begin, though another is still under way.
        let (won, after) = winner(&["0.0.0.1", "1.0.0.1", "3.0.0.0"]).await;
        assert!(won.is_ok() && is_after(after, STAGGER), "{after:?}");
        let (won, after) = winner(&["0.0.0.1", "0.0.0.2", "0.0.0.3", "3.0.0.0"]).await;
        assert!(won.is_ok() && is_after(after, 3 * STAGGER), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_connects_wins_though_it_began_later() {
        let (won, after) = winner(&["3.200.0.0", "3.10.0.0"]).await;
        assert_eq!(won.unwrap(), addrs(&["3.10.0.0"])[0]);
        assert!(is_after(after, STAGGER + Duration::from_millis(100)), "{after:?}");
        let (won, _) = winner(&["3.30.0.0", "3.10.0.0"]).await;
        assert_eq!(won.unwrap(), addrs(&["3.30.0.0"])[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_failure_that_says_most_is_told() {
        for list in [["1.0.0.1", "2.0.0.1"], ["2.0.0.1", "1.0.0.1"]] {
            let error = winner(&list).await.0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        assert_eq!(winner(&[]).await.0.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// An address at which nobody answers, neither yes nor no: a listener whose backlog is full.
    struct Silent {
        addr: SocketAddr,
        _listener: TcpListener,
        _waiting: Vec<TcpStream>,
    }

    impl Silent {
        async fn start() -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let listener = socket.listen(1).unwrap();
            let addr = listener.local_addr().unwrap();
            let mut waiting = Vec::new();
            while let Ok(Ok(socket)) =
                timeout(Duration::from_millis(100), TcpStream::connect(addr)).await
            {
                waiting.push(socket);
            }
            Self { addr, _listener: listener, _waiting: waiting }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_nobody_answers_is_waited_for_no_longer_than_an_address() {
        let began = Instant::now();
        let limit = Duration::from_secs(10);
        let error = in_time(pending::<io::Result<()>>(), limit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(is_after(began.elapsed(), limit));
    }

    #[tokio::test]
    async fn real_sockets_that_do_not_answer_hold_up_nobody() {
        let silent = Silent::start().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let refusing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let nobody = refusing.local_addr().unwrap();
        drop(refusing);
        let limit = Duration::from_secs(20);
        let began = Instant::now();
        let answers = listener.local_addr().unwrap();
        let socket = connect([silent.addr, nobody, answers], limit).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap(), answers);
        // A stagger by design; the rest is for a machine that is busy.
        assert!(began.elapsed() < limit / 2, "{:?}", began.elapsed());
        // Alone it has its time, and no more.
        let error = connect([silent.addr], Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
