//! How fast a session, or all sessions of a principal, may go.
//!
//! Bytes over the limit are not read from where they come from, so they wait there by back-pressure, and whoever has
//! another session does not notice. Streams over it are refused.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::pace::Pace;
use crate::turned_away::{Limit, Meters};

/// What may happen a second; `None`: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) streams: Option<u32>,
    /// Each way.
    pub(crate) bytes: Option<u64>,
}

/// The rates of one session or principal, and how much of them is used up.
#[derive(Debug)]
pub(crate) struct Throttle {
    streams: Pace,
    has_streams: AtomicBool,
    /// From visitors, and to them.
    bytes: [Pace; 2],
    has_bytes: AtomicBool,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the visitor to the client.
    In,
    /// From the client to the visitor.
    Out,
}

/// The throttles that a stream is under.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttles([Option<Arc<Throttle>>; 2]);

impl Throttle {
    /// `None` where nothing is limited, nor will be.
    pub(crate) fn new(rates: Rates, now: Instant) -> Option<Arc<Self>> {
        (rates != Rates::default()).then(|| Arc::new(Self::lasting(rates, now)))
    }

    /// One whose rates may be [set](Self::set): also where nothing is limited yet.
    pub(crate) fn lasting(Rates { streams, bytes }: Rates, now: Instant) -> Self {
        let pace = |most: u64| Pace::new(most, now);
        let of_bytes = bytes.unwrap_or_default();
        Self {
            streams: pace(streams.unwrap_or_default().into()),
            has_streams: AtomicBool::new(streams.is_some()),
            bytes: [pace(of_bytes), pace(of_bytes)],
            has_bytes: AtomicBool::new(bytes.is_some()),
        }
    }

    /// The rates from now on, for what is under way too. What has gone beyond those of before is not waited for any more.
    pub(crate) fn set(&self, Rates { streams, bytes }: Rates, now: Instant) {
        if let Some(most) = streams {
            self.streams.set_rate(most.into());
        }
        self.has_streams.store(streams.is_some(), Ordering::Relaxed);
        for pace in &self.bytes {
            if let Some(most) = bytes {
                pace.set_rate(most);
            }
            pace.forgive(now);
        }
        self.has_bytes.store(bytes.is_some(), Ordering::Relaxed);
    }

    /// Whether bytes are limited.
    pub(crate) fn has_bytes(&self) -> bool {
        self.has_bytes.load(Ordering::Relaxed)
    }

    fn streams(&self) -> Option<&Pace> {
        self.has_streams.load(Ordering::Relaxed).then_some(&self.streams)
    }

    fn pace(&self, way: Way) -> Option<&Pace> {
        let [inward, outward] = &self.bytes;
        self.has_bytes().then_some(match way {
            Way::In => inward,
            Way::Out => outward,
        })
    }
}

impl Throttles {
    pub(crate) fn of(throttles: [Option<Arc<Throttle>>; 2]) -> Self {
        Self(throttles)
    }

    fn all(&self) -> impl Iterator<Item = &Throttle> {
        self.0.iter().flatten().map(Arc::as_ref)
    }

    /// Takes one stream of all of them, or of none.
    pub(crate) fn take_stream(&self, now: Instant) -> bool {
        let paces = || self.all().filter_map(Throttle::streams);
        for (at, pace) in paces().enumerate() {
            if pace.take_within(Duration::ZERO, now).is_none() {
                paces().take(at).for_each(Pace::give_back);
                return false;
            }
        }
        true
    }

    /// Gives a stream back that was taken and did not come to pass.
    pub(crate) fn give_stream_back(&self) {
        self.all().filter_map(Throttle::streams).for_each(Pace::give_back);
    }

    /// What a direction of a stream has to wait for; `None` where bytes have no limit. Every wait counts once in
    /// `meters`.
    pub(crate) fn pacing(&self, way: Way, meters: &Meters) -> Option<Box<Pacing>> {
        let has_limit = self.all().any(Throttle::has_bytes);
        let meters = meters.clone();
        has_limit.then(|| Box::new(Pacing { of: self.clone(), way, timer: None, meters }))
    }
}

/// One direction of a stream that is not to go faster than its throttles say.
#[derive(Debug)]
pub(crate) struct Pacing {
    of: Throttles,
    way: Way,
    /// While it waits.
    timer: Option<Pin<Box<Sleep>>>,
    meters: Meters,
}

impl Pacing {
    /// Ready when bytes may move: some, and not more than [`AT_ONCE`] where that can be helped.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = tokio::time::Instant::now();
            let wait = self.paces().map(|pace| pace.wait(now.into_std())).max().unwrap_or_default();
            if wait.is_zero() {
                self.timer = None;
                return Poll::Ready(());
            }
            if self.timer.is_none() {
                self.meters.count(Limit::Pauses);
            }
            // The rate may be another one meanwhile.
            let wait = wait.min(LOOK_AGAIN);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            timer.as_mut().reset(now + wait);
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Whoever waits goes on doing so on the calling thread.
    pub(crate) fn settle(&mut self) {
        self.timer = None;
    }

    /// Those bytes have moved.
    pub(crate) fn charge(&self, bytes: usize) {
        let now = tokio::time::Instant::now().into_std();
        self.paces().for_each(|pace| pace.charge(bytes as u64, now));
    }

    fn paces(&self) -> impl Iterator<Item = &Pace> {
        self.of.all().filter_map(|one| one.pace(self.way))
    }
}

