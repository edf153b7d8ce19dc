//! Visitors that speak WebSocket: every message comes back.

use std::sync::atomic::Ordering;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::http::{NUMBER, TENANT, number_in};
use super::{Address, Visits};
use crate::dice::Dice;
use crate::fault::Fault;
use crate::pattern::{Pattern, Way};

pub(super) async fn visit(visits: &Visits, address: &Address, dice: &mut Dice) -> bool {
    let server = address.server.watch();
    let number = visits.number();
    let talk = async {
        let broken = |what| move |error| fault(what, error);
        let socket = visits.dial(address).await?;
        let uri = format!("ws://{}/ws", address.host);
        let mut request = uri.into_client_request().map_err(broken("at the request"))?;
        let headers = request.headers_mut();
        headers.insert(TENANT, address.tenant.into());
        headers.insert(NUMBER, number.into());
        let (mut socket, answer) =
            client_async(request, socket).await.map_err(broken("at the handshake"))?;
        if number_in(answer.headers(), TENANT) != Some(address.tenant.into())
            || number_in(answer.headers(), NUMBER) != Some(number)
        {
            return Err(Fault::Wrong("the handshake of somebody else".to_owned()));
        }
        let mut said = Pattern::of(number, Way::Up);
        let mut heard = said.clone();
        for _ in 0..dice.between(1, 20) {
            let message = said.next(dice.between(1, MESSAGE));
            let length = message.len();
            socket.send(Message::Binary(message)).await.map_err(broken("sending"))?;
            let echo = match socket.next().await {
                Some(echo) => echo.map_err(broken("receiving"))?,
                None => return Err(Fault::Broken("it ended".to_owned(), "receiving")),
            };
            let echo = echo.into_data();
            heard.check(&echo).map_err(|differs| Fault::differs("in a message", differs))?;
            if echo.len() != length {
                return Err(Fault::Wrong("a message was cut or joined".to_owned()));
            }
            visits.ledger.bytes.fetch_add(length as u64, Ordering::Relaxed);
            visits.ledger.requests.fetch_add(1, Ordering::Relaxed);
        }
        socket.close(None).await.map_err(broken("closing"))?;
        while let Some(rest) = socket.next().await {
            rest.map_err(broken("closing"))?;
        }
        Ok(())
    };
    visits.one("WebSocket", address, &server, talk).await
}

fn fault(what: &'static str, error: Error) -> Fault {
    match error {
        Error::Http(response) => match super::http::own_answer(&response) {
            Err(refused) => refused,
            Ok(()) => Fault::Broken(format!("status {}", response.status()), what),
        },
        Error::Io(error) => Fault::Broken(error.kind().to_string(), what),
        error => Fault::Broken(error.to_string(), what),
    }
}

/// Bytes of a message, below that: less than one frame of the tunnel, and more than one.
const MESSAGE: u64 = 100_000;
