//! The record layer of an established connection, without its socket (RFC 8446, section 5).
//!
//! It seals and opens, and deals itself with what is not application data: key updates, tickets and
//! alerts. The handshake before it, and all keys, are rustls'.

use std::io::IoSlice;

use bytes::BytesMut;
use rustls::{AlertDescription, ContentType, ExtractedSecrets, HandshakeType};

use super::fault::Fault;
use super::gather::Gather;
use super::keys::{RecordKey, Secrets};
use super::open::Opener;
use super::outbox::Outbox;
use super::seal::{self, Sealer};

/// Both directions of an established connection.
pub(super) struct Records {
    secrets: Secrets,
    sealer: Sealer,
    opener: Opener,
    /// The start of a handshake message that is not whole yet.
    message: Vec<u8>,
    /// The peer wants us to change our key. However often it says so, we owe it once.
    owes_key_update: bool,
    /// Records and messages in a row that brought no data.
    quiet: u8,
    /// The peer has said goodbye.
    is_ended: bool,
    fault: Option<Fault>,
}

impl Records {
    /// Goes on where rustls has left off. `limit`: records that one of our keys may serve.
    pub(super) fn new(
        extracted: ExtractedSecrets,
        secrets: Secrets,
        limit: u64,
    ) -> Result<Self, Fault> {
        Ok(Self {
            secrets,
            sealer: Sealer::new(RecordKey::new(extracted.tx)?, limit),
            opener: Opener::new(RecordKey::new(extracted.rx)?),
            message: Vec::new(),
            owes_key_update: false,
            quiet: 0,
            is_ended: false,
            fault: None,
        })
    }

    /// The peer has said goodbye: no more data will come.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Something was wrong; `open` tells what.
    pub(super) fn is_broken(&self) -> bool {
        self.fault.is_some()
    }

    /// What was wrong, if anything was.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.clone()
    }

    /// Nothing can be trusted any more.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The next piece of data in `input`, never empty. `None`: there is no whole record, or the peer
    /// has said goodbye.
    ///
    /// # Errors
    /// The first fault, and ever after.
    pub(super) fn open(&mut self, input: &mut BytesMut) -> Result<Option<BytesMut>, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.open_next(input).inspect_err(|fault| self.fault = Some(fault.clone()))
    }

    fn open_next(&mut self, input: &mut BytesMut) -> Result<Option<BytesMut>, Fault> {
        while !self.is_ended {
            let Some((kind, content)) = self.opener.open(input)? else { return Ok(None) };
            if !self.message.is_empty() && kind != ContentType::Handshake {
                return Err(Fault::UnexpectedMessage);
            }
            match kind {
                ContentType::ApplicationData if !content.is_empty() => {
                    self.quiet = 0;
                    return Ok(Some(content));
                }
                ContentType::ApplicationData => {}
                ContentType::Handshake if !content.is_empty() => self.handle_messages(&content)?,
                ContentType::Alert => self.handle_alert(&content)?,
                _ => return Err(Fault::UnexpectedMessage),
            }
            self.be_quiet()?;
        }
        Ok(None)
    }

    /// What brings no data must not come for ever.
    fn be_quiet(&mut self) -> Result<(), Fault> {
        self.quiet += 1;
        if self.quiet > MOST_QUIET { Err(Fault::UnexpectedMessage) } else { Ok(()) }
    }

    fn handle_messages(&mut self, content: &[u8]) -> Result<(), Fault> {
        let mut joined = std::mem::take(&mut self.message);
        let mut rest = if joined.is_empty() {
            content
        } else {
            joined.extend_from_slice(content);
            &joined
        };
        while let Some((&[kind, high, middle, low], behind)) = rest.split_first_chunk() {
            let kind = HandshakeType::from(kind);
            if !matches!(kind, HandshakeType::KeyUpdate | HandshakeType::NewSessionTicket) {
                return Err(Fault::UnexpectedMessage);
            }
            let len = u32::from_be_bytes([0, high, middle, low]) as usize;
            let Some((message, behind)) = behind.split_at_checked(len) else { break };
            match kind {
                HandshakeType::KeyUpdate => self.handle_key_update(message, behind)?,
                _ => self.secrets.keep_ticket(message)?,
            }
            rest = behind;
            // The record counts for the first.
            if !rest.is_empty() {
                self.be_quiet()?;
            }
        }
        if rest.len() > MOST_MESSAGE {
            return Err(Fault::Malformed);
        }
        self.message = rest.to_vec();
        Ok(())
    }

    /// RFC 8446, section 4.6.3. `behind` would be under the old key.
    fn handle_key_update(&mut self, message: &[u8], behind: &[u8]) -> Result<(), Fault> {
        if !behind.is_empty() {
            return Err(Fault::UnexpectedMessage);
        }
        match message {
            [UPDATE_NOT_REQUESTED] => {}
            [UPDATE_REQUESTED] => self.owes_key_update = true,
            _ => return Err(Fault::Malformed),
        }
        self.opener.rekey(self.secrets.next_opening()?);
        Ok(())
    }

    /// RFC 8446, section 6.
    fn handle_alert(&mut self, alert: &[u8]) -> Result<(), Fault> {
        let &[_level, description] = alert else { return Err(Fault::Malformed) };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => self.is_ended = true,
            // A goodbye comes behind it.
            AlertDescription::UserCanceled => {}
            description => return Err(Fault::Alert(description)),
        }
        Ok(())
    }
}

