//! What became of many sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cost::Usage;
use crate::report::Report;

/// The whole run.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionsOutcome {
    /// Sessions that there were to be.
    pub sessions: usize,
    /// Tunnels that there were to be, over all sessions.
    pub tunnels: usize,
    /// The server before anybody came.
    pub server_before: Usage,
    /// The server with all of them.
    pub server_with: Usage,
    /// This process without and with the clients, where the system tells.
    pub own: Option<(Usage, Usage)>,
    /// How they came.
    pub arrival: Arrival,
    /// Whether tunnels work.
    pub knocks: Knocks,
    /// How long they did nothing.
    pub rest: Duration,
    /// The server's processor time meanwhile.
    pub rest_cpu: Duration,
    /// How they came back, and whether tunnels worked then, if the server was started again.
    pub returned: Option<(Return, Knocks)>,
    /// What clients had to complain about, and how often.
    pub faults: BTreeMap<String, u64>,
    /// Why clients had to try again, and how often; of the server's death each of them learns.
    pub setbacks: BTreeMap<String, u64>,
}

/// The first time.
#[derive(Debug)]
#[non_exhaustive]
pub struct Arrival {
    /// Tunnels that were registered.
    pub ready: usize,
    /// Until the last of them was.
    pub time: Duration,
    /// The server then.
    pub server: Usage,
}

/// Echoes through tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Knocks {
    /// Tunnels that were tried.
    pub asked: usize,
    /// Those that carried it there and back.
    pub carried: usize,
}

/// The time after the server's death.
#[derive(Debug)]
#[non_exhaustive]
pub struct Return {
    /// Tunnels that came back.
    pub ready: usize,
    /// From the server's death until a new one listened.
    pub down: Duration,
    /// From then until each of them was back, in order.
    pub times: Vec<Duration>,
    /// Those of them that visitors find where they were.
    pub same_port: usize,
    /// What the new server has cost, from its start until then.
    pub server: Usage,
}

impl Return {
    /// When that share of `tunnels` was back, if it was.
    pub fn back(&self, share: f64, tunnels: usize) -> Option<Duration> {
        let count = (tunnels as f64 * share).ceil() as usize;
        self.times.get(count.max(1) - 1).copied()
    }
}

impl SessionsOutcome {
    /// Whether every tunnel came, came back, and carried what it was asked to.
    pub fn is_complete(&self) -> bool {
        let carried = |knocks: &Knocks| knocks.asked == knocks.carried;
        let is_back = |(returned, knocks): &(Return, Knocks)| {
            returned.ready == self.tunnels && carried(knocks)
        };
        self.arrival.ready == self.tunnels
            && carried(&self.knocks)
            && self.returned.as_ref().is_none_or(is_back)
    }

    /// Writes it down.
    pub fn report(&self, report: &mut Report) {
        report.count("sessions", self.sessions as u64);
        report.count("tunnels", self.tunnels as u64);
        self.report_arrival(report);
        let each = |before: Usage, with: Usage, count: usize| {
            with.resident.saturating_sub(before.resident) / count.max(1) as u64
        };
        let (before, with) = (self.server_before, self.server_with);
        report.count("server_resident_before_bytes", before.resident);
        report.count("server_resident_with_all_bytes", with.resident);
        report.count("server_resident_bytes_per_session", each(before, with, self.sessions));
        report.count("server_resident_bytes_per_tunnel", each(before, with, self.tunnels));
        if let Some((before, with)) = self.own {
            report.count("clients_resident_bytes_per_session", each(before, with, self.sessions));
            report.count("clients_resident_bytes_per_tunnel", each(before, with, self.tunnels));
        }
        let session_seconds = self.sessions as f64 * self.rest.as_secs_f64();
        report.exact(
            "server_rest_cpu_us_per_session_and_second",
            micros(self.rest_cpu) / session_seconds,
        );
        report.count("echoes_asked", self.knocks.asked as u64);
        report.count("echoes_carried", self.knocks.carried as u64);
        if let Some((returned, knocks)) = &self.returned {
            returned.report(report, self.tunnels);
            report.count("restart_echoes_asked", knocks.asked as u64);
            report.count("restart_echoes_carried", knocks.carried as u64);
        }
        report.counts("setbacks", &self.setbacks);
        report.counts("faults", &self.faults);
    }

    fn report_arrival(&self, report: &mut Report) {
        let Arrival { ready, time, server } = &self.arrival;
        report.count("registered", *ready as u64);
        report.exact("registered_after_seconds", time.as_secs_f64());
        report.rate("registered_per_second", *ready as f64 / time.as_secs_f64().max(1e-9));
        let cpu = micros(server.cpu.saturating_sub(self.server_before.cpu));
        report.exact("server_cpu_us_per_registered", cpu / (*ready).max(1) as f64);
    }
}

impl Return {
    fn report(&self, report: &mut Report, tunnels: usize) {
        report.exact("restart_down_ms", micros(self.down) / 1e3);
        report.count("restart_registered", self.ready as u64);
        for (name, share) in [("50_percent", 0.5), ("99_percent", 0.99), ("all", 1.0)] {
            if let Some(time) = self.back(share, tunnels) {
                report.exact(&format!("restart_to_{name}_ms"), micros(time) / 1e3);
            }
        }
        report.count("restart_same_port", self.same_port as u64);
        report.exact("restart_server_cpu_seconds", self.server.cpu.as_secs_f64());
        report.count("restart_server_resident_bytes", self.server.resident);
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
