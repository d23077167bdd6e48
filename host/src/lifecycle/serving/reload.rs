//! Reading anew what the listeners get while they serve: it takes effect wholly or not at all.

use super::{Open, Serving};
use crate::{
    config::Config,
    connection::{accept, service::Services},
    lifecycle::watch::{Saved, Watch},
    net::{Bind, Key},
    wire::tls::TicketKeys,
};
use std::{collections::HashMap, future::pending, sync::Arc};
use tokio::task::JoinHandle;
use tracing::{error, field, info, warn};

/// What is being read to replace what is served.
pub(super) struct Reload {
    loading: JoinHandle<Result<Fresh, String>>,
    config: Arc<Config>,
    ticket_keys: Arc<TicketKeys>,
    /// The change of a plugin because of which it is done, where nobody has asked.
    saved: Option<Saved>,
    /// It was asked for once more meanwhile: what is being read may be out of date.
    again: bool,
}

/// What a reload has read.
pub(super) struct Fresh {
    services: Services,
    watch: Option<Watch>,
    binds: HashMap<Key, Bind>,
    /// The options that stay as they are until the next restart.
    differing: Vec<String>,
}

impl Serving {
    /// Reads anew what the listeners of `config` get, since a plugin was `saved` or somebody has asked. Nothing changes before it is
    /// certain that all of it can be served.
    pub(in crate::lifecycle) fn reload(
        &mut self,
        config: &Arc<Config>,
        ticket_keys: &Arc<TicketKeys>,
        saved: Option<Saved>,
    ) {
        match &mut self.reload {
            Some(reload) => {
                reload.again = true;
                // Whoever has asked is told at once what came of it.
                reload.saved = reload.saved.take().and(saved);
            }
            None => {
                let changed = saved.as_ref().map(|saved| field::display(saved.path.display()));
                info!(changed, "reloading what the listeners get");
                let (config, ticket_keys) = (Arc::clone(config), Arc::clone(ticket_keys));
                let (served, keys) = (Arc::clone(&config), Arc::clone(&ticket_keys));
                let loading = tokio::task::spawn_blocking(move || Fresh::read(&served, &keys));
                self.reload = Some(Reload { loading, config, ticket_keys, saved, again: false });
            }
        }
    }

    /// What came of it, where that is certain.
    pub(super) fn reloaded(&mut self, loaded: Result<Fresh, String>) -> Option<Result<(), String>> {
        let Reload { config, ticket_keys, saved, again, .. } = self.reload.take()?;
        if again {
            self.reload(&config, &ticket_keys, saved);
            return None;
        }
        match loaded {
            Ok(mut fresh) => {
                self.replace(&fresh);
                self.watch = fresh.watch.take();
                let ms_since_saved =
                    saved.map(|saved| u64::try_from(saved.at.elapsed().as_millis()).unwrap_or(u64::MAX));
                info!(ms_since_saved, "reloaded: new connections get what was read");
                Some(Ok(()))
            }
            Err(reason) => {
                match saved {
                    Some(saved) => saved.failed(reason.clone()),
                    None => error!("the reload failed, everything stays as it was: {reason}"),
                }
                Some(Err(reason))
            }
        }
    }

    /// From here on, connections get what was read.
    fn replace(&mut self, Fresh { services, binds, differing, .. }: &Fresh) {
        let mut incomplete = Vec::new();
        for Open { listener, wanted, acceptor, .. } in &mut self.open {
            let address = listener.address();
            if let Some(bind) = binds.get(&wanted.key).filter(|bind| **bind != wanted.bind) {
                warn!(%address, %bind, "this listener's mode is another one by now; it is in force from the next restart (USR1) on");
            }
            let Some(fresh) = services.of(&wanted.key) else {
                warn!(%address, "this listener is configured no more; it goes on as it was until the next restart (USR1)");
                continue;
            };
            wanted.service = Arc::clone(fresh);
            // Those on which nobody accepts now are served by somebody else.
            if let Some(acceptor) = acceptor {
                match listener.incoming() {
                    Ok(incoming) => {
                        let accepting = accept::serve(incoming, self.connections.clone(), Arc::clone(&wanted.service));
                        std::mem::replace(acceptor, self.acceptors.spawn(accepting)).abort();
                    }
                    // Nobody is let in by what no longer holds: whoever comes waits in the kernel's queue.
                    Err(error) => {
                        error!(%address, %error, "cannot accept on this listener yet; trying again");
                        acceptor.abort();
                        incomplete.push(listener.key().clone());
                    }
                }
            }
        }
        self.incomplete |= !incomplete.is_empty();
        for open in self.open.iter_mut().filter(|open| incomplete.contains(open.listener.key())) {
            open.acceptor = None;
        }
        for key in services.listeners().filter(|key| self.open.iter().all(|open| open.wanted.key != **key)) {
            warn!(address = %key, "this listener is new in the configuration; it is opened at the next restart (USR1)");
        }
        if !differing.is_empty() {
            warn!("changed, and in force from the next restart (USR1) on: {}", differing.join(", "));
        }
    }
}

impl Fresh {
    fn read(served: &Config, ticket_keys: &Arc<TicketKeys>) -> Result<Self, String> {
        let (config, differing) = served.again().map_err(|error| error.to_string())?;
        let watch = Watch::over(&config).map_err(|error| format!("--watch: {error}"))?;
        let services =
            Services::load(&config.plans(), config.max_connections, ticket_keys).map_err(|error| error.to_string())?;
        let binds = config.listeners.into_iter().map(|listener| (listener.key, listener.bind)).collect();
        Ok(Self { services, watch, binds, differing })
    }
}

/// Waits for what is being read, if anything is.
pub(super) async fn loaded(reload: &mut Option<Reload>) -> Result<Fresh, String> {
    match reload {
        Some(Reload { loading, .. }) => match loading.await {
            Ok(loaded) => loaded,
            Err(panic) => Err(panic.to_string()),
        },
        None => pending().await,
    }
}