impl Records {
    /// Seals from the front of `plain`, as much as is worth one write. Returns how much it took.
    pub(super) fn seal(
        &mut self,
        plain: &[IoSlice<'_>],
        outbox: &mut Outbox,
    ) -> Result<usize, Fault> {
        let slices = plain.len();
        let mut plain = Gather::new(plain, MOST_AT_ONCE);
        let taken = plain.left();
        outbox.reserve(seal::sealed_len(taken, slices));
        while plain.left() > 0 {
            if self.owes_key_update || self.sealer.is_spent() {
                self.update_key(outbox)?;
            }
            self.sealer.seal_data(&mut plain, outbox)?;
        }
        Ok(taken)
    }

    fn update_key(&mut self, outbox: &mut Outbox) -> Result<(), Fault> {
        let message = [HandshakeType::KeyUpdate.into(), 0, 0, 1, UPDATE_NOT_REQUESTED];
        self.sealer.seal_message(ContentType::Handshake, &message, outbox)?;
        self.sealer.rekey(self.secrets.next_sealing()?);
        self.owes_key_update = false;
        Ok(())
    }

    /// An alert; nothing of ours may follow it.
    pub(super) fn seal_alert(
        &mut self,
        alert: AlertDescription,
        outbox: &mut Outbox,
    ) -> Result<(), Fault> {
        let level = if alert == AlertDescription::CloseNotify { WARNING } else { FATAL };
        self.sealer.seal_message(ContentType::Alert, &[level, alert.into()], outbox)
    }

    /// Replaces the key after so many records.
    #[cfg(test)]
    pub(super) fn limit_keys(&mut self, limit: u64) {
        self.sealer.limit_key(limit);
    }
}

/// Records that one key seals before the next. AES-GCM is good for 2^24.5 full ones (RFC 8446,
/// section 5.5); at 10 Gbit/s this is one update in two minutes.
pub(super) const RECORDS_PER_KEY: u64 = 1 << 23;

/// Plaintext sealed for one write, which is also what may wait sealed: as much as the kernel takes
/// unsent. Half of it costs a tenth more of processor time.
const MOST_AT_ONCE: usize = 8 * seal::MOST_PLAIN;

/// Empty records, tickets and key updates in a row. Each costs us work, and servers send two tickets.
const MOST_QUIET: u8 = 32;

/// What a ticket that comes in parts may hold us to. rustls' have less than 300 bytes.
const MOST_MESSAGE: usize = 16 << 10;

const UPDATE_NOT_REQUESTED: u8 = 0;
const UPDATE_REQUESTED: u8 = 1;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

#[cfg(test)]
mod tests;
