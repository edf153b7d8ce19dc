//! Names and ports that a client would like, and does not insist on.
//!
//! What the server once picked is asked for again at a reconnect, so that visitors find it. Nobody
//! chose it, so nobody else is to lose it for that: see the option `preferred` in the protocol.

use ferrotunnel_protocol::frame::Register;

/// Whether another name or port will do.
pub(crate) fn is_preferred(wanted: &Register) -> bool {
    wanted.options.iter().any(|(key, value)| key == KEY && value == YES)
}

/// Says that another name or port will do.
pub(crate) fn prefer(wanted: &mut Register) {
    wanted.options.push((KEY.to_owned(), YES.to_owned()));
}

const KEY: &str = "preferred";
const YES: &str = "true";
