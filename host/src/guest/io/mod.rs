//! A connection as a guest sees it: streams, standard input and output, and the facts about its
//! peer.

pub(super) mod concurrent_streams;
pub(crate) mod facts;
pub(super) mod stdio;
pub(super) mod streams;
pub(super) mod ucspi;

pub use facts::Facts;
