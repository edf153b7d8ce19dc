//! `WindowUpdate`: credit.

use bytes::BytesMut;

use super::fields::{Reader, put_u32_within};
use crate::error::FrameError;

/// Largest window of a stream in bytes. It fills 1 Gbit/s over a round trip of 130 ms, and is what
/// one stream whose reader stops can make its receiver hold at most.
pub const MAX_WINDOW: u32 = 16 << 20;

/// On a stream: that many more bytes may be sent. On stream 0: the window to assume for streams
/// opened after this frame.
///
/// Payload: `credit u32` (1 to [`MAX_WINDOW`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUpdate {
    /// Bytes.
    pub credit: u32,
}

impl WindowUpdate {
    const LEN: usize = 4;

    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let credit = Reader::new(payload).u32_within(1..=MAX_WINDOW)?;
        Ok(Self { credit })
    }

    /// The caller keeps the credit between 1 and [`MAX_WINDOW`].
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_u32_within(out, self.credit, 1..=MAX_WINDOW);
    }

    pub(super) fn encoded_len(&self) -> usize {
        Self::LEN
    }
}
