//! Real traffic of all kinds through real servers and clients, while some of them are killed, and
//! whether every byte was right.
//!
//! Servers and clients are processes of the `ferrotunnel` command. Visitors and local services are
//! here, and both ends know what every single byte has to be ([`pattern`]). What a visitor may
//! suffer is decided by [`presence`]: an error is allowed only where a party that the connection
//! needed was away during its life, and wrong bytes never are. [`ledger`] counts; [`run`] has the
//! order of things: warm up, put load on and kill, come to rest, compare with before.

pub mod ledger;
pub mod origin;
pub mod pattern;
pub mod presence;
pub mod run;
pub mod visitor;

mod churn;
mod crew;
mod dice;
mod exchange;
mod fault;
mod levels;
mod rest;
mod table;
mod tasks;
mod world;

pub use dice::Dice;
pub use fault::Fault;
