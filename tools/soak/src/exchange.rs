//! What is said over TCP: both ends say who they mean, then bytes that each end knows, then an end.
//!
//! ```text
//! visitor -> service   greeting: magic, tenant, flags, number, up, down    40 bytes
//!                      `up` bytes of the pattern of that number, FIN
//! service -> visitor   greeting, with its own tenant                       40 bytes
//!                      `down` bytes; or, asked for an echo, what it gets
//!                      after the visitor's FIN: how many bytes it got      8 bytes, FIN
//! ```

use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::pattern::{Pattern, Way};

/// What a visitor wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Whose service the visitor means.
    pub(crate) tenant: u32,
    pub(crate) manner: Manner,
    /// Of the conversation; no two have the same.
    pub(crate) number: u64,
    /// Bytes that the visitor will send.
    pub(crate) up: u64,
    /// Bytes that it wants.
    pub(crate) down: u64,
}

/// How the conversation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Both directions at once.
    Streams,
    /// What came goes back.
    Echo,
    /// The visitor will leave when it likes, perhaps in an orderly way.
    Rude,
}

impl Greeting {
    pub(crate) fn encode(&self) -> [u8; LEN] {
        let manner = match self.manner {
            Manner::Streams => 0u32,
            Manner::Echo => 1,
            Manner::Rude => 2,
        };
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.tenant.to_be_bytes());
        bytes[12..16].copy_from_slice(&manner.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.up.to_be_bytes());
        bytes[32..].copy_from_slice(&self.down.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; LEN]) -> Result<Self, Fault> {
        let (words, _) = bytes.as_chunks::<8>();
        let [magic, who, number, up, down] = words else { return Err(no_greeting()) };
        let [a, b, c, d, e, f, g, h] = *who;
        let manner = match u32::from_be_bytes([e, f, g, h]) {
            0 => Manner::Streams,
            1 => Manner::Echo,
            2 => Manner::Rude,
            _ => return Err(no_greeting()),
        };
        if magic != MAGIC {
            return Err(no_greeting());
        }
        let [number, up, down] = [number, up, down].map(|word| u64::from_be_bytes(*word));
        Ok(Self { tenant: u32::from_be_bytes([a, b, c, d]), manner, number, up, down })
    }

    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self, Fault> {
        let mut bytes = [0; LEN];
        from.read_exact(&mut bytes).await.map_err(|error| Fault::io("at the greeting", &error))?;
        Self::decode(&bytes)
    }
}

fn no_greeting() -> Fault {
    Fault::Wrong("what came is no greeting".to_owned())
}

/// The visitor's part of a conversation that is to go to its end.
pub(crate) async fn visit(
    socket: &mut TcpStream,
    greeting: &Greeting,
    ledger: &Ledger,
) -> Result<(), Fault> {
    let (mut read, mut write) = socket.split();
    let mut said = Pattern::of(greeting.number, Way::Up);
    match greeting.manner {
        Manner::Echo => {
            write_all(&mut write, &greeting.encode()).await?;
            check_greeting(&mut read, greeting).await?;
            let mut heard = said.clone();
            while said.position() < greeting.up {
                let word = said.next((greeting.up - said.position()).min(ECHO_WORD));
                write_all(&mut write, &word).await?;
                hear(&mut read, &mut heard, word.len() as u64, ledger).await?;
            }
            write.shutdown().await.map_err(|error| Fault::io("at our end", &error))?;
        }
        Manner::Streams | Manner::Rude => {
            let speak = async {
                write_all(&mut write, &greeting.encode()).await?;
                send(&mut write, &mut said, greeting.up).await?;
                write.shutdown().await.map_err(|error| Fault::io("at our end", &error))
            };
            let listen = async {
                check_greeting(&mut read, greeting).await?;
                let mut heard = Pattern::of(greeting.number, Way::Down);
                hear(&mut read, &mut heard, greeting.down, ledger).await
            };
            tokio::try_join!(speak, listen)?;
        }
    }
    let arrived = read.read_u64().await.map_err(|error| Fault::io("at the receipt", &error))?;
    if arrived != greeting.up {
        return Err(Fault::Wrong("the service says it got another number of bytes".to_owned()));
    }
    match read.read(&mut [0; 16]).await {
        Ok(0) => Ok(()),
        Ok(_) => Err(Fault::Wrong("bytes after the last one".to_owned())),
        Err(error) => Err(Fault::io("at the end", &error)),
    }
}

/// Whether the other end is whom we meant.
pub(crate) async fn check_greeting(
    read: &mut (impl AsyncRead + Unpin),
    meant: &Greeting,
) -> Result<(), Fault> {
    let other = Greeting::read(read).await?;
    if other.tenant != meant.tenant {
        return Err(Fault::Wrong("the answer of another tenant".to_owned()));
    }
    if other != *meant {
        return Err(Fault::Wrong("the answer to another visitor".to_owned()));
    }
    Ok(())
}

