//! Server-sent events, as they come.

use crate::exchange::Exchange;
use crate::record::{From, MessageKind};
use crate::websocket::MOST_KEPT;

/// Takes a body apart into events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    event: Vec<u8>,
    size: u64,
    is_in_line: bool,
    after_cr: bool,
}

impl Events {
    pub(crate) fn feed(&mut self, bytes: &[u8], exchange: &Exchange) {
        for byte in bytes {
            let ends_crlf = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match *byte {
                b'\n' if ends_crlf => {}
                b'\r' | b'\n' if self.is_in_line => {
                    self.is_in_line = false;
                    self.push(b'\n');
                }
                b'\r' | b'\n' => self.end(exchange),
                byte => {
                    self.is_in_line = true;
                    self.push(byte);
                }
            }
        }
    }

    fn push(&mut self, byte: u8) {
        self.size += 1;
        if self.event.len() < MOST_KEPT {
            self.event.push(byte);
        }
    }

    /// An empty line.
    fn end(&mut self, exchange: &Exchange) {
        let mut event = std::mem::take(&mut self.event);
        let mut size = std::mem::take(&mut self.size);
        if size == 0 {
            return;
        }
        if event.len() as u64 == size {
            // The end of its last line is none of it.
            event.pop();
            size -= 1;
        }
        exchange.message(From::Service, MessageKind::Event, size, &event, false);
    }
}
