//! What servers and clients hold at a moment, as Linux and they themselves tell.

use std::sync::Arc;

use ferrotunnel_loadgen::Usage;
use tokio::task::block_in_place;

use crate::world::World;

/// What one process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) usage: Usage,
    /// Where it answers.
    pub(crate) tasks: Option<u64>,
}

/// Of one process, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) resident: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    pub(crate) tasks: u64,
    pub(crate) processes: u64,
    /// Those of them that live and do not answer.
    pub(crate) mute: u64,
}

impl Level {
    fn of(holdings: impl IntoIterator<Item = Holding>) -> Self {
        holdings.into_iter().fold(Self::default(), |sum, Holding { usage, tasks }| Self {
            resident: sum.resident + usage.resident,
            descriptors: sum.descriptors + usage.descriptors,
            threads: sum.threads + usage.threads,
            tasks: sum.tasks + tasks.unwrap_or_default(),
            processes: sum.processes + 1,
            mute: sum.mute + u64::from(tasks.is_none()),
        })
    }
}

/// Each server, then all clients together. On a runtime of several threads: one of them waits.
pub(crate) fn levels(worlds: &[Arc<World>]) -> Vec<(String, Level)> {
    block_in_place(|| {
        let server = |world: &Arc<World>| {
            (format!("server {}", world.name), Level::of(world.held_by_server()))
        };
        let clients = worlds.iter().flat_map(|world| world.held_by_clients());
        let clients = ("clients".to_owned(), Level::of(clients));
        worlds.iter().map(server).chain([clients]).collect()
    })
}
