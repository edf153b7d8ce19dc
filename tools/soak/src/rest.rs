//! Whether anything is left behind when all has come to rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::levels::{Level, levels};
use crate::world::World;

/// Waits until no visitor is at any local service and no descriptor comes or goes any more.
pub(crate) async fn settle(worlds: &[Arc<World>]) -> Result<Vec<(String, Level)>, Vec<String>> {
    let end = Instant::now() + PATIENCE;
    let mut still_since = Instant::now();
    let mut before = levels(worlds);
    loop {
        sleep(LOOK_EVERY).await;
        let now = levels(worlds);
        let open = at_services(worlds);
        let same = before.iter().zip(&now).all(|(a, b)| a.1.descriptors == b.1.descriptors);
        if !open.is_empty() || !same {
            still_since = Instant::now();
        }
        if still_since.elapsed() >= STILL {
            return Ok(now);
        }
        if Instant::now() > end {
            let restless = before.iter().zip(&now).filter(|(a, b)| a.1 != b.1);
            let restless = restless.map(|(a, b)| format!("no rest: {a:?}, then {b:?}"));
            return Err(open.into_iter().chain(restless).collect());
        }
        before = now;
    }
}

/// Streams that are still open, as the local services see them.
fn at_services(worlds: &[Arc<World>]) -> Vec<String> {
    let tenants = worlds.iter().flat_map(|world| &world.tenants);
    let open = tenants.map(|tenant| (&tenant.address.name, tenant.origin.open()));
    let open = open.filter(|(_, open)| *open > 0);
    open.map(|(name, open)| format!("{open} connections to the local service of {name}")).collect()
}

/// Waits until all are back at the level of before, by the bounds below, and says who is not.
pub(crate) async fn back_at(
    worlds: &[Arc<World>],
    before: &[(String, Level)],
) -> Result<Vec<(String, Level)>, Vec<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = levels(worlds);
        let above = at_services(worlds).into_iter().chain(
            before.iter().zip(&now).flat_map(|((name, before), (_, now))| over(name, before, now)),
        );
        let above: Vec<_> = above.collect();
        if above.is_empty() {
            return Ok(now);
        }
        if Instant::now() > end {
            return Err(above);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until the servers have as many descriptors and tasks as when nobody had come yet: then no session is
/// left, and nothing of one.
pub(crate) async fn empty_as(worlds: &[Arc<World>], empty: &[(String, Level)]) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = levels(worlds);
        // Clients had not come yet, and have gone.
        let there = empty.iter().zip(&now).filter(|(empty, _)| empty.1.processes > 0);
        let left: Vec<_> =
            there.flat_map(|((name, empty), (_, now))| left(name, empty, now)).collect();
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What a server has that it did not have before anybody came.
fn left(name: &str, empty: &Level, now: &Level) -> Vec<String> {
    let held =
        [("descriptors", empty.descriptors, now.descriptors), ("tasks", empty.tasks, now.tasks)];
    let more = held.into_iter().filter(|(_, empty, now)| now > empty);
    let tell = |(what, empty, now)| {
        let more: u64 = now - empty;
        format!("{name}: {more} {what} are left after all clients went")
    };
    more.map(tell).chain(missing(name, empty, now)).collect()
}

/// Who is not there, or there and does not say what it holds.
fn missing(name: &str, before: &Level, now: &Level) -> impl Iterator<Item = String> {
    let gone = (now.processes != before.processes)
        .then(|| format!("{name}: {} processes, before {}", now.processes, before.processes));
    let mute = (now.mute > 0)
        .then(|| format!("{name}: {} processes do not answer at their admin interface", now.mute));
    gone.into_iter().chain(mute)
}

/// What is more than it may be.
fn over(name: &str, before: &Level, now: &Level) -> Vec<String> {
    let mut over: Vec<_> = missing(name, before, now).collect();
    let slack = CARRIERS * before.processes;
    for (what, before, now) in
        [("descriptors", before.descriptors, now.descriptors), ("tasks", before.tasks, now.tasks)]
    {
        if now > before + slack {
            over.push(format!("{name}: {now} {what}, before {before}, allowed {slack} more"));
        }
    }
    if now.threads > before.threads + THREADS * before.processes {
        over.push(format!("{name}: {} threads, before {}", now.threads, before.threads));
    }
    let most = before.resident + before.resident / 4 + RESIDENT * before.processes;
    if now.resident > most {
        let [now, before, most] = [now.resident, before.resident, most].map(|it| it >> 20);
        over.push(format!("{name}: {now} MiB in memory, before {before}, allowed {most}"));
    }
    over
}

/// More descriptors and tasks at rest, for each process. A client that was asked for direct streams keeps 4
/// carriers waiting, and after a rush up to 32, until visitors take them; each is one here and one
/// there. What is lost with one visitor of thousands is more.
const CARRIERS: u64 = 32;

/// More threads at rest, for each process: one that looks up names goes after ten seconds.
const THREADS: u64 = 1;

/// More memory at rest, for each process, beside a quarter of what there was: the allocator keeps
/// what it will need again. A thousand connections that are never given back hold more.
const RESIDENT: u64 = 8 << 20;

/// Connections that are kept between requests go after four seconds, and TIME_WAIT holds nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// So long nothing has moved when it rests: two looks of whoever keeps something for a second.
const STILL: Duration = Duration::from_secs(2);

const LOOK_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Level =
        Level { resident: 20 << 20, descriptors: 30, threads: 2, tasks: 20, processes: 1, mute: 0 };

    #[test]
    fn what_is_within_the_bounds_is_no_leak() {
        assert!(over("server", &BEFORE, &BEFORE).is_empty());
        let more = Level { resident: 33 << 20, descriptors: 62, threads: 3, tasks: 52, ..BEFORE };
        assert!(over("server", &BEFORE, &more).is_empty());
    }

    #[test]
    fn a_server_that_nobody_is_at_has_nothing_more() {
        assert!(left("server", &BEFORE, &BEFORE).is_empty());
        let one = left("server tls", &BEFORE, &Level { tasks: 21, ..BEFORE });
        assert_eq!(one, ["server tls: 1 tasks are left after all clients went"]);
        let both = Level { tasks: 21, descriptors: 31, ..BEFORE };
        assert_eq!(left("server tls", &BEFORE, &both).len(), 2);
        assert_eq!(left("server tls", &BEFORE, &Level { tasks: 0, mute: 1, ..BEFORE }).len(), 1);
        assert_eq!(left("server tls", &BEFORE, &Level::default()).len(), 1);
    }

    #[test]
    fn each_leak_is_told_with_its_name() {
        for (now, what) in [
            (Level { resident: 34 << 20, ..BEFORE }, "memory"),
            (Level { descriptors: 63, ..BEFORE }, "descriptors"),
            (Level { threads: 4, ..BEFORE }, "threads"),
            (Level { tasks: 53, ..BEFORE }, "tasks"),
            (Level { processes: 0, ..BEFORE }, "processes"),
            (Level { tasks: 0, mute: 1, ..BEFORE }, "do not answer"),
        ] {
            let over = over("server tls", &BEFORE, &now);
            assert_eq!(over.len(), 1, "{over:?}");
            assert!(over[0].contains(what) && over[0].contains("server tls"), "{over:?}");
        }
    }
}
