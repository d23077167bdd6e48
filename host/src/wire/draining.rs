//! The signal that the process drains.

use tokio::sync::watch;

/// The signal that the process waits for its connections to finish.
#[derive(Clone, Debug, Default)]
pub struct Draining(watch::Sender<bool>);

impl Draining {
    /// Sets the signal, and wakes every waiter.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the process drains.
    pub fn begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the process drains.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let mut draining = self.0.subscribe();
        // The sender lives as long as any waiter. If it did not, there would be nothing to wait
        // for.
        async move { drop(draining.wait_for(|draining| *draining).await) }
    }
}
