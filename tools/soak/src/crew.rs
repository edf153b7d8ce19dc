//! Visitors that come again and again.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::origin::Speaks;
use crate::visitor::{Address, Kind, Visits};
use crate::world::{Trade, World};

/// Visitors, until they are sent home.
#[derive(Debug)]
pub(crate) struct Crew {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// Where each kind of visit can go.
#[derive(Debug)]
struct Map {
    tcp: Vec<Arc<Address>>,
    http: Vec<Arc<Address>>,
    websocket: Vec<Arc<Address>>,
}

impl Crew {
    /// So many visitors at once, and so many long streams.
    pub(crate) fn start(
        worlds: &[Arc<World>],
        visits: &Arc<Visits>,
        visitors: usize,
        long: usize,
        seed: u64,
    ) -> Self {
        let of = |suits: &dyn Fn(Trade) -> bool| {
            let tenants = worlds.iter().flat_map(|world| &world.tenants);
            let suiting = tenants.filter(|tenant| suits(tenant.trade));
            suiting.map(|tenant| Arc::clone(&tenant.address)).collect()
        };
        let map = Arc::new(Map {
            tcp: of(&|trade| trade.speaks() == Speaks::Bytes),
            http: of(&|trade| trade.speaks() == Speaks::Http),
            // HTTP/2 knows no Upgrade.
            websocket: of(&|trade| trade == Trade::Http),
        });
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = JoinSet::new();
        for number in 0..visitors + long {
            let (map, visits, stop) = (Arc::clone(&map), Arc::clone(visits), Arc::clone(&stop));
            let dice = Dice::of_one(seed, number as u64);
            tasks.spawn(come_again(map, visits, stop, dice, number < long));
        }
        Self { stop, tasks }
    }

    /// Waits for the last visit.
    pub(crate) async fn go_home(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(left) = self.tasks.join_next().await {
            // A soak whose own parts break has shown nothing.
            if let Err(error) = left
                && error.is_panic()
            {
                resume_unwind(error.into_panic());
            }
        }
    }
}

async fn come_again(
    map: Arc<Map>,
    visits: Arc<Visits>,
    stop: Arc<AtomicBool>,
    mut dice: Dice,
    long: bool,
) {
    while !stop.load(Ordering::Relaxed) {
        let kind = if long { Kind::Long } else { choose(&mut dice) };
        let addresses = match kind {
            Kind::Echo | Kind::Exchange | Kind::Long => &map.tcp,
            Kind::OneRequest | Kind::KeepAlive | Kind::Http2 => &map.http,
            Kind::WebSocket => &map.websocket,
            Kind::Rude if dice.below(4) == 0 => &map.http,
            Kind::Rude => &map.tcp,
        };
        let Some(address) = dice.one_of(addresses).cloned() else { return };
        let went_well = Box::pin(visits.visit(kind, &address, &mut dice)).await;
        if long {
            sleep(BETWEEN_LONG).await;
        } else if !went_well {
            sleep(AFTER_A_FAULT).await;
        }
    }
}

/// Most are short; every kind comes up within a hundred.
fn choose(dice: &mut Dice) -> Kind {
    match dice.below(100) {
        0..70 => Kind::Echo,
        70..76 => Kind::Exchange,
        76..86 => Kind::OneRequest,
        86..91 => Kind::KeepAlive,
        91..94 => Kind::Http2,
        94..97 => Kind::WebSocket,
        _ => Kind::Rude,
    }
}

/// Long streams would otherwise take all of a small machine.
const BETWEEN_LONG: Duration = Duration::from_millis(500);

/// Whoever refuses connections is not asked a million times a second.
const AFTER_A_FAULT: Duration = Duration::from_millis(20);