/// The service's part. `tenant` is whose it is.
///
/// An orderly end before `up` bytes came is [`Fault::CutShort`], unless the visitor was rude.
pub(crate) async fn serve(
    socket: &mut TcpStream,
    tenant: u32,
    ledger: &Ledger,
) -> Result<(), Fault> {
    let (mut read, mut write) = socket.split();
    let greeting = match Greeting::read(&mut read).await {
        // A visitor that says nothing, or leaves in the middle of its greeting, has not said how
        // it means to behave.
        Err(Fault::CutShort(_)) => return Ok(()),
        greeting => greeting?,
    };
    if greeting.tenant != tenant {
        return Err(Fault::Wrong(format!("a visitor of tenant {} came here", greeting.tenant)));
    }
    write_all(&mut write, &greeting.encode()).await?;
    let mut heard = Pattern::of(greeting.number, Way::Up);
    match greeting.manner {
        Manner::Echo => echo(&mut read, &mut write, &mut heard, greeting.up, ledger).await?,
        Manner::Streams | Manner::Rude => {
            let mut said = Pattern::of(greeting.number, Way::Down);
            let speak = send(&mut write, &mut said, greeting.down);
            let listen = hear_out(&mut read, &mut heard, greeting.up, ledger);
            match tokio::try_join!(speak, listen) {
                Err(Fault::CutShort(_)) if greeting.manner == Manner::Rude => return Ok(()),
                both => both?,
            };
        }
    }
    write_all(&mut write, &heard.position().to_be_bytes()).await?;
    write.shutdown().await.map_err(|error| Fault::io("at our end", &error))
}

async fn echo(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    heard: &mut Pattern,
    up: u64,
    ledger: &Ledger,
) -> Result<(), Fault> {
    let mut buffer = vec![0; ECHO_WORD as usize];
    loop {
        let count = read.read(&mut buffer).await.map_err(|error| Fault::io("reading", &error))?;
        if count == 0 {
            return whole(heard, up);
        }
        check(heard, &buffer[..count], up, ledger)?;
        write_all(write, &buffer[..count]).await?;
    }
}

/// Sends so many bytes of a pattern.
async fn send(
    write: &mut (impl AsyncWrite + Unpin),
    said: &mut Pattern,
    count: u64,
) -> Result<(), Fault> {
    while said.position() < count {
        let piece = said.next(count - said.position());
        write_all(write, &piece).await?;
    }
    Ok(())
}

/// Reads so many more bytes of a pattern, and no further.
async fn hear(
    read: &mut (impl AsyncRead + Unpin),
    heard: &mut Pattern,
    count: u64,
    ledger: &Ledger,
) -> Result<(), Fault> {
    let end = heard.position() + count;
    let mut buffer = vec![0; READ.min(usize::try_from(count).unwrap_or(READ))];
    while heard.position() < end {
        let most = usize::try_from(end - heard.position()).unwrap_or(READ).min(buffer.len());
        let count = read.read(&mut buffer[..most]).await;
        match count.map_err(|error| Fault::io("reading", &error))? {
            0 => return Err(Fault::CutShort("reading")),
            count => check(heard, &buffer[..count], end, ledger)?,
        }
    }
    Ok(())
}

/// Reads to the end, which has to come after so many bytes.
async fn hear_out(
    read: &mut (impl AsyncRead + Unpin),
    heard: &mut Pattern,
    up: u64,
    ledger: &Ledger,
) -> Result<(), Fault> {
    let mut buffer = vec![0; READ];
    loop {
        let count = read.read(&mut buffer).await;
        match count.map_err(|error| Fault::io("reading", &error))? {
            0 => return whole(heard, up),
            count => check(heard, &buffer[..count], up, ledger)?,
        }
    }
}

fn check(heard: &mut Pattern, bytes: &[u8], up: u64, ledger: &Ledger) -> Result<(), Fault> {
    heard.check(bytes).map_err(|differs| Fault::differs("reading", differs))?;
    if heard.position() > up {
        return Err(Fault::Wrong("more bytes than were sent".to_owned()));
    }
    ledger.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(())
}

fn whole(heard: &Pattern, up: u64) -> Result<(), Fault> {
    if heard.position() < up { Err(Fault::CutShort("reading")) } else { Ok(()) }
}

async fn write_all(write: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Fault> {
    write.write_all(bytes).await.map_err(|error| Fault::io("writing", &error))
}

/// Bytes of a greeting.
pub(crate) const LEN: usize = 40;

const MAGIC: &[u8; 8] = b"FTSOAK/1";

/// A word of an echo.
const ECHO_WORD: u64 = 4 << 10;

const READ: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_arrives_as_it_was_meant() {
        let greeting =
            Greeting { tenant: 7, manner: Manner::Echo, number: 1 << 40, up: 5, down: 1 << 33 };
        assert_eq!(Greeting::decode(&greeting.encode()).unwrap(), greeting);
        for place in [0, 7, 15] {
            let mut changed = greeting.encode();
            changed[place] ^= 0x40;
            assert!(Greeting::decode(&changed).is_err(), "{place}");
        }
    }
}
