//! What each kind of bad peer does to everybody else, beside each other in one table: how long somebody of another session
//! waits for an answer with and without it, and what the server's memory grows by.
//!
//! Server, the good client and the bad peer are processes. The server has one half of the processors to itself, and the
//! bad peer runs on the other only while nobody else does: it is to cost the server something, and not those who wait,
//! since it has a machine of its own elsewhere. How much it gets done each second is in the table: an attack that does not
//! get to run proves nothing. `busy` is one that leaves the server alone, so what its row shows is none of the server's. Nor is
//! what `doorman` shows: as many visitors come to a program beside the server that does nothing but reset them, so what
//! others wait for is the kernel and this machine. `of it` compares each peer with the one of the two that it is like.
//! The peer is halted and let go on in turns, so that whatever else this machine does is in both of what is compared.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool that stops at the first surprise, and says where it is"
)]

mod attack;
mod pings;
mod processors;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use ferrotunnel_loadgen::value::duration;
use ferrotunnel_loadgen::{Binary, Carrier, Process, ServerSettings};
use ferrotunnel_tests::memory::{self, peak_of, resident_bytes, restart_peak_of};
use ferrotunnel_tests::{LocalService, TOKEN, public_addr};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use attack::Attack;
use pings::{Pings, Waits};
use processors::Half;

/// Let each kind of bad peer loose on a server and see what others notice of it.
#[derive(Debug, Parser)]
#[command(name = "ferrotunnel-hostile", version)]
struct Args {
    /// How long it is measured with each, and as long without
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    window: Duration,
    /// Only those
    #[arg(value_enum)]
    attacks: Vec<Attack>,
    /// Be the bad peer
    #[arg(long, hide = true, value_name = "SERVER")]
    at: Option<SocketAddr>,
    /// Be the program beside the server
    #[arg(long, hide = true)]
    door: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    ferrotunnel_loadgen::allow_many_files();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let current_thread =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match (args.at, args.attacks.as_slice()) {
        _ if args.door => current_thread().block_on(attack::keep_door()),
        (Some(server), [attack]) => runtime().block_on(attack.go_on(server)),
        _ => {
            // Before there are any threads.
            processors::keep(Half::Others);
            runtime().block_on(compare(&args))
        }
    }
}

/// A server on processors of its own. From here on this process, and those that it starts, have the others.
fn serve(binary: &Binary) -> (Process, SocketAddr) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let more = ["--token", TOKEN, "--max-receive-memory", &format!("{BUDGET_MIB}MiB")];
    let settings = ServerSettings {
        bind: any,
        http_bind: any,
        carrier: Carrier::Tls,
        threads: processors::keep(Half::Server),
        more: more.map(str::to_owned).to_vec(),
        patience: Duration::from_secs(20),
    };
    let (server, addr, _) = binary.server(&settings).unwrap();
    processors::keep(Half::Others);
    (server, addr)
}

