//! Late starts: whether the guests of a plugin can tell a start at accept from one at the first
//! byte.
//!
//! A guest that has made no host call is deterministic. So the first guest of a plugin is watched.
//! If it does nothing observable before it takes input or waits for input alone, every later guest
//! would do the same, and may start when there is input. Reading a clock or random numbers does not
//! count as observable, since runtimes seed their hash tables with them. Waiting for a clock does.

use crate::component::GuestStart;
use std::sync::{Arc, OnceLock};

/// The findings about a plugin.
#[derive(Debug)]
pub(super) struct LateStart(OnceLock<Start>);

/// When a guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// As soon as the connection is accepted.
    Accept,
    /// When there is input, or its end.
    FirstByte,
}

impl LateStart {
    pub(super) fn new(configured: GuestStart) -> Arc<Self> {
        Arc::new(Self(match configured {
            GuestStart::Accept => OnceLock::from(Start::Accept),
            GuestStart::FirstByte => OnceLock::from(Start::FirstByte),
            GuestStart::Auto => OnceLock::new(),
        }))
    }

    /// When the next guest starts. Until that is decided, at accept, which is always correct.
    pub(super) fn start(&self) -> Start {
        self.0.get().copied().unwrap_or(Start::Accept)
    }

    /// Watches a guest that is about to start.
    pub(super) fn learner(self: &Arc<Self>) -> Learner {
        Learner(if self.0.get().is_some() { None } else { Some(Arc::clone(self)) })
    }
}

/// Watches one guest. Does nothing after the plugin is decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Learner(Option<Arc<LateStart>>);

impl Learner {
    /// The guest did something observable by its peer, the log or others, or asked for something
    /// that depends on time.
    pub(super) fn observable(&self) {
        self.settle(Start::Accept);
    }

    /// The guest took input or its end, or waits for it. An earlier observable act has been
    /// reported before.
    pub(super) fn wants_input(&self) {
        self.settle(Start::FirstByte);
    }

    fn settle(&self, start: Start) {
        if let Some(plugin) = &self.0 {
            // The first report counts.
            plugin.0.get_or_init(|| start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_act_of_the_first_guest_decides() {
        let plugin = LateStart::new(GuestStart::Auto);
        assert_eq!(plugin.start(), Start::Accept);
        let learner = plugin.learner();
        learner.wants_input();
        learner.observable();
        assert_eq!(plugin.start(), Start::FirstByte);

        let plugin = LateStart::new(GuestStart::Auto);
        plugin.learner().observable();
        plugin.learner().wants_input();
        assert_eq!(plugin.start(), Start::Accept);
    }

    #[test]
    fn the_operators_choice_is_not_overridden() {
        for (configured, start) in [(GuestStart::Accept, Start::Accept), (GuestStart::FirstByte, Start::FirstByte)] {
            let plugin = LateStart::new(configured);
            plugin.learner().wants_input();
            plugin.learner().observable();
            assert_eq!(plugin.start(), start);
        }
    }
}
