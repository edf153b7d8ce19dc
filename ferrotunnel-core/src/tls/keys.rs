//! Keys of records, as rustls derives them, and what it goes on to do with their secrets.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::fault::Fault;

/// Bytes of a record's header, which is also what the key authenticates beside the content.
pub(super) const HEADER_LEN: usize = 5;

/// Bytes of a tag; all suites of TLS 1.3 that we offer have the same.
pub(super) const TAG_LEN: usize = 16;

/// The key of one direction and the number of the next record.
///
/// Invariant: no number is used twice with one key (RFC 8446, section 5.3).
pub(super) struct RecordKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    next: u64,
}

impl RecordKey {
    pub(super) fn new((next, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Fault> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Fault::Internal),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Fault::Internal)?;
        let iv = iv.as_ref().try_into().map_err(|_| Fault::Internal)?;
        Ok(Self { key: LessSafeKey::new(key), iv, next })
    }

    /// The number of the next record: how many this key has served.
    pub(super) fn used(&self) -> u64 {
        self.next
    }

    /// RFC 8446, section 5.3.
    fn nonce(&mut self) -> Result<Nonce, Fault> {
        let number = self.next.to_be_bytes();
        self.next = self.next.checked_add(1).ok_or(Fault::Internal)?;
        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().rev().zip(number.iter().rev()) {
            *byte ^= number;
        }
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Seals `plain` and then `kind` into `sealed` and `end`, the latter with the tag.
    pub(super) fn seal(
        &mut self,
        header: [u8; HEADER_LEN],
        plain: &[u8],
        kind: u8,
        sealed: &mut [u8],
        end: &mut [u8],
    ) -> Result<(), Fault> {
        let nonce = self.nonce()?;
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(header), plain, sealed, &[kind], end)
            .map_err(|_| Fault::Internal)
    }

    /// The same where the plaintext lies already.
    pub(super) fn seal_in_place(
        &mut self,
        header: [u8; HEADER_LEN],
        kind: u8,
        plain: &mut [u8],
        end: &mut [u8],
    ) -> Result<(), Fault> {
        let nonce = self.nonce()?;
        self.key
            .seal_in_place_scatter(nonce, Aad::from(header), plain, &[kind], end)
            .map_err(|_| Fault::Internal)
    }

    /// Opens a record's body in place.
    pub(super) fn open<'a>(
        &mut self,
        header: [u8; HEADER_LEN],
        body: &'a mut [u8],
    ) -> Result<&'a mut [u8], Fault> {
        let nonce = self.nonce()?;
        self.key.open_in_place(nonce, Aad::from(header), body).map_err(|_| Fault::BadRecordMac)
    }
}

/// What rustls keeps of a connection: its traffic secrets, and where a client's tickets go.
pub(super) enum Secrets {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Secrets {
    /// Replaces the key that we seal with (RFC 8446, section 7.2).
    pub(super) fn next_sealing(&mut self) -> Result<RecordKey, Fault> {
        RecordKey::new(match self {
            Self::Client(connection) => connection.update_tx_secret()?,
            Self::Server(connection) => connection.update_tx_secret()?,
        })
    }

    /// Replaces the key that we open with.
    pub(super) fn next_opening(&mut self) -> Result<RecordKey, Fault> {
        RecordKey::new(match self {
            Self::Client(connection) => connection.update_rx_secret()?,
            Self::Server(connection) => connection.update_rx_secret()?,
        })
    }

    /// Keeps a ticket for later connections. Only servers send them.
    pub(super) fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Client(connection) => Ok(connection.handle_new_session_ticket(ticket)?),
            Self::Server(_) => Err(Fault::UnexpectedMessage),
        }
    }
}
