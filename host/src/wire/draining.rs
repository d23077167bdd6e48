//! The notice that a process drains.

use tokio::sync::watch;

/// The notice that the process waits for its connections to finish.
#[derive(Clone, Debug, Default)]
pub struct Draining(watch::Sender<bool>);

impl Draining {
    /// Tells everyone who waits.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it does.
    pub fn begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it does.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let mut draining = self.0.subscribe();
        // The sender is here as long as anyone waits, but even if it were not, there would be nothing to wait for.
        async move { drop(draining.wait_for(|draining| *draining).await) }
    }
}
