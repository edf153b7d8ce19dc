//! Visitors of TCP tunnels that behave.

use super::{Address, Visits};
use crate::dice::Dice;
use crate::exchange::{self, Greeting, Manner};

/// A short connection: a few words, each of which comes back before the next one is said.
pub(super) async fn echo(visits: &Visits, address: &Address, dice: &mut Dice) -> bool {
    let up = dice.below(ECHO);
    let greeting = greeting(visits, address, Manner::Echo, up, 0);
    let server = address.server.watch();
    let talk = async {
        let mut socket = visits.dial(address).await?;
        exchange::visit(&mut socket, &greeting, &visits.ledger).await?;
        leave(&socket, dice);
        Ok(())
    };
    visits.one("echo", address, &server, talk).await
}

/// Both directions at once, each with an end of its own.
pub(super) async fn streams(
    kind: &'static str,
    visits: &Visits,
    address: &Address,
    dice: &mut Dice,
    most: u64,
) -> bool {
    let greeting = greeting(visits, address, Manner::Streams, dice.below(most), dice.below(most));
    let server = address.server.watch();
    let talk = async {
        let mut socket = visits.dial(address).await?;
        exchange::visit(&mut socket, &greeting, &visits.ledger).await
    };
    visits.one(kind, address, &server, talk).await
}

pub(super) fn greeting(
    visits: &Visits,
    address: &Address,
    manner: Manner,
    up: u64,
    down: u64,
) -> Greeting {
    Greeting { tenant: address.tenant, manner, number: visits.number(), up, down }
}

/// All is said. Some leave by a reset all the same, as scanners and load balancers do.
fn leave(socket: &tokio::net::TcpStream, dice: &mut Dice) {
    if dice.below(4) == 0 {
        let _ = socket.set_zero_linger();
    }
}

/// Most echoes are one word, some are several.
const ECHO: u64 = 8 << 10;
