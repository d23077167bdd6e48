//! Where to listen: a bind URI, the listening socket that it becomes, and the name under which that socket is handed over.
//!
//! Serving does not care how a listener came to be; this is the only room that knows.

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
