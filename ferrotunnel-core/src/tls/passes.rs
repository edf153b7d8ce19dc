//! Who has been in lately.
//!
//! A stranger costs a handshake before it proves anything, so strangers of one address wait for each other. Whoever has
//! proven the token comes past them the next time: its ticket is a pass, which the ticket of a mere handshake is not.
//! It is looked for in the first message, before anything is computed, and is good for one connection, and for guesses at no
//! other token than the one that was proven. Should that connection break before the proof, its tickets are passes too,
//! once: the client has no others.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::server::ProducesTickets;

use super::keys::HEADER_LEN;
use super::tickets::Tickets;

/// The tickets of those who have proven the token, in a table that does not grow: where two fall on one place the later
/// one has it, and whoever loses a pass comes in as a stranger does.
#[derive(Debug)]
pub(super) struct Passes {
    hasher: RandomState,
    /// What is left of a ticket's hash, and above that what its client has done, which is nothing where that is 0; and with
    /// which token.
    places: Mutex<Vec<(u64, u64)>>,
}

/// What stands for a ticket. Nobody outside can tell which ones are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass(u64);

/// What stands for a token, by its id. Nobody outside can tell which ones are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenMark(u64);

impl Passes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { hasher: RandomState::new(), places: Mutex::new(vec![(0, 0); PLACES]) })
    }

    pub(super) fn mark(&self, token_id: &str) -> TokenMark {
        TokenMark(self.hasher.hash_one(token_id))
    }

    fn of(&self, ticket: &[u8]) -> Pass {
        Pass(self.hasher.hash_one(ticket) >> 2)
    }

    /// From now on whoever shows one of them is that.
    pub(super) fn give(&self, passes: &[Pass], standing: Standing) {
        let (did, mark) = match standing {
            Standing::Stranger => return self.revoke(passes),
            Standing::Vouched(mark) => (VOUCHED, mark),
            Standing::Proven(mark) => (PROVEN, mark),
        };
        let mut places = self.places.lock();
        for pass in passes {
            if let Some(place) = places.get_mut(pass.place()) {
                *place = (pass.0 | did << STANDING, mark.0);
            }
        }
    }

    pub(super) fn revoke(&self, passes: &[Pass]) {
        for pass in passes {
            self.take(*pass);
        }
    }

    /// What somebody is who shows it. From then on it is nobody's.
    fn take(&self, pass: Pass) -> Standing {
        let mut places = self.places.lock();
        let Some(place) = places.get_mut(pass.place()) else { return Standing::Stranger };
        let (held, mark) = (place.0, TokenMark(place.1));
        let standing = if held == pass.0 | PROVEN << STANDING {
            Standing::Proven(mark)
        } else if held == pass.0 | VOUCHED << STANDING {
            Standing::Vouched(mark)
        } else {
            return Standing::Stranger;
        };
        *place = (0, 0);
        standing
    }

    /// What a peer begins with, which is shown up to the end of its first record.
    pub(super) fn judge(&self, record: &[u8]) -> Words {
        let Some(hello) = hello_in(record) else { return Words::Nonsense };
        let ticket = first_ticket(hello);
        Words::Hello(ticket.map_or(Standing::Stranger, |ticket| self.take(self.of(ticket))))
    }
}

impl Pass {
    fn place(self) -> usize {
        usize::try_from(self.0 % PLACES as u64).unwrap_or(0)
    }
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Nothing that is to be computed for.
    Nonsense,
    /// By the message of a client.
    Hello(Standing),
}

/// What is known of somebody before it has proven anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Stranger,
    /// It came as one who has proven that token the last time but one.
    Vouched(TokenMark),
    /// It has proven that token the last time that it was here.
    Proven(TokenMark),
}

impl Standing {
    /// Whether it is that token that it has proven.
    pub(crate) fn is_by(self, mark: TokenMark) -> bool {
        match self {
            Self::Stranger => false,
            Self::Vouched(proven) | Self::Proven(proven) => proven == mark,
        }
    }
}

/// Makes the tickets of one connection, and knows which those are.
#[derive(Debug)]
pub(super) struct Issuer {
    tickets: Arc<Tickets>,
    passes: Arc<Passes>,
    issued: Mutex<Vec<Pass>>,
}

impl Issuer {
    pub(super) fn new(tickets: &Arc<Tickets>, passes: &Arc<Passes>) -> Arc<Self> {
        let (tickets, passes) = (Arc::clone(tickets), Arc::clone(passes));
        Arc::new(Self { tickets, passes, issued: Mutex::default() })
    }

    /// Those that they will be once their client has proven the token.
    pub(super) fn issued(&self) -> Vec<Pass> {
        std::mem::take(&mut *self.issued.lock())
    }
}

impl ProducesTickets for Issuer {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ticket = self.tickets.encrypt(plain)?;
        self.issued.lock().push(self.passes.of(&ticket));
        Some(ticket)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets.decrypt(cipher)
    }
}

