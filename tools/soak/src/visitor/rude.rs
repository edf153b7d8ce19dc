//! Visitors that leave as they like. What they get has to be right as far as it goes; that they
//! are missed by nobody is seen when all has come to rest.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use super::{Address, Visits, tcp};
use crate::dice::Dice;
use crate::exchange::{Manner, check_greeting};
use crate::fault::Fault;
use crate::pattern::{Pattern, Way};

/// One of them.
pub(super) async fn visit(visits: &Visits, address: &Address, dice: &mut Dice) -> bool {
    let server = address.server.watch();
    if address.host.is_empty() {
        let (up, down) = (dice.below(1 << 20), dice.between(1 << 20, 4 << 20));
        let greeting = tcp::greeting(visits, address, Manner::Rude, up, down);
        let talk = async {
            let mut socket = visits.dial(address).await?;
            match dice.below(4) {
                0 => drop(socket.set_zero_linger()),
                1 => send(&mut socket, &greeting.encode()).await?,
                2 => {
                    send(&mut socket, &greeting.encode()).await?;
                    let _ = socket.set_zero_linger();
                }
                _ => {
                    // Asks for much, takes little, and stays for a while without reading.
                    send(&mut socket, &greeting.encode()).await?;
                    check_greeting(&mut socket, &greeting).await?;
                    let mut some = [0; 1_000];
                    let read = socket.read_exact(&mut some).await;
                    read.map_err(|error| Fault::io("reading", &error))?;
                    let mut heard = Pattern::of(greeting.number, Way::Down);
                    heard.check(&some).map_err(|differs| Fault::differs("reading", differs))?;
                    sleep(Duration::from_millis(dice.below(STALL_MS))).await;
                    if dice.below(2) == 0 {
                        let _ = socket.set_zero_linger();
                    }
                }
            }
            Ok(())
        };
        visits.one("rude", address, &server, talk).await
    } else {
        let head = format!("GET /rude HTTP/1.1\r\nhost: {}\r\nx-half: ", address.host);
        let talk = async {
            let mut socket = visits.dial(address).await?;
            match dice.below(3) {
                0 => drop(socket.set_zero_linger()),
                1 => send(&mut socket, head.as_bytes()).await?,
                _ => {
                    send(&mut socket, head.as_bytes()).await?;
                    sleep(Duration::from_millis(dice.below(STALL_MS))).await;
                    let _ = socket.set_zero_linger();
                }
            }
            Ok(())
        };
        visits.one("rude over HTTP", address, &server, talk).await
    }
}

async fn send(socket: &mut tokio::net::TcpStream, bytes: &[u8]) -> Result<(), Fault> {
    socket.write_all(bytes).await.map_err(|error| Fault::io("writing", &error))
}

/// Long enough to fill every buffer on the way, short enough not to keep the others of the crew.
const STALL_MS: u64 = 2_000;
