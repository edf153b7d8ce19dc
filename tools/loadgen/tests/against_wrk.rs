//! The same work done by `wrk`. The origin takes its time over every answer, so that what is
//! compared is how both count, and not how fast a build of this tool is on a busy machine.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "a test that is skipped, or measures, says so")]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use ferrotunnel_loadgen::http::{self, HttpLoad, HttpVersion};
use ferrotunnel_loadgen::{Load, Origin, Rhythm, Service};

const CONNECTIONS: usize = 16;

fn origin() -> Origin {
    let service = Service::Http { size: 128, delay: Duration::from_millis(5) };
    Origin::start(service, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}

/// Requests per second and requests as `wrk` reports them; `None` if it is not installed.
fn wrk(addr: SocketAddr) -> Option<(f64, u64)> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{CONNECTIONS}"), "-d1s", &format!("http://{addr}/")]);
    let output = wrk.stdin(Stdio::null()).output().ok()?;
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // "  2718 requests in 1.00s, 512.00KB read" and "Requests/sec:   2699.01".
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let count = said.lines().find_map(|line| line.trim().split_once(" requests in "));
    Some((rate.unwrap().trim().parse().unwrap(), count.unwrap().0.parse().unwrap()))
}

#[test]
fn wrk_and_this_tool_agree() {
    let theirs_origin = origin();
    let Some((theirs, theirs_count)) = wrk(theirs_origin.addr()) else {
        println!("skipped: wrk is not installed");
        return;
    };
    // Answers that come after the end wrk does not count: one for each connection at most.
    let seen = theirs_origin.counters().requests();
    assert!((theirs_count..=theirs_count + CONNECTIONS as u64).contains(&seen), "wrk: {seen}");

    let origin = origin();
    let settings = HttpLoad {
        host: origin.addr().to_string(),
        path: "/".to_owned(),
        version: HttpVersion::One,
        load: Load {
            threads: 1,
            connections: CONNECTIONS,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            rhythm: Rhythm::Closed,
            patience: Duration::from_secs(30),
        },
    };
    let outcome = http::run(origin.addr(), &settings).unwrap();
    assert_eq!((outcome.failed, outcome.unanswered), (0, 0));
    assert_eq!(outcome.answered, origin.counters().requests());

    let ratio = outcome.per_second / theirs;
    println!("{:.0} requests per second, wrk {theirs:.0}: {ratio:.2}", outcome.per_second);
    assert!((0.5..2.0).contains(&ratio), "{ratio:.2} of what wrk measured");
}
