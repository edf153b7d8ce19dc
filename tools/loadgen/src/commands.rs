//! From arguments to a result.

use ferrotunnel::{Streams, TunnelKind};
use ferrotunnel_loadgen::bulk::{self, BulkLoad, Direction};
use ferrotunnel_loadgen::connect::{self, Farewell};
use ferrotunnel_loadgen::http::{self, HttpLoad, HttpVersion};
use ferrotunnel_loadgen::sessions::{self, Ports, SessionsLoad};
use ferrotunnel_loadgen::{
    Binary, Carrier, Costs, Failure, Load, Origin, Outcome, Place, Report, Rhythm, Service, Stage,
    Tunnelled, idle, pingpong,
};

use crate::args::{
    Answer, Args, Command, Http, OriginKind, Repeated, Sessions, Tunnel, Visitors, Way,
};

/// What is printed, and whether anything went wrong.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) report: Report,
    pub(crate) failed: bool,
}

pub(crate) fn run(args: &Args) -> Result<Measured, Failure> {
    match &args.command {
        Command::Bulk { direction, streams } => run_bulk(args, (*direction).into(), *streams),
        Command::Pingpong { repeated, size } => {
            let stage = args.stage(Service::Echo)?;
            let mut measured = args.begin("pingpong", &stage);
            measured.report.count("connections", repeated.connections as u64);
            measured.report.count("message_bytes", *size as u64);
            let run = || pingpong::run(stage.addr(), *size, &args.load(repeated));
            let (outcome, costs) = metered(&stage, run)?;
            Ok(measured.with(repeated, &outcome, "message", costs))
        }
        Command::Connect { repeated, reset } => {
            let stage = args.stage(Service::Echo)?;
            let mut measured = args.begin("connect", &stage);
            measured.report.count("at_once", repeated.connections as u64);
            let farewell = if *reset { Farewell::Reset } else { Farewell::Orderly };
            let run = || connect::run(stage.addr(), farewell, &args.load(repeated));
            let (outcome, costs) = metered(&stage, run)?;
            Ok(measured.with(repeated, &outcome, "connection", costs))
        }
        Command::Idle { streams, at_once } => {
            let stage = args.stage(Service::Echo)?;
            let mut measured = args.begin("idle", &stage);
            measured.report.count("streams", *streams as u64);
            let (addr, processes) = (stage.addr(), stage.processes());
            let outcome = idle::run(addr, *streams, *at_once, args.duration, processes)?;
            outcome.report(&mut measured.report);
            measured.failed = outcome.alive < *streams;
            Ok(measured)
        }
        Command::Http(http) => run_http(args, http),
        Command::Sessions(sessions) => run_sessions(args, sessions),
        Command::Origin { kind, listen, answer } => {
            serve(&Origin::start(kind.service(answer), *listen)?)
        }
    }
}

fn run_bulk(args: &Args, direction: Direction, streams: usize) -> Result<Measured, Failure> {
    let stage = args.stage(Service::Bulk(direction))?;
    let mut measured = args.begin("bulk", &stage);
    measured.report.count("streams", streams as u64);
    let load = BulkLoad {
        direction,
        streams,
        duration: args.duration,
        patience: args.patience,
        threads: args.threads,
    };
    let (outcome, costs) = metered(&stage, || bulk::run(stage.addr(), &load))?;
    outcome.report(&mut measured.report);
    if let Some(costs) = costs {
        costs.report(&mut measured.report);
        costs.report_bytes(&mut measured.report, outcome.up() + outcome.down());
    }
    measured.failed = outcome.failed() > 0;
    Ok(measured)
}

fn run_sessions(args: &Args, given: &Sessions) -> Result<Measured, Failure> {
    let load = SessionsLoad {
        binary: Binary::find(args.binary.as_deref())?,
        carrier: args.carrier(),
        count: given.count,
        tunnels: given.tunnels,
        at_once: given.at_once,
        checks: given.checks,
        threads: args.threads,
        server_threads: args.server_threads,
        max_handshakes: given.max_handshakes,
        rest: args.duration,
        ports: if given.ask_for_ports { Ports::Asked } else { Ports::Picked },
        restart: !given.no_restart,
        patience: args.patience,
    };
    let mut measured = Measured::default();
    measured.report.text("command", "sessions");
    measured.report.text("path", if args.plaintext { "plaintext" } else { "TLS" });
    let outcome = sessions::run(&load)?;
    outcome.report(&mut measured.report);
    measured.failed = !outcome.is_complete();
    Ok(measured)
}

