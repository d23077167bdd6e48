//! Where to listen: a bind URI, its listening socket, and the key under which that socket is handed
//! over.
//!
//! Only this room knows whether a listener was bound, adopted or passed. Serving treats all alike.

mod activation;
mod address;
mod arrivals;
mod bound;
mod key;
mod listener;
mod path_lock;
pub mod restrict;
mod socket_file;
mod uri;

pub use activation::{Activation, Error as ActivationError, Passed, SocketName, Variables, close as close_passed};
pub use address::{ListenerAddress, LocalAddress, PeerAddress, SocketPath};
pub use arrivals::Queue;
pub use bound::{Bound, Error};
pub use key::Key;
pub use listener::{AdoptError, Incoming, Listener};
pub use socket_file::{Claim, FileId, Obstacle, SocketFile};
pub use uri::{Bind, Mode, check};
