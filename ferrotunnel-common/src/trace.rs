//! Which trace something belongs to.

use std::fmt;

/// A span of a trace, as W3C Trace Context has it: what is under way says with it whose part it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace, which has the same name in every process; never all zero.
    pub trace: [u8; 16],
    /// The span in it; never all zero.
    pub span: [u8; 8],
    /// Bit 0: it is sampled, that is, somebody keeps it. The others are passed on.
    pub flags: u8,
}

impl TraceContext {
    /// Bytes of it on the wire.
    pub const LEN: usize = 25;

    /// `None` if it names no trace or no span.
    pub fn new(trace: [u8; 16], span: [u8; 8], flags: u8) -> Option<Self> {
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span, flags })
    }

    /// The trace, the span, the flags.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.span);
        bytes[24] = self.flags;
        bytes
    }

    /// The opposite of [`to_bytes`](Self::to_bytes); `None` if it names no trace or no span.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&bytes[..16]);
        span.copy_from_slice(&bytes[16..24]);
        Self::new(trace, span, bytes[24])
    }

    /// Whether somebody keeps it.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(self, span: [u8; 8]) -> Self {
        Self { span, ..self }
    }
}

/// As in a `traceparent` of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bit of the flags.
const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_the_same_behind_the_wire() {
        let context = TraceContext::new([1; 16], [2; 8], 3).unwrap();
        assert_eq!(TraceContext::from_bytes(context.to_bytes()), Some(context));
        assert!(context.is_sampled() && !TraceContext { flags: 2, ..context }.is_sampled());
        let text = "00-01010101010101010101010101010101-0202020202020202-03";
        assert_eq!(context.to_string(), text);
        assert_eq!(context.with_span([3; 8]).trace, context.trace);
    }

    #[test]
    fn nothing_is_no_trace() {
        assert_eq!(TraceContext::from_bytes([0; 25]), None);
        assert_eq!(TraceContext::new([1; 16], [0; 8], 1), None);
        assert_eq!(TraceContext::new([0; 16], [1; 8], 1), None);
    }
}
