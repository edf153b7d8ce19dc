//! From arguments to a result.

use ferrotunnel::TunnelKind;
use ferrotunnel_loadgen::bulk::{self, BulkLoad, Direction};
use ferrotunnel_loadgen::connect::{self, Farewell};
use ferrotunnel_loadgen::http::{self, HttpLoad, HttpVersion};
use ferrotunnel_loadgen::{
    Carrier, Failure, Load, Origin, Outcome, Place, Report, Rhythm, Service, Stage, Tunnelled,
    idle, pingpong,
};

use crate::args::{Answer, Args, Command, Http, OriginKind, Repeated, Tunnel, Way};

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
            let outcome = pingpong::run(stage.addr(), *size, &args.load(repeated))?;
            Ok(measured.with(repeated, &outcome, "messages"))
        }
        Command::Connect { repeated, reset } => {
            let stage = args.stage(Service::Echo)?;
            let mut measured = args.begin("connect", &stage);
            measured.report.count("at_once", repeated.connections as u64);
            let farewell = if *reset { Farewell::Reset } else { Farewell::Orderly };
            let outcome = connect::run(stage.addr(), farewell, &args.load(repeated))?;
            Ok(measured.with(repeated, &outcome, "connections"))
        }
        Command::Idle { streams, at_once } => {
            let stage = args.stage(Service::Echo)?;
            let mut measured = args.begin("idle", &stage);
            measured.report.count("streams", *streams as u64);
            let outcome = idle::run(stage.addr(), *streams, *at_once, args.duration)?;
            outcome.report(&mut measured.report);
            measured.failed = outcome.alive < *streams;
            Ok(measured)
        }
        Command::Http(http) => run_http(args, http),
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
    let outcome = bulk::run(stage.addr(), &load)?;
    outcome.report(&mut measured.report);
    measured.failed = outcome.failed() > 0;
    Ok(measured)
}

fn run_http(args: &Args, http: &Http) -> Result<Measured, Failure> {
    let kind = match http.tunnel {
        Tunnel::Http => TunnelKind::Http,
        Tunnel::Tcp => TunnelKind::Tcp,
    };
    let place = args.place(kind, http.origin_http2);
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
    let outcome = http::run(stage.addr(), &settings)?;
    Ok(measured.with(&http.repeated, &outcome, "requests"))
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
        Stage::set(&self.place(TunnelKind::Tcp, false), service)
    }

    fn place(&self, kind: TunnelKind, origin_http2: bool) -> Place {
        if let Some(target) = &self.target {
            return Place::Target(target.clone());
        }
        if self.direct {
            return Place::Direct;
        }
        let carrier = if self.plaintext { Carrier::Plaintext } else { Carrier::Tls };
        let server_threads = self.server_threads;
        Place::Tunnel(Tunnelled { carrier, kind, origin_http2, server_threads })
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
    fn with(mut self, repeated: &Repeated, outcome: &Outcome, unit: &str) -> Self {
        if let Some(rate) = repeated.rate {
            self.report.count("asked_per_second", rate.get().into());
        }
        outcome.report(&mut self.report, unit);
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

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Up => Self::Up,
            Way::Down => Self::Down,
            Way::Both => Self::Both,
        }
    }
}
