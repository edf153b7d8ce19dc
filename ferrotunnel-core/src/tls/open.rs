//! Records into plaintext, where they lie.

use bytes::{Buf, BytesMut};
use rustls::ContentType;

use super::fault::Fault;
use super::keys::{HEADER_LEN, RecordKey, TAG_LEN};
use super::seal::MOST_PLAIN;

/// Opens records of one direction.
pub(super) struct Opener(RecordKey);

impl Opener {
    pub(super) fn new(key: RecordKey) -> Self {
        Self(key)
    }

    pub(super) fn rekey(&mut self, key: RecordKey) {
        self.0 = key;
    }

    /// Takes the first record off `input` and opens it: its kind, and its content without a copy.
    /// `None`: it is not whole yet.
    ///
    /// # Errors
    /// It is none, or not the peer's. What is left of it is garbage, and nothing may follow.
    pub(super) fn open(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<(ContentType, BytesMut)>, Fault> {
        let Some(whole_len) = whole_len(input)? else { return Ok(None) };
        if input.len() < whole_len {
            return Ok(None);
        }
        let mut record = input.split_to(whole_len);
        let (header, body) = record.split_first_chunk_mut().ok_or(Fault::Internal)?;
        let inner = self.0.open(*header, body)?;
        if inner.len() > MOST_PLAIN + 1 {
            return Err(Fault::RecordOverflow);
        }
        // Zeros behind the content type are padding (RFC 8446, section 5.4).
        let len = inner.iter().rposition(|byte| *byte != 0).ok_or(Fault::UnexpectedMessage)?;
        let kind = inner.get(len).copied().map(ContentType::from).ok_or(Fault::Internal)?;
        record.truncate(HEADER_LEN + len);
        record.advance(HEADER_LEN);
        Ok(Some((kind, record)))
    }
}

/// Whether `open` would find something to say.
pub(super) fn is_openable(input: &BytesMut) -> bool {
    match whole_len(input) {
        Ok(len) => len.is_some_and(|len| len <= input.len()),
        Err(_) => true,
    }
}

/// Bytes of the first record, as soon as its header tells.
fn whole_len(input: &BytesMut) -> Result<Option<usize>, Fault> {
    let Some(&[kind, _, _, high, low]) = input.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    // Nothing travels in the clear behind the handshake, not even an alert. The version is part of
    // what the tag covers.
    if ContentType::from(kind) != ContentType::ApplicationData {
        return Err(Fault::UnexpectedMessage);
    }
    match usize::from(u16::from_be_bytes([high, low])) {
        len if len > MOST_BODY => Err(Fault::RecordOverflow),
        len if len < LEAST_BODY => Err(Fault::BadRecordMac),
        len => Ok(Some(HEADER_LEN + len)),
    }
}

/// Body of one record (RFC 8446, section 5.2).
const MOST_BODY: usize = MOST_PLAIN + 256;

/// A content type and a tag.
const LEAST_BODY: usize = 1 + TAG_LEN;