/// Bytes that a throttled direction moves before it looks again whether it may: what it takes ahead of its rate.
/// The kernel's pipe between two sockets takes four times as much.
pub(crate) const AT_ONCE: usize = 64 << 10;

/// How long a direction is held back at most without a look at its rates: one look a second for each costs nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(streams: Option<u32>, bytes: Option<u64>) -> Option<Arc<Throttle>> {
        Throttle::new(Rates { streams, bytes }, tokio::time::Instant::now().into_std())
    }

    /// Moves bytes in chunks for that long, on the clock of the test, and counts them.
    async fn moved_within(pacing: &mut Pacing, time: Duration, chunk: usize) -> u64 {
        let mut moved = 0;
        let moving = async {
            loop {
                std::future::poll_fn(|cx| pacing.poll_ready(cx)).await;
                pacing.charge(chunk);
                moved += chunk as u64;
            }
        };
        assert!(tokio::time::timeout(time, moving).await.is_err());
        moved
    }

    #[test]
    fn nothing_limited_is_nothing_to_do() {
        assert!(throttle(None, None).is_none());
        let throttles = Throttles::of([None, throttle(Some(1), None)]);
        assert!(throttles.pacing(Way::In, &Meters::default()).is_none());
        assert!(Throttles::default().take_stream(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_move_at_their_rate_each_way_by_itself() {
        let throttles = Throttles::of([throttle(None, Some(1_000_000)), None]);
        let meters = Meters::default();
        let mut inward = throttles.pacing(Way::In, &meters).unwrap();
        let mut outward = throttles.pacing(Way::Out, &meters).unwrap();
        for pacing in [&mut inward, &mut outward] {
            let moved = moved_within(pacing, Duration::from_secs(60), 50_000).await;
            assert!((60_000_000..=61_100_000).contains(&moved), "{moved}");
        }
        assert!(meters.of(Limit::Pauses) > 2);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_of_one_throttle_share_it_and_the_narrowest_of_several_holds() {
        let principal = throttle(None, Some(600_000));
        let sessions = [throttle(None, Some(400_000)), throttle(None, Some(10_000_000))];
        let [one, other] = sessions.map(|session| Throttles::of([session, principal.clone()]));
        let meters = Meters::default();
        let mut one = one.pacing(Way::Out, &meters).unwrap();
        let mut other = other.pacing(Way::Out, &meters).unwrap();
        let time = Duration::from_secs(100);
        let (one, other) = tokio::join!(
            moved_within(&mut one, time, 2_000),
            moved_within(&mut other, time, 2_000)
        );
        assert!((60_000_000..=61_000_000).contains(&(one + other)), "{one} and {other}");
        assert!(one <= 40_800_000 && other > 10_000_000, "{one} and {other}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_goes_by_the_rates_that_are_set() {
        let now = || tokio::time::Instant::now().into_std();
        let bytes = |bytes| Rates { streams: None, bytes };
        let slow = Arc::new(Throttle::lasting(bytes(Some(1_000)), now()));
        let throttles = Throttles::of([None, Some(slow.clone())]);
        let meters = Meters::default();
        let mut before = throttles.pacing(Way::Out, &meters).unwrap();
        // It owes what takes more than an hour.
        before.charge(4_000_000);
        let held = std::future::poll_fn(|cx| before.poll_ready(cx));
        assert!(tokio::time::timeout(Duration::from_secs(60), held).await.is_err());
        slow.set(bytes(Some(1_000_000)), now());
        let mut after = throttles.pacing(Way::Out, &meters).unwrap();
        let time = Duration::from_secs(100);
        let (one, other) = tokio::join!(
            moved_within(&mut before, time, 2_000),
            moved_within(&mut after, time, 2_000)
        );
        assert!((98_000_000..=101_000_000).contains(&(one + other)), "{one} and {other}");
        assert!(one > 10_000_000 && other > 10_000_000, "{one} and {other}");

        before.charge(4_000_000_000);
        slow.set(bytes(None), now());
        for _ in 0..1_000 {
            std::future::poll_fn(|cx| before.poll_ready(cx)).await;
            before.charge(1_000_000);
        }
        assert!(throttles.pacing(Way::Out, &meters).is_none());
    }

    #[test]
    fn streams_go_by_the_rate_that_is_set() {
        let now = tokio::time::Instant::now().into_std();
        let throttle = Arc::new(Throttle::lasting(Rates::default(), now));
        let throttles = Throttles::of([None, Some(throttle.clone())]);
        let taken = |at| (0..1_000).filter(|_| throttles.take_stream(at)).count();
        assert_eq!(taken(now), 1_000);
        throttle.set(Rates { streams: Some(2), bytes: None }, now);
        assert_eq!(taken(now), 2);
        throttle.set(Rates { streams: Some(4), bytes: None }, now);
        assert_eq!(taken(now + Duration::from_secs(2)), 4);
        throttle.set(Rates::default(), now);
        assert_eq!(taken(now), 1_000);
    }

    #[test]
    fn a_stream_is_taken_of_all_or_of_none() {
        let (wide, narrow) = (throttle(Some(3), None), throttle(Some(1), None));
        let now = tokio::time::Instant::now().into_std();
        let both = Throttles::of([wide.clone(), narrow]);
        assert!(both.take_stream(now));
        for _ in 0..10 {
            assert!(!both.take_stream(now));
        }
        let alone = Throttles::of([wide, None]);
        assert!(alone.take_stream(now) && alone.take_stream(now) && !alone.take_stream(now));
        alone.give_stream_back();
        assert!(alone.take_stream(now) && !alone.take_stream(now));
    }
}
