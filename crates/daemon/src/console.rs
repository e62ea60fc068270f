//! The console: clients connected by listeners, and containers connected by sockets that they inherit.
//!
//! What a peer may ask is decided here; what becomes of it is not: every request that is allowed goes out as a [`Call`].

mod call;

pub use call::{Body, Call, Cut, Peer};
