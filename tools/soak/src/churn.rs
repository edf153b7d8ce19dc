//! Who kills, and when. One thread for each world, which does one thing after the other: while it
//! waits for somebody's return nobody else of that world is killed, so what is heard of a return is
//! never from before.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ferrotunnel_loadgen::Failure;

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::world::{Tenant, World, pause};

/// How often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    /// Between two kills of clients, on average.
    pub(crate) clients: Duration,
    /// Between two kills of the server.
    pub(crate) server: Duration,
}

/// Kills until it is dropped or stopped.
#[derive(Debug)]
pub(crate) struct Churn {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Churn {
    pub(crate) fn start(
        world: Arc<World>,
        rhythm: Rhythm,
        mut dice: Dice,
        ledger: Arc<Ledger>,
    ) -> Result<Self, Failure> {
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            let mut server_next = Instant::now() + rhythm.server;
            loop {
                let pause = rhythm.clients.mul_f64(dice.between(50, 150) as f64 / 100.0);
                match stopped.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
                world.look_around();
                let done = if world.server_is_killed && Instant::now() >= server_next {
                    server_next = Instant::now() + rhythm.server;
                    kill_server(&world, &mut dice)
                } else {
                    churn_clients(&world, &mut dice)
                };
                if let Err(failure) = done {
                    return ledger.forbid(format!("{}: no return: {failure}", world.name));
                }
            }
        };
        let thread = thread::Builder::new().name("churn".to_owned()).spawn(run);
        Ok(Self { stop: Some(stop), thread: Some(thread.map_err(Failure::Thread)?) })
    }

    /// Whether it has given up.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// Waits until everybody is there again.
impl Drop for Churn {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A soak whose own parts break has shown nothing.
            if let Err(panic) = thread.join()
                && !thread::panicking()
            {
                resume_unwind(panic);
            }
        }
    }
}

/// Kills the server, sometimes together with clients, and starts it again.
fn kill_server(world: &World, dice: &mut Dice) -> Result<(), Failure> {
    world.kill_server();
    let killed = match dice.below(3) {
        0 => some(world, dice),
        _ => Vec::new(),
    };
    for tenant in &killed {
        world.kill_client(tenant);
    }
    pause(Duration::from_millis(dice.below(1_500)));
    world.start_server()?;
    for tenant in &world.tenants {
        if killed.iter().any(|killed| killed.address.tenant == tenant.address.tenant) {
            world.start_client(tenant)?;
        } else {
            world.await_return(tenant)?;
        }
    }
    Ok(())
}

fn churn_clients(world: &World, dice: &mut Dice) -> Result<(), Failure> {
    let chosen = some(world, dice);
    match dice.below(8) {
        0 => {
            for tenant in chosen {
                world.dismiss_client(tenant);
                world.start_client(tenant)?;
            }
        }
        1 => {
            for tenant in chosen {
                world.relieve_client(tenant)?;
            }
        }
        way => {
            for tenant in &chosen {
                world.kill_client(tenant);
            }
            if way == 2 {
                // Gone for good, as far as visitors can tell.
                pause(Duration::from_millis(dice.below(2_000)));
            }
            for tenant in chosen {
                world.start_client(tenant)?;
            }
        }
    }
    Ok(())
}

/// One to three tenants.
fn some<'a>(world: &'a World, dice: &mut Dice) -> Vec<&'a Tenant> {
    let count = dice.between(1, 4).min(world.tenants.len() as u64) as usize;
    let first = dice.below(world.tenants.len() as u64) as usize;
    world.tenants.iter().cycle().skip(first).take(count).collect()
}