async fn compare(args: &Args) -> ExitCode {
    let binary = Binary::find(None).unwrap();
    let echo = LocalService::echo().await;
    println!(
        "receive budget {BUDGET_MIB} MiB; waits in µs, of {} visitors of another session",
        pings::VISITORS
    );
    println!(
        "{:<16} {:>7} {:>8} {:>7} {:>8} {:>6} {:>7} {:>10} {:>8} {:>8}",
        "peer",
        "p50",
        "p50 with",
        "p99",
        "p99 with",
        "times",
        "of it",
        "done/s",
        "RSS MiB",
        "peak MiB"
    );
    let chosen = if args.attacks.is_empty() { Attack::ALL } else { &args.attacks };
    let (mut is_well, mut known) = (true, HashMap::new());
    for attack in chosen {
        // A server of its own: what one peer is still waited for is not to keep the next from its work.
        let (server, addr) = serve(&binary);
        let local = echo.addr().to_string();
        let arguments = ["tcp", &local, "--streams", "multiplexed", "--token", TOKEN];
        let (_client, url) = binary.client(addr, Carrier::Tls, arguments).unwrap();
        let pings = Pings::through(public_addr(&url)).await;
        pings.within(SETTLING).await;
        is_well &= one(*attack, args.window, addr, &pings, &server, &mut known).await;
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether others got what they are promised. `known` is how many times longer they wait with each peer so far.
async fn one(
    attack: Attack,
    window: Duration,
    server: SocketAddr,
    pings: &Pings,
    process: &Process,
    known: &mut HashMap<Attack, f64>,
) -> bool {
    let id = memory::Process::Id(process.id());
    restart_peak_of(id);
    let rss = resident_bytes(id).unwrap_or_default();
    let done = Arc::new(AtomicU64::new(0));
    let (during, without) = {
        let mut bad = Command::new("chrt");
        bad.args(["--idle", "0"]).arg(std::env::current_exe().unwrap());
        let door = if attack == Attack::Doorman { Some(keep_door().await) } else { None };
        let target = door.as_ref().map_or(server, |(_, addr)| *addr);
        bad.arg(attack.to_string()).args(["--at", &target.to_string()]);
        bad.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut bad = bad.spawn().unwrap();
        let mut words = BufReader::new(bad.stdout.take().unwrap()).lines();
        assert_eq!(
            words.next_line().await.unwrap().as_deref(),
            Some(attack::UNDER_WAY),
            "{attack}"
        );
        let number = bad.id().unwrap().to_string();
        let tell = Arc::clone(&done);
        let listening = tokio::spawn(async move {
            while let Ok(Some(count)) = words.next_line().await {
                tell.store(count.parse().unwrap(), Ordering::Relaxed);
            }
        });
        let (mut during, mut without) = (Waits::default(), Waits::default());
        for _ in 0..TURNS {
            pings.within(TURN_ROUND).await;
            during = during.and(pings.within(window / TURNS).await);
            signal("STOP", &number).await;
            pings.within(TURN_ROUND).await;
            without = without.and(pings.within(window / TURNS).await);
            signal("CONT", &number).await;
        }
        assert!(bad.try_wait().unwrap().is_none(), "{attack} has ended");
        bad.kill().await.unwrap();
        listening.await.unwrap();
        (during, without)
    };
    let peak = peak_of(id).unwrap_or_default();
    let times = during.part(99).as_secs_f64() / without.part(99).as_secs_f64();
    let without_us = known.get(&attack.without_us()).copied();
    known.insert(attack, times);
    let of_it = without_us.map_or_else(|| "-".to_owned(), |it| format!("{:.2}", times / it));
    let going = TURN_ROUND * TURNS + window;
    let per_second = done.load(Ordering::Relaxed) as f64 / going.as_secs_f64();
    let micros = |waits: &Waits, percent| waits.part(percent).as_micros();
    println!(
        "{:<16} {:>7} {:>8} {:>7} {:>8} {times:>6.2} {of_it:>7} {per_second:>10.0} {:>8.1} {:>8.1}",
        attack.to_string(),
        micros(&without, 50),
        micros(&during, 50),
        micros(&without, 99),
        micros(&during, 99),
        mib(rss),
        mib(peak),
    );
    let most = MOST_TIMES * without_us.unwrap_or(1.0).clamp(1.0, MOST_WITHOUT_US);
    // What others wait where it is left alone is not the server's.
    (attack.leaves_server_alone() || times <= most) && peak < (BUDGET_MIB + SLACK_MIB) << 20
}

/// The program beside the server, on the server's processors.
async fn keep_door() -> (Child, SocketAddr) {
    processors::keep(Half::Server);
    let mut door = Command::new(std::env::current_exe().unwrap());
    door.arg("--door").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut door = door.spawn().unwrap();
    processors::keep(Half::Others);
    let mut words = BufReader::new(door.stdout.take().unwrap()).lines();
    let addr = words.next_line().await.unwrap().unwrap().parse().unwrap();
    (door, addr)
}

async fn signal(name: &str, process: &str) {
    let sent = Command::new("kill").args(["-s", name, process]).status().await.unwrap();
    assert!(sent.success(), "{name}");
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Longer than what others wait at worst without a bad peer, or with the one like it that leaves the server alone.
const MOST_TIMES: f64 = 2.0;

/// What is not ours of that: more shows that this machine was too busy to tell anything.
const MOST_WITHOUT_US: f64 = 4.0;

const BUDGET_MIB: u64 = 64;

/// For what is not data on its way: sessions, sockets, stacks, the program itself.
const SLACK_MIB: u64 = 64;

/// Until the visitors are used to each other.
const SETTLING: Duration = Duration::from_secs(1);

/// Of the bad peer in a window, and as many without it: few enough that dead peers are not noticed.
const TURNS: u32 = 10;

/// For what was said before to be over.
const TURN_ROUND: Duration = Duration::from_millis(50);
