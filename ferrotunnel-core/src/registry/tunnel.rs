//! A registered tunnel.

use std::net::SocketAddr;
use std::sync::Arc;

use ferrotunnel_common::TunnelKind;
use ferrotunnel_protocol::{OpenError, OpenRequest};

use super::Owner;
use crate::direct::Streams;
use crate::stream::Stream;
use crate::tcp_ingress::Visitor;

/// Unique per registration in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TunnelUid(pub u64);

impl std::fmt::Display for TunnelUid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A public name or port, bound to a session. Used as `Arc<Tunnel>`: whoever holds one may open
/// streams for as long as the session lives.
#[derive(Debug)]
pub struct Tunnel {
    pub(super) uid: TunnelUid,
    pub(super) number: u32,
    pub(super) kind: TunnelKind,
    pub(super) name: String,
    pub(super) options: Vec<(String, String)>,
    pub(super) streams: Streams,
    pub(super) owner: Arc<Owner>,
}

impl Tunnel {
    /// Unique per registration.
    pub fn uid(&self) -> TunnelUid {
        self.uid
    }

    /// The name it was registered under; for `tcp` its port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it carries.
    pub fn kind(&self) -> TunnelKind {
        self.kind
    }

    /// Settings given at registration.
    pub fn options(&self) -> &[(String, String)] {
        &self.options
    }

    /// Opens a stream to the tunnel's local service: no round trip, never waits.
    ///
    /// # Errors
    /// The session takes no new streams.
    pub fn open(&self, visitor: SocketAddr, ingress: SocketAddr) -> Result<Stream, OpenError> {
        // The session counts its own, and knows nothing of those with a carrier to themselves.
        if self.owner.direct.open() > 0 && !self.owner.has_room() {
            return Err(OpenError::LimitReached);
        }
        self.owner.session.open(OpenRequest {
            tunnel: self.number,
            kind: self.kind,
            visitor: Some(visitor),
            ingress: Some(ingress),
        })
    }

    /// Gives a visitor of a TCP tunnel a carrier of its own, or does `otherwise` when none is waiting
    /// or wanted.
    pub(super) fn serve_directly(
        &self,
        visitor: Visitor,
        otherwise: impl FnOnce(Visitor) + Send + 'static,
    ) {
        if self.streams == Streams::Multiplexed || !self.owner.has_room() {
            otherwise(visitor);
        } else {
            self.owner.direct.serve(self.number, visitor, otherwise);
        }
    }
}
