//! The resolved listeners: their addresses, the rules for their peers, and their plugins.

use super::{
    cli::options::{HandlerOptions, ListenerOptions},
    environment::default_bind,
    error::Error,
    layers::{Layers, Origins, Route as RouteLayer},
    value::{Count, distinct, duration, kept_memory, optional_duration, parse, parse_all, plugin_kind, size, truth},
};
use crate::{
    component::{Grants, GuestStart, Kind, Limits, grants},
    connection::{admission::Policy, timeouts::Timeouts},
    net::{
        Bind, Key,
        restrict::{Proxies, Rules},
    },
    record::digest::Digest,
    wire::tls,
};
use std::path::{Path, PathBuf};

/// The most bytes that the listeners' keys may take together. One message of a handoff carries them
/// all, and has room for 32 KiB.
pub(super) const LONGEST_KEYS: usize = 28 << 10;

/// One listener, and the service of its connections.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its address.
    pub bind: Bind,
    /// Its key, under which it is handed over.
    pub key: Key,
    /// The rules for its peers.
    pub policy: Policy,
    /// Its TLS settings, if connections are encrypted.
    pub tls: Option<tls::Settings>,
    /// The timeouts of a connection.
    pub timeouts: Timeouts,
    /// The handler of its connections.
    pub handler: Handler,
    /// The routes: the first that matches a connection serves it.
    pub routes: Vec<Route>,
}

/// A plugin, and the grants and limits of its guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// The plugin's file.
    pub plugin: PathBuf,
    /// The digest that the file must have.
    pub plugin_sha256: Option<Digest>,
    /// Its kind; `None` for the first kind that matches.
    pub plugin_kind: Option<Kind>,
    /// The grants of its guests.
    pub grants: Grants,
    /// When a guest starts.
    pub guest_start: GuestStart,
    /// The limits of a guest.
    pub limits: Limits,
}

/// A handler for the connections that match its server name and protocol.
#[derive(Clone, Debug)]
pub struct Route {
    /// The server name from the TLS handshake, if it matters.
    pub server_name: Option<tls::ServerName>,
    /// The negotiated application protocol, if it matters.
    pub alpn: Option<tls::Protocol>,
    /// The handler of these connections.
    pub handler: Handler,
}

