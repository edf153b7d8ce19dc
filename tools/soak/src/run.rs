//! The order of things: start, warm up, come to rest; load and kills; come to rest again, compare;
//! send all home, and see what is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ferrotunnel_loadgen::{Binary, Carrier, Failure, Report, free_ports};
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::churn::{Churn, Rhythm};
use crate::crew::Crew;
use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::levels::{Level, levels};
use crate::visitor::Visits;
use crate::world::{Plan, Trade, World};
use crate::{rest, table};

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Soak {
    /// The command that is tried.
    pub binary: Binary,
    /// How long load and kills last.
    pub duration: Duration,
    /// How long there is load without kills beforehand.
    pub warmup: Duration,
    /// Repeats who does what: kinds of visits, sizes, whom it hits. Not when these meet.
    pub seed: u64,
    /// Between two lines of the table.
    pub report_every: Duration,
    /// Visitors at once.
    pub visitors: usize,
    /// Long streams at once.
    pub long_streams: usize,
    /// Between two kills of clients in each world, on average.
    pub kill_every: Duration,
    /// Between two kills of each server that is killed.
    pub server_kill_every: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The figures.
    pub report: Report,
    /// Why it failed, if it did.
    pub failures: Vec<String>,
}

/// Runs it on a runtime of several threads, some of which wait. `say` gets the table, line by line.
///
/// # Errors
/// A process does not start, or too few ports are free: nothing was tried yet.
pub async fn run(soak: &Soak, mut say: impl FnMut(&str)) -> Result<Outcome, Failure> {
    let ledger = Arc::new(Ledger::default());
    let visits = Arc::new(Visits::new(Arc::clone(&ledger)));
    let worlds = build(soak, &ledger).await?;
    let started = block_in_place(|| worlds.iter().try_for_each(|world| world.start_server()));
    started?;
    let empty = levels(&worlds);
    block_in_place(|| start_clients(&worlds))?;
    let mut failures = Vec::new();

    say(&table::head(&empty));
    let mut watch = TableOverTime::new(soak, &ledger, &worlds);
    let crew = Crew::start(&worlds, &visits, soak.visitors, soak.long_streams, soak.seed);
    watch.over(soak.warmup, || false, &mut say).await;
    crew.go_home().await;
    let quiet = match rest::settle(&worlds).await {
        Ok(quiet) => quiet,
        Err(restless) => {
            failures.extend(restless);
            levels(&worlds)
        }
    };
    say(&format!("{}  at rest after the warm-up", watch.line()));

    let crew = Crew::start(&worlds, &visits, soak.visitors, soak.long_streams, soak.seed + 1);
    let rhythm = Rhythm { clients: soak.kill_every, server: soak.server_kill_every };
    let churns = worlds.iter().zip(0..).map(|(world, number)| {
        let dice = Dice::of_one(!soak.seed, number);
        Churn::start(Arc::clone(world), rhythm, dice, Arc::clone(&ledger))
    });
    let churns = churns.collect::<Result<Vec<_>, _>>()?;
    let gave_up = || churns.iter().any(Churn::has_ended);
    let loaded = Instant::now();
    watch.over(soak.duration, gave_up, &mut say).await;
    let loaded = loaded.elapsed();
    block_in_place(|| drop(churns));
    crew.go_home().await;
    match rest::back_at(&worlds, &quiet).await {
        Ok(_) => {}
        Err(leaks) => failures.extend(leaks),
    }
    say(&format!("{}  at rest after the load", watch.line()));
    let after = levels(&worlds);
    block_in_place(|| worlds.iter().for_each(|world| world.look_around()));

    block_in_place(|| {
        for world in &worlds {
            world.tenants.iter().for_each(|tenant| world.dismiss_client(tenant));
        }
    });
    failures.extend(rest::empty_as(&worlds, &empty).await);
    say(&format!("{}  after all clients went", watch.line()));
    block_in_place(|| worlds.iter().for_each(|world| world.dismiss_server()));

    let leaks = failures.iter().map(|leak| (leak.clone(), 1)).collect();
    let forbidden = ledger.forbidden_texts();
    failures.extend(forbidden.iter().map(|(text, count)| format!("{count} times: {text}")));
    let mut report = Report::default();
    report.count("seed", soak.seed);
    report.exact("load_s", loaded.as_secs_f64());
    ledger.report(&mut report, loaded + soak.warmup);
    for ((name, before), (_, after)) in quiet.iter().zip(&after) {
        let name = name.replace(' ', "_");
        for (when, level) in [("before", before), ("after", after)] {
            report.count(&format!("{name}_resident_{when}"), level.resident);
            report.count(&format!("{name}_descriptors_{when}"), level.descriptors);
            report.count(&format!("{name}_threads_{when}"), level.threads);
            report.count(&format!("{name}_tasks_{when}"), level.tasks);
        }
    }
    report.counts("leaks", &leaks);
    Ok(Outcome { report, failures })
}

