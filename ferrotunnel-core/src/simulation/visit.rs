//! A visitor, and the local service that it talks to: both know what they have to hear.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::content::Content;
use super::dice::Dice;
use super::wire::{Carried, Wire, pipe};
use crate::registry::{PassingDoor, Routes};
use crate::splice::Socket as _;
use crate::tcp_ingress::Visitor;
use crate::visitor_socket::VisitorSocket;

/// What everybody has seen that nobody may see, and who served whom.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    faults: Mutex<Vec<String>>,
    /// The client that each visit reached.
    served: Mutex<HashMap<u32, u32>>,
    visits: Mutex<Tally>,
}

/// What there was to see.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Visits amid the faults that came to their end.
    pub(super) whole: u64,
    /// Those that found nobody, broke, or were broken off.
    pub(super) broken: u64,
    /// Names that went from one client to another.
    pub(super) takeovers: u64,
    /// Visits that a server which was told to end has served to their end.
    pub(super) inside: u64,
    pub(super) carried: Carried,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.whole += other.whole;
        self.broken += other.broken;
        self.takeovers += other.takeovers;
        self.inside += other.inside;
        self.carried += other.carried;
    }
}

impl Ledger {
    pub(super) fn fault(&self, what: impl Display) {
        self.faults.lock().push(what.to_string());
    }

    pub(super) fn check(&self) {
        let faults = self.faults.lock();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    pub(super) fn count(&self, is_whole: bool) {
        let mut visits = self.visits.lock();
        *if is_whole { &mut visits.whole } else { &mut visits.broken } += 1;
    }

    pub(super) fn finished_inside(&self) {
        self.visits.lock().inside += 1;
    }

    pub(super) fn visits(&self) -> Tally {
        *self.visits.lock()
    }

    fn serve(&self, visit: u32, client: u32) {
        if let Some(before) = self.served.lock().insert(visit, client) {
            self.fault(format_args!("visit {visit} reached client {before} and client {client}"));
        }
    }
}

/// A question and its answer, both with the lengths that the visitor wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    tenant: u32,
    number: u32,
    question: Content,
    answer: Content,
}

impl Visit {
    pub(super) fn new(tenant: u32, number: u32, question: usize, answer: usize) -> Self {
        let question = Content::new(tenant, number, 0, question);
        Self { tenant, number, question, answer: Content::new(tenant, number, 1, answer) }
    }

    /// From the visitor's side: how it went. It ends early or goes slowly as the dice say.
    pub(super) async fn pay(
        self,
        door: Door,
        host: String,
        mut dice: Dice,
        manner: Manner,
        ledger: Arc<Ledger>,
    ) -> io::Result<u32> {
        let (visitor, nobody) = (self.addr(), SocketAddr::from(([127, 0, 0, 1], 1)));
        match door {
            Door::Http(routes) => {
                let tunnel = routes.http(&host, "/").map_err(|_| io::ErrorKind::NotFound)?;
                let stream = tunnel.open(visitor, nobody).map_err(io::Error::other)?;
                drop(tunnel);
                self.talk(stream, self.head(), dice, manner, &ledger).await
            }
            Door::Tls(door) => {
                let (mut outside, inside) = pipe(dice.split());
                // What was read of it to find out where it wants to go.
                let at = if dice.one_in(2) { HEAD_LEN } else { 0 };
                let mut words = Bytes::from(self.head());
                let rest = words.split_off(at);
                let socket = VisitorSocket::Simulated(inside);
                let (addr, ingress, place, arriving) = (visitor, nobody, None, None);
                let visitor = Visitor { socket, addr, ingress, place, words, arriving };
                door.admit(host.into(), visitor);
                drop(door);
                let served = self.talk(&mut outside, rest.into(), dice, manner, &ledger).await;
                if served.is_ok() {
                    outside.close_in_peace();
                }
                served
            }
        }
    }

    /// What is counted of it, once it is whole.
    pub(super) fn counted(self) -> Counted {
        Counted {
            streams: 1,
            bytes_in: (HEAD_LEN + self.question.len()) as u64,
            bytes_out: (GREETING_LEN + self.answer.len()) as u64,
        }
    }

    /// Nobody else comes from there.
    fn addr(self) -> SocketAddr {
        let [_, high, middle, low] = self.number.to_be_bytes();
        SocketAddr::from(([127, 1 + high, middle, low], 1))
    }

    fn head(self) -> Vec<u8> {
        let lengths = [self.question.len(), self.answer.len()].map(|len| len as u32);
        let [question, answer] = lengths;
        [self.tenant, self.number, question, answer].map(u32::to_be_bytes).concat()
    }

