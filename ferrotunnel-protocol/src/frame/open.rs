//! `Open`: a new stream. Data may follow at once.

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use ferrotunnel_common::{TraceContext, TunnelKind};

use super::MAX_WINDOW;
use super::fields::{Reader, address_len, put_address, put_kind, put_u32_within};
use crate::error::FrameError;

/// Opens a stream for one visitor.
///
/// Payload: `tunnel u32 | kind u8 (1 http, 2 tcp, 3 udp, 4 tls) | visitor addr | ingress addr | send_window u32 |
/// receive_window u32 | trace [25]`, where addr is `family u8 (4 or 6; 0: none) | 4 or 16 bytes | port u16`
/// (family 0 carries neither bytes nor port). The trace may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The number under which the client registered the tunnel; 0 when a client opens.
    pub tunnel: u32,
    /// What the stream carries.
    pub kind: TunnelKind,
    /// Who connected.
    pub visitor: Option<SocketAddr>,
    /// Where they connected to.
    pub ingress: Option<SocketAddr>,
    /// Bytes the opener assumes it may send: the initial window it last heard of.
    pub send_window: u32,
    /// Bytes the opener grants to the other side.
    pub receive_window: u32,
    /// The span in whose course it is opened, if that is kept.
    pub trace: Option<TraceContext>,
}

impl Open {
    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Reader::new(payload);
        Ok(Self {
            tunnel: fields.u32()?,
            kind: fields.kind()?,
            visitor: fields.address()?,
            ingress: fields.address()?,
            send_window: fields.u32_within(0..=MAX_WINDOW)?,
            receive_window: fields.u32_within(0..=MAX_WINDOW)?,
            trace: fields.trace()?,
        })
    }

    /// The caller keeps both windows within [`MAX_WINDOW`].
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.tunnel);
        put_kind(out, self.kind);
        put_address(out, self.visitor);
        put_address(out, self.ingress);
        put_u32_within(out, self.send_window, 0..=MAX_WINDOW);
        put_u32_within(out, self.receive_window, 0..=MAX_WINDOW);
        if let Some(trace) = self.trace {
            out.put_slice(&trace.to_bytes());
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        4 + 1
            + address_len(self.visitor)
            + address_len(self.ingress)
            + 4
            + 4
            + self.trace.map_or(0, |_| TraceContext::LEN)
    }
}