/// The part of a client's first message that is in its first record, behind the message's own header (RFC 8446,
/// sections 5.1 and 4).
fn hello_in(record: &[u8]) -> Option<&[u8]> {
    let (header, message) = record.split_first_chunk::<HEADER_LEN>()?;
    let (message_header, hello) = message.split_first_chunk::<4>()?;
    (header[0] == HANDSHAKE && message_header[0] == CLIENT_HELLO).then_some(hello)
}

/// The first of the tickets that a client shows (RFC 8446, sections 4.1.2 and 4.2.11). What cannot be read has none:
/// rustls will say what it thinks of it.
fn first_ticket(hello: &[u8]) -> Option<&[u8]> {
    let mut hello = Reader(hello);
    hello.take(VERSION_AND_RANDOM)?;
    for length_len in [1, 2, 1] {
        // The session's id, ciphers, compressions.
        hello.block(length_len)?;
    }
    let mut extensions = hello.block(2)?;
    loop {
        let kind = extensions.number(2)?;
        let mut extension = extensions.block(2)?;
        if kind == PRE_SHARED_KEY {
            return extension.block(2)?.block(2).map(|ticket| ticket.0);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, len: usize) -> Option<usize> {
        Some(self.take(len)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// So many bytes as a number of that length says.
    fn block(&mut self, length_len: usize) -> Option<Self> {
        let len = self.number(length_len)?;
        self.take(len).map(Self)
    }
}

/// 256 KiB, which are touched as clients come. A client has a few tickets at a time, so thousands of clients have places.
const PLACES: usize = 16 << 10;

/// The bit of a place from which on it says what its client has done.
const STANDING: u32 = 62;

const VOUCHED: u64 = 1;

const PROVEN: u64 = 2;

const HANDSHAKE: u8 = 22;

const CLIENT_HELLO: u8 = 1;

const VERSION_AND_RANDOM: usize = 2 + 32;

const PRE_SHARED_KEY: usize = 41;

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, ClientConnection};

    use super::super::dialer::nobody;
    use super::super::tests::{configs, exchange_both, ours};
    use super::*;

    fn first_record(client: &Arc<ClientConfig>) -> Vec<u8> {
        let mut connection = ClientConnection::new(Arc::clone(client), nobody()).unwrap();
        let mut record = Vec::new();
        connection.write_tls(&mut record).unwrap();
        record
    }

    /// A client that has had a connection, and what that brought.
    async fn guest(passes: &Arc<Passes>) -> (Arc<ClientConfig>, Vec<Pass>) {
        let (client, server) = configs();
        let issuer = Issuer::new(&Tickets::new().unwrap(), passes);
        let mut server = (*server).clone();
        server.ticketer = Arc::clone(&issuer) as Arc<dyn ProducesTickets>;
        let (mut near, mut far) = ours(&client, &server).await;
        exchange_both(&mut near.stream, &mut far.stream, 1).await;
        (client, issuer.issued())
    }

    #[tokio::test]
    async fn a_ticket_is_a_pass_once_its_client_has_proven_the_token_and_for_one_connection() {
        let passes = Passes::new();
        let (client, issued) = guest(&passes).await;
        let record = first_record(&client);
        let stranger = Words::Hello(Standing::Stranger);
        assert_eq!(passes.judge(&record), stranger, "a handshake alone is none");
        let mark = passes.mark("laptop");
        for standing in [Standing::Proven(mark), Standing::Vouched(mark)] {
            passes.give(&issued, standing);
            assert_eq!(passes.judge(&first_record(&configs().0)), stranger, "no ticket");
            assert_eq!(passes.judge(&record), Words::Hello(standing));
            assert_eq!(passes.judge(&record), stranger, "once");
            assert!(standing.is_by(mark) && !standing.is_by(passes.mark("")), "no other token");
        }
        passes.give(&issued, Standing::Proven(mark));
        passes.revoke(&issued);
        assert_eq!(passes.judge(&record), stranger, "taken back");
    }

    #[tokio::test]
    async fn what_is_cut_short_or_broken_is_a_stranger_s_or_nonsense() {
        let passes = Passes::new();
        let (client, issued) = guest(&passes).await;
        let record = first_record(&client);
        for len in 0..record.len() {
            passes.give(&issued, Standing::Proven(passes.mark("")));
            let words = passes.judge(&record[..len]);
            assert!(len > HEADER_LEN + 3 || words == Words::Nonsense, "{len} bytes");
        }
        for at in 0..record.len() {
            let mut broken = record.clone();
            broken[at] ^= 0xff;
            passes.judge(&broken);
        }
        assert_eq!(passes.judge(&[b'?'; 4_096]), Words::Nonsense);
        assert_eq!(passes.judge(b"GET / HTTP/1.1\r\n"), Words::Nonsense);
    }
}