    /// `head` is what it has not said yet of what comes first.
    async fn talk(
        self,
        stream: impl AsyncRead + AsyncWrite,
        head: Vec<u8>,
        mut dice: Dice,
        manner: Manner,
        ledger: &Ledger,
    ) -> io::Result<u32> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut other = dice.split();
        let asking = async {
            writer.write_all(&head).await?;
            say(&mut writer, self.question, manner, &mut other).await?;
            writer.shutdown().await
        };
        let hearing = async {
            let (tenant, number) = (reader.read_u32().await?, reader.read_u32().await?);
            let client = reader.read_u32().await?;
            if (tenant, number) != (self.tenant, self.number) {
                ledger.fault(format_args!("{self:?} was answered by {tenant} to {number}"));
            }
            hear(&mut reader, self.answer, manner, &mut dice, ledger).await?;
            Ok(client)
        };
        tokio::try_join!(asking, hearing).map(|((), client)| client)
    }
}

/// Visits as servers and clients count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) streams: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.streams += other.streams;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// Where visitors come in.
pub(super) enum Door {
    /// They are given a stream.
    Http(Arc<dyn Routes>),
    /// They come over a connection, as by that of a TCP or TLS tunnel.
    Tls(PassingDoor),
}

/// How a visitor behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Straight,
    /// Waits now and then.
    Slow,
    /// The same, and says little at a time.
    Chatty,
    /// Leaves somewhere in between.
    Fickle,
}

/// The service of a client that dials it.
pub(super) async fn attend_dialled(
    mut guest: Wire,
    (tenant, client): (u32, u32),
    mut dice: Dice,
    ledger: Arc<Ledger>,
) -> io::Result<()> {
    let manner = if dice.one_in(2) { Manner::Chatty } else { Manner::Straight };
    attend(&mut guest, (tenant, client), manner, dice, ledger).await?;
    guest.close_in_peace();
    Ok(())
}

/// The service of a client.
pub(super) async fn attend(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    (tenant, client): (u32, u32),
    manner: Manner,
    mut dice: Dice,
    ledger: Arc<Ledger>,
) -> io::Result<()> {
    let (guest, number) = (stream.read_u32().await?, stream.read_u32().await?);
    let (question, answer) = (stream.read_u32().await?, stream.read_u32().await?);
    if guest != tenant {
        ledger.fault(format_args!("visit {number} of tenant {guest} reached tenant {tenant}"));
    }
    ledger.serve(number, client);
    let visit = Visit::new(tenant, number, question as usize, answer as usize);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut other = dice.split();
    let hearing = hear(&mut reader, visit.question, manner, &mut dice, &ledger);
    let answering = async {
        writer.write_all(&[tenant, number, client].map(u32::to_be_bytes).concat()).await?;
        say(&mut writer, visit.answer, manner, &mut other).await?;
        writer.shutdown().await
    };
    tokio::try_join!(hearing, answering).map(|_| ())
}

/// What a visitor says first: whose visit it is, and how much both have to say.
const HEAD_LEN: usize = 16;

/// What the service says first: whose visit it has heard of, and who serves it.
const GREETING_LEN: usize = 12;

async fn say(
    writer: &mut (impl AsyncWriteExt + Unpin),
    content: Content,
    manner: Manner,
    dice: &mut Dice,
) -> io::Result<()> {
    let mut at = 0;
    while at < content.len() {
        let most = if manner == Manner::Chatty { 1 << 11 } else { 1 << 15 };
        let count = dice.size(most).min(content.len() - at);
        writer.write_all(&content.bytes(at, count)).await?;
        at += count;
        manner.pause(dice).await?;
    }
    Ok(())
}

/// Hears all of it and its end. What breaks is the caller's to judge; what is wrong is nobody's.
async fn hear(
    reader: &mut (impl AsyncReadExt + Unpin),
    content: Content,
    manner: Manner,
    dice: &mut Dice,
    ledger: &Ledger,
) -> io::Result<()> {
    let (mut at, mut buffer) = (0, vec![0; 1 << 14]);
    loop {
        // What comes in small pieces is not to take for ever.
        let is_chatty = manner == Manner::Chatty;
        let room = if is_chatty { buffer.len() } else { dice.size(buffer.len()) };
        let count = reader.read(&mut buffer[..room]).await?;
        if count == 0 {
            break;
        }
        if let Some(at) = content.differs(at, &buffer[..count]) {
            ledger.fault(format_args!("{content:?} differs at {at}"));
            return Err(io::ErrorKind::InvalidData.into());
        }
        at += count;
        manner.pause(dice).await?;
    }
    if at < content.len() {
        ledger.fault(format_args!("{content:?} ended cleanly after {at} bytes"));
    }
    Ok(())
}

impl Manner {
    async fn pause(self, dice: &mut Dice) -> io::Result<()> {
        match self {
            Self::Slow | Self::Chatty if dice.one_in(4) => {
                tokio::time::sleep(dice.millis(400)).await;
            }
            Self::Fickle if dice.one_in(8) => return Err(io::ErrorKind::Interrupted.into()),
            _ => {}
        }
        Ok(())
    }
}
