//! Plaintext into records.

use rustls::ContentType;

use super::fault::Fault;
use super::gather::Gather;
use super::keys::{HEADER_LEN, RecordKey, TAG_LEN};
use super::outbox::Outbox;

/// Seals records of one direction.
pub(super) struct Sealer {
    key: RecordKey,
    /// Records that one key may serve.
    limit: u64,
}

impl Sealer {
    /// `limit`: records after which the key has to be replaced.
    pub(super) fn new(key: RecordKey, limit: u64) -> Self {
        Self { key, limit }
    }

    /// The key has served as many records as it may.
    pub(super) fn is_spent(&self) -> bool {
        self.key.used() >= self.limit
    }

    #[cfg(test)]
    pub(super) fn limit_key(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(super) fn rekey(&mut self, key: RecordKey) {
        self.key = key;
    }

    /// One record of application data from the front of `plain`. What lies together is read once;
    /// only pieces are copied.
    pub(super) fn seal_data(
        &mut self,
        plain: &mut Gather<'_>,
        outbox: &mut Outbox,
    ) -> Result<(), Fault> {
        let len = plain.next_len(MOST_PLAIN);
        let kind = ContentType::ApplicationData.into();
        let Record { header, sealed, end } = Record::begin(outbox, len)?;
        match plain.together(len) {
            Some(together) => self.key.seal(header, together, kind, sealed, end),
            None => {
                plain.copy_to(sealed);
                self.key.seal_in_place(header, kind, sealed, end)
            }
        }
    }

    /// One record of another kind: a whole message.
    pub(super) fn seal_message(
        &mut self,
        kind: ContentType,
        message: &[u8],
        outbox: &mut Outbox,
    ) -> Result<(), Fault> {
        let Record { header, sealed, end } = Record::begin(outbox, message.len())?;
        self.key.seal(header, message, kind.into(), sealed, end)
    }
}

/// Where the parts of a record go.
struct Record<'a> {
    header: [u8; HEADER_LEN],
    sealed: &'a mut [u8],
    end: &'a mut [u8],
}

impl<'a> Record<'a> {
    fn begin(outbox: &'a mut Outbox, plain_len: usize) -> Result<Self, Fault> {
        let body_len = u16::try_from(plain_len + END_LEN).map_err(|_| Fault::Internal)?;
        let [high, low] = body_len.to_be_bytes();
        // What TLS 1.3 looks like from outside (RFC 8446, section 5.2).
        let header = [ContentType::ApplicationData.into(), 3, 3, high, low];
        let record = outbox.fill(HEADER_LEN + plain_len + END_LEN);
        let (start, body) = record.split_first_chunk_mut().ok_or(Fault::Internal)?;
        *start = header;
        let (sealed, end) = body.split_at_mut_checked(plain_len).ok_or(Fault::Internal)?;
        Ok(Self { header, sealed, end })
    }
}

/// What `plain_len` bytes of application data in so many slices become at most.
pub(super) fn sealed_len(plain_len: usize, slices: usize) -> usize {
    plain_len + (plain_len / MOST_PLAIN + slices) * (HEADER_LEN + END_LEN)
}

/// Plaintext of one record (RFC 8446, section 5.1).
pub(super) const MOST_PLAIN: usize = 1 << 14;

/// The content type and the tag.
const END_LEN: usize = 1 + TAG_LEN;
