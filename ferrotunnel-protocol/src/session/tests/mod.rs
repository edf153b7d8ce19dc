//! The session against itself, on a virtual clock.

mod ledger;
mod link;
mod pair;
mod parting;
mod rng;

mod bounds;
mod datagrams;
mod draining;
mod growth;
mod handshake;
mod heartbeat;
mod lifetime;
mod random;
mod scheduling;
mod violations;
mod windows;
