//! Reloading what the listeners serve: it takes effect completely or not at all.

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

/// A reload under way.
pub(super) struct Reload {
    loading: JoinHandle<Result<Fresh, String>>,
    config: Arc<Config>,
    ticket_keys: Arc<TicketKeys>,
    /// The change of a plugin that caused it, if no operator did.
    saved: Option<Saved>,
    /// Another reload was requested meanwhile, so the loaded files may be out of date.
    again: bool,
}

/// The result of a reload, before it takes effect.
pub(super) struct Fresh {
    services: Services,
    watch: Option<Watch>,
    binds: HashMap<Key, Bind>,
    /// Options that change only with the next restart.
    differing: Vec<String>,
}

impl Serving {
    /// Starts to reload what the listeners of `config` serve, because a plugin was `saved` or an
    /// operator asked. Nothing changes until all of it is known to be servable.
    pub(in crate::lifecycle) fn reload(
        &mut self,
        config: &Arc<Config>,
        ticket_keys: &Arc<TicketKeys>,
        saved: Option<Saved>,
    ) {
        match &mut self.reload {
            Some(reload) => {
                reload.again = true;
                // An operator's request gets the outcome at once.
                reload.saved = reload.saved.take().and(saved);
            }
            None => {
                let changed = saved.as_ref().map(|saved| field::display(saved.path.display()));
                info!(changed, "reloading");
                let (config, ticket_keys) = (Arc::clone(config), Arc::clone(ticket_keys));
                let (served, keys) = (Arc::clone(&config), Arc::clone(&ticket_keys));
                let loading = tokio::task::spawn_blocking(move || Fresh::read(&served, &keys));
                self.reload = Some(Reload { loading, config, ticket_keys, saved, again: false });
            }
        }
    }

    /// The outcome of the reload, unless it has to run once more.
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
                info!(ms_since_saved, "reloaded");
                Some(Ok(()))
            }
            Err(reason) => {
                match saved {
                    Some(saved) => saved.failed(reason.clone()),
                    None => error!(error = %reason, "reload failed, nothing changed"),
                }
                Some(Err(reason))
            }
        }
    }

    /// From here on connections get the new services.
    fn replace(&mut self, Fresh { services, binds, differing, .. }: &Fresh) {
        let mut incomplete = Vec::new();
        for Open { listener, wanted, acceptor, .. } in &mut self.open {
            let address = listener.address();
            if let Some(bind) = binds.get(&wanted.key).filter(|bind| **bind != wanted.bind) {
                warn!(%address, %bind, "mode change needs a restart");
            }
            let Some(fresh) = services.of(&wanted.key) else {
                warn!(%address, "removed listener needs a restart");
                continue;
            };
            wanted.service = Arc::clone(fresh);
            // Listeners without an accept loop are served by another process now.
            if let Some(acceptor) = acceptor {
                match listener.incoming() {
                    Ok(incoming) => {
                        let accepting = accept::serve(incoming, self.connections.clone(), Arc::clone(&wanted.service));
                        std::mem::replace(acceptor, self.acceptors.spawn(accepting)).abort();
                    }
                    // The old rules must not admit peers any more, so new connections wait in the
                    // kernel's queue.
                    Err(error) => {
                        error!(%address, %error, "accept failed, retrying");
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
            warn!(address = %key, "new listener needs a restart");
        }
        if !differing.is_empty() {
            warn!(options = differing.join(", "), "changed options need a restart");
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

/// Waits for the load under way, if any.
pub(super) async fn loaded(reload: &mut Option<Reload>) -> Result<Fresh, String> {
    match reload {
        Some(Reload { loading, .. }) => match loading.await {
            Ok(loaded) => loaded,
            Err(panic) => Err(panic.to_string()),
        },
        None => pending().await,
    }
}