/// The listeners with a table in the file, or else one for each address that was given.
pub(super) fn listeners(layers: &Layers) -> Result<Vec<Listener>, Error> {
    const NONE: &[RouteLayer] = &[];
    let alike = |bind| (bind, &layers.options.listener, &layers.origins, NONE);
    let asked: Vec<_> = match (&*layers.listeners, &*layers.options.bind) {
        ([], []) => vec![alike(None)],
        ([], binds) => binds.iter().map(Some).map(alike).collect(),
        (own, _) => own.iter().map(|own| (Some(&own.bind), &own.options, &own.origins, &*own.routes)).collect(),
    };
    let parsed = asked.iter().map(|(uri, _, origins, _)| match uri {
        Some(uri) => parse("--bind", uri).map_err(|error| error.located(origins)),
        None => default_bind(),
    });
    let binds = parsed.collect::<Result<Vec<Bind>, _>>()?;
    let keys = Key::of(&binds);
    let bytes = keys.iter().filter_map(|key| Some(serde_json::to_string(key).ok()?.len() + 1)).sum();
    if bytes > LONGEST_KEYS {
        return Err(Error::TooManyListeners { count: keys.len(), bytes });
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for ((bind, key), (_, options, origins, routes)) in binds.into_iter().zip(keys).zip(asked) {
        apart(&bind, &key, &listeners).map_err(|error| error.located(origins))?;
        listeners.push(listener(bind, key, options, origins, routes)?);
    }
    Ok(listeners)
}

fn apart(bind: &Bind, key: &Key, earlier: &[Listener]) -> Result<(), Error> {
    for Listener { key: other, .. } in earlier {
        if other == key {
            return Err(Error::value("--bind", bind, "is given twice; give each address once"));
        }
        if other.contradicts(key) {
            let remedy = format!("cannot be bound together with {other}; give only the wider one");
            return Err(Error::value("--bind", bind, remedy));
        }
    }
    Ok(())
}

fn listener(
    bind: Bind,
    key: Key,
    options: &ListenerOptions,
    origins: &Origins,
    layers: &[RouteLayer],
) -> Result<Listener, Error> {
    let own = || {
        let timeouts = Timeouts {
            connection: optional_duration("--connection-timeout", &options.connection_timeout)?,
            idle: optional_duration("--idle-timeout", &options.idle_timeout)?,
        };
        Ok((policy(options)?, encryption(options, origins)?, timeouts, handler(&bind, &options.handler)?))
    };
    let (policy, tls, timeouts, handler) = own().map_err(|error: Error| error.located(origins))?;
    let routes =
        layers.iter().map(|layer| route(&bind, tls.as_ref(), layer).map_err(|error| error.located(&layer.origins)));
    let routes: Vec<Route> = routes.collect::<Result<_, _>>()?;
    for (index, route) in routes.iter().enumerate() {
        // The first route that matches a connection serves it.
        if let Some(first) = routes[..index].iter().position(|earlier| earlier.covers(route)) {
            let (place, first) = (layers[index].place.clone(), layers[first].place.clone());
            return Err(Error::RouteNeverTaken { place, first });
        }
    }
    Ok(Listener { bind, key, policy, tls, timeouts, handler, routes })
}

fn handler(bind: &Bind, options: &HandlerOptions) -> Result<Handler, Error> {
    let plugin = options.plugin.clone().filter(|path| !path.as_os_str().is_empty());
    Ok(Handler {
        plugin: plugin.ok_or_else(|| Error::NoPlugin(bind.clone()))?,
        plugin_sha256: options.plugin_sha256.as_deref().map(|digest| parse("--plugin-sha256", digest)).transpose()?,
        plugin_kind: plugin_kind(&options.plugin_kind)?,
        grants: Grants {
            environment: distinct("--guest-env", &options.guest_env, grants::Variable::name).map_err(without_value)?,
            arguments: distinct("--guest-arg", &options.guest_arg, |_| "")?,
            directories: distinct("--guest-dir", &options.guest_dir, grants::Directory::guest_path)?,
            targets: distinct("--guest-connect", &options.guest_connect, |_| "")?,
        },
        guest_start: parse("--guest-start", &options.guest_start)?,
        limits: Limits {
            guest_memory: size("--guest-memory", &options.guest_memory)?,
            guest_memory_kept: kept_memory(&options.guest_memory_kept)?,
            guest_cpu_time: duration("--guest-cpu-time", &options.guest_cpu_time)?,
            guest_resources: parse::<Count>("--guest-resources", &options.guest_resources)?.0.get(),
        },
    })
}

/// An error about a variable names it, and does not repeat its value.
fn without_value(error: Error) -> Error {
    let Error::Value { option, value, remedy, .. } = error else { return error };
    let is_name = |text: &str| text.chars().all(|character| character.is_ascii_uppercase() || character == '_');
    let shown = match value.split_once('=') {
        Some((name, value)) if value == "@" || value.is_empty() => format!("{name}={value}"),
        Some((name, _)) => format!("{name}=…"),
        None if is_name(&value) => value,
        None => "(not shown, since it may be a secret)".to_owned(),
    };
    Error::value(option, shown, remedy)
}

/// Only a route that a connection can take: one that never applies is a mistake.
fn route(bind: &Bind, tls: Option<&tls::Settings>, layer: &RouteLayer) -> Result<Route, Error> {
    let Some(tls) = tls else {
        return Err(Error::RouteWithoutTls { bind: bind.clone(), place: layer.place.clone() });
    };
    let alpn: Option<tls::Protocol> = layer.alpn.as_deref().map(|name| parse("alpn", name)).transpose()?;
    if let Some(protocol) = alpn.as_ref().filter(|protocol| !tls.alpn.contains(protocol)) {
        let remedy = "is not among the listener's tls-alpn, so that no client could negotiate it; add it there";
        return Err(Error::value("alpn", String::from_utf8_lossy(protocol.as_ref()), remedy));
    }
    Ok(Route {
        server_name: layer.server_name.as_deref().map(|name| parse("server-name", name)).transpose()?,
        alpn,
        handler: handler(bind, &layer.options)?,
    })
}

fn policy(options: &ListenerOptions) -> Result<Policy, Error> {
    let rules = Rules {
        allow: parse_all("--allow-network", &options.allow_network)?,
        deny: parse_all("--deny-network", &options.deny_network)?,
    };
    let proxies: Proxies = parse_all("--proxy-protocol", &options.proxy_protocol)?;
    if let Some(proxy) = proxies.shut_out_by(&rules) {
        let remedy = "is in --deny-network, which wins, so no proxy there could connect; remove it from one of them";
        return Err(Error::value("--proxy-protocol", proxy, remedy));
    }
    let most_per_ip = match options.max_connections_per_ip.as_str() {
        "none" => None,
        count => match parse::<Count>("--max-connections-per-ip", count) {
            Ok(Count(count)) => Some(count),
            Err(_) => {
                let remedy = "is not a whole number from 1 to 1000000; none disables it";
                return Err(Error::value("--max-connections-per-ip", count, remedy));
            }
        },
    };
    Ok(Policy { rules, proxies, most_per_ip })
}

/// `None` if the listener says that it has no certificate, whatever the others have.
fn encryption(options: &ListenerOptions, origins: &Origins) -> Result<Option<tls::Settings>, Error> {
    if options.tls_certificate.is_empty() && origins.given("tls-certificate") {
        return Ok(None);
    }
    let verify = options.verify_client_certificate.as_deref();
    let options = tls::Options {
        certificates: options.tls_certificate.clone(),
        keys: options.tls_key.clone(),
        min_version: options.tls_min_version.as_deref().map(|text| parse("--tls-min-version", text)).transpose()?,
        alpn: options.tls_alpn.iter().map(|name| parse("--tls-alpn", name)).collect::<Result<_, _>>()?,
        client_ca: options.client_ca.clone(),
        verify_client: verify.map(|text| truth("--verify-client-certificate", text)).transpose()?,
        handshake_timeout: duration("--handshake-timeout", &options.handshake_timeout)?,
    };
    Ok(options.settings()?)
}

impl Route {
    /// Whether it matches every connection that the other one matches.
    fn covers(&self, other: &Self) -> bool {
        let by_name = match (&self.server_name, &other.server_name) {
            (Some(own), Some(others)) => own.includes(others),
            (own, _) => own.is_none(),
        };
        by_name && (self.alpn.is_none() || self.alpn == other.alpn)
    }
}

impl Listener {
    /// Every handler of the listener.
    pub fn handlers(&self) -> impl Iterator<Item = &Handler> {
        [&self.handler].into_iter().chain(self.routes.iter().map(|route| &route.handler))
    }

    /// The files of the listener, with the options that name them.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.handlers().flat_map(Self::files_of).chain(self.tls_files())
    }

    /// The files of one of its handlers.
    pub(super) fn files_of(handler: &Handler) -> impl Iterator<Item = (&'static str, &Path)> {
        let Grants { environment, directories, .. } = &handler.grants;
        let secrets = environment.iter().filter_map(|variable| Some(("--guest-env", variable.file()?)));
        let directories = directories.iter().map(|directory| ("--guest-dir", directory.host_path()));
        [("--plugin", handler.plugin.as_path())].into_iter().chain(secrets).chain(directories)
    }

    /// The files of its TLS settings.
    pub(super) fn tls_files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.tls.iter().flat_map(tls::Settings::files)
    }
}
