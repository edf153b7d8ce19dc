//! The service manager that started this program, and what it is told (`sd_notify(3)`).

use std::ffi::OsStr;
use std::future::{Future, pending};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::pin::pin;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Whoever waits at `NOTIFY_SOCKET`; where nobody does, nothing is said.
pub(crate) struct Manager {
    ear: Option<Ear>,
    is_ready: bool,
    /// The status that was told last.
    told: String,
}

struct Ear {
    socket: UnixDatagram,
    pulse: Interval,
    /// Whether it ends a program that is silent for too long (`WatchdogSec=`).
    watches: bool,
}

impl Manager {
    /// To be called on a runtime.
    pub(crate) fn from_env() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET");
        Self::at(address.as_deref(), sd_notify::watchdog_enabled())
    }

    fn at(address: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let ear = address.and_then(|address| match connect(address) {
            Ok(socket) => Some(Ear { socket, pulse: pulse(watchdog), watches: watchdog.is_some() }),
            Err(error) => {
                tracing::warn!(?address, %error, "the service manager cannot be reached (NOTIFY_SOCKET)");
                None
            }
        });
        Self { ear, is_ready: false, told: String::new() }
    }

    /// Everything is there for those who come; said once.
    pub(crate) fn ready(&mut self, status: &str) {
        if !std::mem::replace(&mut self.is_ready, true) {
            status.clone_into(&mut self.told);
            self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
    }

    /// One line for `systemctl status`; the same one is said once.
    pub(crate) fn status(&mut self, status: &str) {
        if self.told != status {
            status.clone_into(&mut self.told);
            self.tell(&[NotifyState::Status(status)]);
        }
    }

    /// A sign of life, if one is expected.
    pub(crate) fn beat(&mut self) {
        if self.ear.as_ref().is_some_and(|ear| ear.watches) {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// The settings are read anew; what is told as [`status`](Self::status) comes later. Ends with
    /// [`reloaded`](Self::reloaded).
    pub(crate) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => {
                tracing::warn!(%error, "the clock cannot be read for the service manager");
            }
        }
    }

    /// The new settings hold.
    pub(crate) fn reloaded(&mut self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The end has begun, and takes that long at most.
    pub(crate) fn stopping(&mut self, limit: Duration) {
        let limit = limit.saturating_add(BEYOND_DRAIN).as_micros();
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("finishing what is open"),
            NotifyState::ExtendTimeoutUsec(u32::try_from(limit).unwrap_or(u32::MAX)),
        ]);
    }

    /// Resolves when it is time to [`beat`](Self::beat), and to look whether the
    /// [`status`](Self::status) has changed.
    pub(crate) async fn due(&mut self) {
        match &mut self.ear {
            Some(ear) => drop(ear.pulse.tick().await),
            None => pending().await,
        }
    }

    /// Beats until `work` is done.
    pub(crate) async fn beating<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.due() => self.beat(),
            }
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(ear) = &self.ear else { return };
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = ear.socket.send(lines.as_bytes()) {
            // Nothing depends on it here; the manager notices what it misses.
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// The socket never waits: a manager that does not listen holds nobody up.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        socket.connect_addr(&address)?;
        return Ok(socket);
    }
    socket.connect(address)?;
    Ok(socket)
}

fn pulse(watchdog: Option<Duration>) -> Interval {
    // Twice in the time it waits, as sd_watchdog_enabled(3) advises.
    let period = watchdog.map_or(LOOK_EVERY, |time| LOOK_EVERY.min(time / 2));
    let mut pulse = interval(period.max(SHORTEST));
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse
}

/// A status is for people who look now and then.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A watchdog that wants more than that is a mistake of its unit.
const SHORTEST: Duration = Duration::from_millis(10);

/// From the end of the drain to the end of the process.
const BEYOND_DRAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager, and what it hears.
    fn manager(name: &str, watchdog: Option<Duration>) -> (Manager, UnixDatagram) {
        let dir = std::env::temp_dir().join(format!("ferrotunnel-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let manager = Manager::at(Some(path.as_os_str()), watchdog);
        std::fs::remove_dir_all(&dir).unwrap();
        (manager, heard)
    }

    fn next(heard: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let length = heard.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_changes_is_told_and_what_does_not_is_told_once() {
        let (mut manager, heard) = manager("told", None);
        manager.ready("sessions: 0");
        manager.ready("sessions: 0");
        manager.status("sessions: 0");
        manager.beat();
        manager.status("sessions: 1");
        manager.stopping(Duration::from_secs(30));
        assert_eq!(next(&heard), "READY=1\nSTATUS=sessions: 0\n");
        assert_eq!(next(&heard), "STATUS=sessions: 1\n");
        assert_eq!(
            next(&heard),
            "STOPPING=1\nSTATUS=finishing what is open\nEXTEND_TIMEOUT_USEC=35000000\n"
        );
    }

    #[tokio::test]
    async fn a_reload_says_when_it_began_and_when_it_is_over() {
        let (mut manager, heard) = manager("reload", None);
        manager.reloading();
        manager.reloaded();
        let began = next(&heard);
        let clock = began.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(clock.trim_end().parse::<u64>().unwrap() > 0, "{began}");
        assert_eq!(next(&heard), "READY=1\n");
    }

    #[tokio::test]
    async fn a_watchdog_hears_from_us_while_we_work() {
        let (mut manager, heard) = manager("watchdog", Some(Duration::from_millis(40)));
        heard.set_nonblocking(true).unwrap();
        let heard = tokio::net::UnixDatagram::from_std(heard).unwrap();
        let work = async {
            let mut bytes = [0; 64];
            for _ in 0..3 {
                let length = heard.recv(&mut bytes).await.unwrap();
                assert_eq!(&bytes[..length], b"WATCHDOG=1\n");
            }
        };
        manager.beating(work).await;
    }

    #[tokio::test]
    async fn a_manager_that_does_not_listen_holds_nobody_up() {
        let (mut manager, heard) = manager("deaf", None);
        // More than its queue holds.
        for number in 0..10_000 {
            manager.status(&format!("sessions: {number}"));
        }
        assert_eq!(next(&heard), "STATUS=sessions: 0\n");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_address_may_be_abstract() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("ferrotunnel-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let heard = UnixDatagram::bind_addr(&address).unwrap();
        let mut manager = Manager::at(Some(OsStr::new(&format!("@{name}"))), None);
        manager.ready("here");
        assert_eq!(next(&heard), "READY=1\nSTATUS=here\n");
    }
}
