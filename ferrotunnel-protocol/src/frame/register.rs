//! `Register`: a client asks for a tunnel. With the REMOVE flag it takes one away.

use bytes::{BufMut, BytesMut};
use ferrotunnel_common::TunnelKind;

use super::fields::{Reader, put_kind, put_str8, put_str16, str8_len, str16_len};
use crate::error::FrameError;

/// A tunnel that a client asks for. The tunnel's number (never 0) is in the header's stream field.
///
/// Payload: `kind u8 (1 http, 2 tcp, 3 udp, 4 tls) | name str8 (<= 63) | hosts: count u8 (<= 32) x str8 (<= 253) | port u16 |
/// options: count u8 (<= 32) x (key str8 (<= 64), value str16 (<= 1024))`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// What the tunnel carries.
    pub kind: TunnelKind,
    /// Wanted name, or empty to have one picked.
    pub name: String,
    /// Further host names, for kinds that are routed by host.
    pub hosts: Vec<String>,
    /// Wanted public port, or 0 to have one picked.
    pub port: u16,
    /// Settings of the tunnel.
    pub options: TunnelOptions,
}

/// Key-value settings of a tunnel. An unknown key is ignored, so older servers stay usable.
pub type TunnelOptions = Vec<(String, String)>;

const NAME_CAP: u8 = 63;
const HOSTS_CAP: u8 = 32;
const HOST_CAP: u8 = 253;
const OPTIONS_CAP: u8 = 32;
const KEY_CAP: u8 = 64;
const VALUE_CAP: u16 = 1024;

impl Register {
    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Reader::new(payload);
        let kind = fields.kind()?;
        let name = fields.str8(NAME_CAP)?;
        let hosts = (0..fields.count(HOSTS_CAP)?)
            .map(|_| fields.str8(HOST_CAP))
            .collect::<Result<_, _>>()?;
        let port = fields.u16()?;
        let options = (0..fields.count(OPTIONS_CAP)?)
            .map(|_| Ok((fields.str8(KEY_CAP)?, fields.str16(VALUE_CAP)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self { kind, name, hosts, port, options })
    }

    /// The caller keeps every text and both lists within their caps.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        debug_assert!(self.is_within_caps());
        put_kind(out, self.kind);
        put_str8(out, &self.name, NAME_CAP);
        out.put_u8(self.sent_hosts().len() as u8);
        for host in self.sent_hosts() {
            put_str8(out, host, HOST_CAP);
        }
        out.put_u16(self.port);
        out.put_u8(self.sent_options().len() as u8);
        for (key, value) in self.sent_options() {
            put_str8(out, key, KEY_CAP);
            put_str16(out, value, VALUE_CAP);
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        let hosts: usize = self.sent_hosts().map(|host| str8_len(host, HOST_CAP)).sum();
        let options: usize = self
            .sent_options()
            .map(|(key, value)| str8_len(key, KEY_CAP) + str16_len(value, VALUE_CAP))
            .sum();
        1 + str8_len(&self.name, NAME_CAP) + 1 + hosts + 2 + 1 + options
    }

    fn sent_hosts(&self) -> impl ExactSizeIterator<Item = &String> {
        self.hosts.iter().take(HOSTS_CAP.into())
    }

    fn sent_options(&self) -> impl ExactSizeIterator<Item = &(String, String)> {
        self.options.iter().take(OPTIONS_CAP.into())
    }

    /// Whether every text and both lists are short enough to travel. What is not must not be sent: it would be cut.
    pub fn is_within_caps(&self) -> bool {
        self.name.len() <= NAME_CAP.into()
            && self.hosts.len() <= HOSTS_CAP.into()
            && self.hosts.iter().all(|host| host.len() <= HOST_CAP.into())
            && self.options.len() <= OPTIONS_CAP.into()
            && self
                .options
                .iter()
                .all(|(key, value)| key.len() <= KEY_CAP.into() && value.len() <= VALUE_CAP.into())
    }
}
