//! Who may ask an HTTP tunnel for something, beyond where they come from: passwords, bearer tokens, and how often.
//!
//! The rules are made once, of the options that the client gives at registration. Where a tunnel has none, a request
//! pays one look for it.

mod authorization;
mod basic;
mod bearer;
mod checks;
mod rate;
mod rules;

pub use self::basic::{BasicUser, PasswordError, hash_password};
pub use self::bearer::BearerToken;
pub(crate) use self::checks::Checks;
pub use self::rate::VisitorRate;
pub use self::rules::{HttpAccess, make_gate};
pub(crate) use self::rules::{Judgement, Rules};
