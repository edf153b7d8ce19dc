//! The exporter of a connection (RFC 9266, RFC 8446 section 7.5), which the session's proofs cover.
//!
//! rustls has no exporter beside the unbuffered handshake, but tells the secret it would be made of
//! to a key log. Ours belongs to one connection, makes the value at once and keeps nothing else.

use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::digest::{self, SHA256, SHA384};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::KeyLog;

/// The exporter of one connection, once its handshake has come that far.
#[derive(Default)]
pub(super) struct Exporter(OnceLock<[u8; EXPORT_LEN]>);

impl Exporter {
    pub(super) fn exported(&self) -> Option<[u8; EXPORT_LEN]> {
        self.0.get().copied()
    }
}

impl KeyLog for Exporter {
    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == EXPORTER_SECRET
            && let Ok(exported) = export(secret)
        {
            let _ = self.0.set(exported);
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(redacted)")
    }
}

/// TLS-Exporter of the exporter master secret, with an empty context.
fn export(secret: &[u8]) -> Result<[u8; EXPORT_LEN], Unspecified> {
    // A secret is as long as the hash of its suite.
    let (hkdf, hash) = match secret.len() {
        32 => (HKDF_SHA256, &SHA256),
        48 => (HKDF_SHA384, &SHA384),
        _ => return Err(Unspecified),
    };
    let empty = digest::digest(hash, &[]);
    // What `Prk` holds it overwrites when it is dropped.
    let secret = Prk::new_less_safe(hkdf, secret);
    let label = label(hkdf.len(), EXPORTER_LABEL, empty.as_ref())?;
    let of_label = Prk::from(secret.expand(&[&label], hkdf)?);
    let label = self::label(EXPORT_LEN, b"exporter", empty.as_ref())?;
    let mut exported = [0; EXPORT_LEN];
    of_label.expand(&[&label], Length(EXPORT_LEN))?.fill(&mut exported)?;
    Ok(exported)
}

/// HkdfLabel of RFC 8446, section 7.1.
fn label(length: usize, label: &[u8], context: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let length = u16::try_from(length).map_err(|_| Unspecified)?.to_be_bytes();
    let label = [b"tls13 ", label].concat();
    let len_of = |bytes: &[u8]| u8::try_from(bytes.len()).map_err(|_| Unspecified);
    Ok([&length[..], &[len_of(&label)?], &label, &[len_of(context)?], context].concat())
}

/// How much is exported.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

const EXPORT_LEN: usize = 32;
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What rustls calls the exporter master secret.
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";
