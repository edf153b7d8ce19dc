//! Notices that the machine slept or changed its network: the way to the server may be gone, and
//! nothing has said so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::MissedTickBehavior;

use super::state::State;
use crate::clock;
use crate::socket;

/// Looks until the client ends, and raises the alarm.
pub(super) async fn keep(state: &State) -> Infallible {
    let mut vigil = Vigil::default();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let clocks = Clocks { steady: clock::now(), wall: SystemTime::now() };
        let mut cause = vigil.look_at_clocks(clocks);
        if vigil.ticks.is_multiple_of(TICKS_BETWEEN_ROUTES) {
            // The way to this very machine never changes.
            let servers = state.last_reached().into_iter().filter(|it| !it.ip().is_loopback());
            let sources = servers.map(|addr| (addr, socket::source_toward(addr)));
            cause = cause.or(vigil.look_at_routes(sources.collect()));
        }
        if let Some(cause) = cause {
            state.alarm(cause);
        }
    }
}

/// Why sessions may be dead without a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Slept,
    NetworkChanged,
}

/// What was seen last.
#[derive(Debug, Default)]
struct Vigil {
    clocks: Option<Clocks>,
    /// From which of our addresses packets go to each server; `None` while there is no way.
    sources: HashMap<SocketAddr, Option<IpAddr>>,
    ticks: u32,
}

#[derive(Clone, Copy, Debug)]
struct Clocks {
    /// Stands still while the machine sleeps, on most systems.
    steady: Instant,
    /// Goes on, and may be set.
    wall: SystemTime,
}

impl Vigil {
    /// One look, a [`TICK`] after the last if nothing was in the way.
    fn look_at_clocks(&mut self, now: Clocks) -> Option<Cause> {
        self.ticks = self.ticks.wrapping_add(1);
        let before = self.clocks.replace(now)?;
        // A wall clock that was set back says nothing; one that was set forward costs a Ping.
        let wall = now.wall.duration_since(before.wall).unwrap_or_default();
        let passed = wall.max(now.steady.duration_since(before.steady));
        (passed >= TICK + JUMP).then_some(Cause::Slept)
    }

    /// A network that is gone is no reason to ask anybody anything; one that is back, or another, is.
    fn look_at_routes(&mut self, now: HashMap<SocketAddr, Option<IpAddr>>) -> Option<Cause> {
        let changed = now.iter().any(|(server, source)| {
            source.is_some() && self.sources.get(server).is_some_and(|before| before != source)
        });
        self.sources = now;
        changed.then_some(Cause::NetworkChanged)
    }
}

/// Between two looks at the clocks. A wake-up a second is what a client costs while it is idle.
const TICK: Duration = Duration::from_secs(1);

/// Routes are looked up every other second: a system call or four for each server.
const TICKS_BETWEEN_ROUTES: u32 = 2;

/// More than a busy machine lets a task wait, and less than a NAT needs to forget anything.
const JUMP: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    /// A vigil that has looked once, and what the clocks said then.
    fn begun() -> (Vigil, Clocks) {
        let clocks = Clocks { steady: Instant::now(), wall: SystemTime::now() };
        let mut vigil = Vigil::default();
        assert_eq!(vigil.look_at_clocks(clocks), None);
        (vigil, clocks)
    }

    fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_wall_clock_that_jumps_means_sleep() {
        let (mut vigil, Clocks { steady, wall }) = begun();
        for second in 1..10 {
            let clocks = Clocks { steady: steady + secs(second), wall: wall + secs(second) };
            assert_eq!(vigil.look_at_clocks(clocks), None);
        }
        let awake = Clocks { steady: steady + secs(10), wall: wall + secs(3_600) };
        assert_eq!(vigil.look_at_clocks(awake), Some(Cause::Slept));
        let next = Clocks { steady: steady + secs(11), wall: wall + secs(3_601) };
        assert_eq!(vigil.look_at_clocks(next), None, "once for each sleep");
    }

    #[test]
    fn a_look_that_comes_too_late_means_sleep_where_the_steady_clock_goes_on() {
        let (mut vigil, Clocks { steady, wall }) = begun();
        let late = Clocks { steady: steady + TICK + JUMP, wall };
        assert_eq!(vigil.look_at_clocks(late), Some(Cause::Slept));
    }

    #[test]
    fn a_busy_machine_and_a_clock_that_is_set_back_are_no_sleep() {
        let (mut vigil, Clocks { steady, wall }) = begun();
        let busy = Clocks { steady: steady + secs(4), wall: wall + secs(4) };
        assert_eq!(vigil.look_at_clocks(busy), None);
        let set_back = Clocks { steady: steady + secs(5), wall: wall - secs(7_200) };
        assert_eq!(vigil.look_at_clocks(set_back), None);
    }

    #[test]
    fn another_source_address_means_another_network() {
        let server: SocketAddr = "192.0.2.1:7835".parse().unwrap();
        let from = |source: Option<&str>| {
            HashMap::from([(server, source.map(|source| source.parse().unwrap()))])
        };
        let mut vigil = Vigil::default();
        assert_eq!(vigil.look_at_routes(HashMap::new()), None);
        assert_eq!(vigil.look_at_routes(from(Some("10.0.0.2"))), None, "the first that is known");
        assert_eq!(vigil.look_at_routes(from(Some("10.0.0.2"))), None);
        assert_eq!(vigil.look_at_routes(from(Some("10.9.0.2"))), Some(Cause::NetworkChanged));
        assert_eq!(vigil.look_at_routes(from(None)), None, "there is nobody to ask");
        assert_eq!(vigil.look_at_routes(from(Some("10.9.0.2"))), Some(Cause::NetworkChanged));
        // Another server is no other network.
        let other = HashMap::from([("192.0.2.2:7835".parse().unwrap(), from(None)[&server])]);
        assert_eq!(vigil.look_at_routes(other), None);
    }

    #[test]
    fn the_source_toward_this_machine_is_itself() {
        let server: SocketAddr = "127.0.0.1:7835".parse().unwrap();
        assert_eq!(socket::source_toward(server), Some(server.ip()));
    }
}