fn run_http(args: &Args, http: &Http) -> Result<Measured, Failure> {
    let kind = match http.tunnel {
        Tunnel::Http => TunnelKind::Http,
        Tunnel::Tcp => TunnelKind::Tcp,
    };
    let place = args.place(kind, http.origin_http2)?;
    let stage = Stage::set(&place, http.answer.service())?;
    let mut measured = args.begin("http", &stage);
    let version = match http.http2 {
        true => HttpVersion::Two { streams: http.streams },
        false => HttpVersion::One,
    };
    measured.report.text("version", if http.http2 { "HTTP/2" } else { "HTTP/1.1" });
    measured.report.count("connections", http.repeated.connections as u64);
    measured.report.count("requests_at_once_on_each", http.streams as u64);
    let settings = HttpLoad {
        host: http.host.clone().unwrap_or_else(|| stage.host().to_owned()),
        path: http.path.clone(),
        version,
        load: args.load(&http.repeated),
    };
    let (outcome, costs) = metered(&stage, || http::run(stage.addr(), &settings))?;
    Ok(measured.with(&http.repeated, &outcome, "request", costs))
}

/// Does something, and says what server and client have spent on it.
fn metered<T>(
    stage: &Stage,
    run: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, Option<Costs>), Failure> {
    let Some(processes) = stage.processes() else { return Ok((run()?, None)) };
    let before = processes.costs()?;
    let outcome = run()?;
    Ok((outcome, Some(processes.costs()?.since(&before))))
}

/// Until the process is stopped.
#[expect(clippy::print_stdout, reason = "whoever starts an origin has to know where it listens")]
fn serve(origin: &Origin) -> ! {
    println!("{}", origin.addr());
    loop {
        std::thread::park();
    }
}

impl Args {
    /// What is measured, with a TCP tunnel.
    fn stage(&self, service: Service) -> Result<Stage, Failure> {
        Stage::set(&self.place(TunnelKind::Tcp, false)?, service)
    }

    fn place(&self, kind: TunnelKind, origin_http2: bool) -> Result<Place, Failure> {
        if let Some(target) = &self.target {
            return Ok(Place::Target(target.clone()));
        }
        if self.direct {
            return Ok(Place::Direct);
        }
        let binary = match self.processes || self.binary.is_some() {
            true => Some(Binary::find(self.binary.as_deref())?),
            false => None,
        };
        Ok(Place::Tunnel(Tunnelled {
            carrier: self.carrier(),
            kind,
            visitors: self.visitors.into(),
            origin_http2,
            server_threads: self.server_threads,
            binary,
        }))
    }

    fn carrier(&self) -> Carrier {
        if self.plaintext { Carrier::Plaintext } else { Carrier::Tls }
    }

    fn load(&self, repeated: &Repeated) -> Load {
        let rhythm = match repeated.rate {
            None => Rhythm::Closed,
            Some(per_second) => Rhythm::Open { per_second },
        };
        Load {
            threads: self.threads,
            connections: repeated.connections,
            warmup: repeated.warmup,
            duration: self.duration,
            rhythm,
            patience: self.patience,
        }
    }

    fn begin(&self, command: &str, stage: &Stage) -> Measured {
        let mut measured = Measured::default();
        measured.report.text("command", command);
        measured.report.text("path", stage.path());
        measured
    }
}

impl Measured {
    /// `unit` is what an exchange is called.
    fn with(
        mut self,
        repeated: &Repeated,
        outcome: &Outcome,
        unit: &str,
        costs: Option<Costs>,
    ) -> Self {
        if let Some(rate) = repeated.rate {
            self.report.count("asked_per_second", rate.get().into());
        }
        outcome.report(&mut self.report, &format!("{unit}s"));
        if let Some(costs) = costs {
            costs.report(&mut self.report);
            // What warmed up is among both.
            costs.report_each(&mut self.report, unit, outcome.answered as f64);
        }
        self.failed = outcome.failed + outcome.unanswered > 0;
        self
    }
}

impl Answer {
    fn service(&self) -> Service {
        Service::Http { size: self.size, delay: self.delay }
    }
}

impl OriginKind {
    fn service(self, answer: &Answer) -> Service {
        match self {
            Self::Echo => Service::Echo,
            Self::Sink => Service::Bulk(Direction::Up),
            Self::Source => Service::Bulk(Direction::Down),
            Self::Both => Service::Bulk(Direction::Both),
            Self::Http => answer.service(),
        }
    }
}

impl From<Visitors> for Streams {
    fn from(visitors: Visitors) -> Self {
        match visitors {
            Visitors::Multiplexed => Self::Multiplexed,
            Visitors::Direct => Self::Direct,
            Visitors::Auto => Self::Auto,
        }
    }
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Up => Self::Up,
            Way::Down => Self::Down,
            Way::Both => Self::Both,
        }
    }
}
