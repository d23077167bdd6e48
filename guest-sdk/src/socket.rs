//! The socket below the streams of an outgoing connection.

use std::fmt;
use std::rc::Rc;

/// The socket of a connection's streams, which must outlive them. A trait object, so that a plugin
/// that makes no connections imports no sockets.
pub(crate) trait Socket: fmt::Debug {
    /// Closes the sending side after the written bytes.
    fn shut_down_sending(&self);
}

/// Closes the sending side of a socket when it is dropped: dropping its stream does not.
#[derive(Debug)]
pub(crate) struct SendingSide(pub(crate) Rc<dyn Socket>);

impl Drop for SendingSide {
    fn drop(&mut self) {
        self.0.shut_down_sending();
    }
}