/// TLS and plaintext side by side, each with a server that is killed; and a server that stays, in
/// which a leak has the whole time to grow.
const PLANS: [Plan; 3] = [
    Plan {
        name: "tls",
        carrier: Carrier::Tls,
        server_is_killed: true,
        trades: &[Trade::Multiplexed, Trade::Direct, Trade::Http, Trade::Http2],
    },
    Plan {
        name: "plaintext",
        carrier: Carrier::Plaintext,
        server_is_killed: true,
        trades: &[Trade::Multiplexed, Trade::Direct, Trade::Http],
    },
    Plan {
        name: "steady",
        carrier: Carrier::Tls,
        server_is_killed: false,
        trades: &[Trade::Auto, Trade::TwoCarriers, Trade::Http],
    },
];

async fn build(soak: &Soak, ledger: &Arc<Ledger>) -> Result<Vec<Arc<World>>, Failure> {
    // Two for each server, one for each tunnel.
    let needed = PLANS.iter().map(|plan| 2 + plan.trades.len()).sum();
    let ports = free_ports(needed);
    if ports.len() < needed {
        return Err(Failure::Ports { needed, free: ports.len() });
    }
    let mut ports = ports.into_iter();
    let mut worlds = Vec::new();
    let mut tenant = 1;
    for plan in &PLANS {
        let world = World::new(plan, &soak.binary, &mut ports, tenant, ledger).await?;
        tenant += plan.trades.len() as u32;
        worlds.push(Arc::new(world));
    }
    Ok(worlds)
}

fn start_clients(worlds: &[Arc<World>]) -> Result<(), Failure> {
    for world in worlds {
        for tenant in &world.tenants {
            world.start_client(tenant)?;
        }
    }
    Ok(())
}

/// The table, and where it has come to.
struct TableOverTime<'a> {
    soak: &'a Soak,
    ledger: &'a Ledger,
    worlds: &'a [Arc<World>],
    began: Instant,
    last: (u64, Instant),
}

impl<'a> TableOverTime<'a> {
    fn new(soak: &'a Soak, ledger: &'a Ledger, worlds: &'a [Arc<World>]) -> Self {
        Self { soak, ledger, worlds, began: Instant::now(), last: (0, Instant::now()) }
    }

    /// Says a line every so often for that time, or until somebody gives up.
    async fn over(&mut self, time: Duration, end: impl Fn() -> bool, say: &mut impl FnMut(&str)) {
        let until = Instant::now() + time;
        let mut next = Instant::now() + self.soak.report_every;
        while Instant::now() < until && !end() {
            let wake = next.min(until).min(Instant::now() + LOOK_EVERY);
            sleep(wake.saturating_duration_since(Instant::now())).await;
            if Instant::now() >= next {
                next += self.soak.report_every;
                say(&self.line());
            }
        }
    }

    fn line(&mut self) -> String {
        let (connections, at) = self.last;
        let now = self.ledger.connections.load(Ordering::Relaxed);
        self.last = (now, Instant::now());
        let levels: Vec<(String, Level)> = levels(self.worlds);
        table::line(self.began.elapsed(), self.ledger, (now - connections, at.elapsed()), &levels)
    }
}

/// Whether somebody has given up.
const LOOK_EVERY: Duration = Duration::from_millis(500);
