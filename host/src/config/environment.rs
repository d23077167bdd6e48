//! The environment beyond the variables of options: what a service manager, an anchor, a
//! predecessor or a platform has set.

use super::{error::Error, layers::Layers, program::absolute, supervision::Supervision, value::parse};
use crate::{
    handoff::{
        start,
        starter::{self, StartRequest},
    },
    net::{Activation, ActivationError, Bind, Variables},
    system::kernel,
};
use std::{
    env,
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    os::{fd::RawFd, unix::process::parent_id},
    path::{Path, PathBuf},
    process,
    str::FromStr,
};

/// The variable that tells generations about an anchor. It holds the anchor's process id.
pub const ANCHORED_VARIABLE: &str = "UNINTERRUPTIBLE_ANCHORED_BY";

/// The options of an anchor.
#[derive(Debug)]
pub struct Launch {
    /// The path by which this program was started.
    pub program: PathBuf,
    /// The arguments with which it was started.
    pub arguments: Vec<OsString>,
    /// The socket of the anchor's own supervisor.
    pub notify_socket: Option<OsString>,
    /// The number of descriptors that the service manager has passed, for the first generation.
    pub passed: usize,
}

/// The file in which tests inject faults.
pub(super) const FAULTS_VARIABLE: &str = "UNINTERRUPTIBLE_FAULTS";

/// The port without any listener configured.
const DEFAULT_PORT: u16 = 7000;

/// Whether this process is to be the anchor, and its options then. Call this before any thread
/// exists.
///
/// # Errors
///
/// If the option is not valid, or this program's path cannot be found.
pub fn anchor(layers: &Layers) -> Result<Option<Launch>, Error> {
    let first = process::id() == 1;
    let wanted = match parse("--anchor", &layers.options.anchor).map_err(|error| error.located(&layers.origins))? {
        Anchored::Auto => Supervision::of_this().is_some(),
        Anchored::Always => true,
        Anchored::Never => false,
    };
    // Process 1 has no anchor above it, whatever its environment says.
    if !wanted || (is_anchored() && !first) {
        return Ok(None);
    }
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let program = absolute(Path::new(&name)).ok_or(Error::Program(name))?;
    let passed = passed_sockets().count_for(process::id())?;
    Ok(Some(Launch { program, arguments: words.collect(), notify_socket: env::var_os("NOTIFY_SOCKET"), passed }))
}

/// Whether this process is to be an anchor.
pub(super) enum Anchored {
    Auto,
    Always,
    Never,
}

impl FromStr for Anchored {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err("is not one of auto, always, never"),
        }
    }
}

/// Whether an anchor started this process or an earlier generation.
pub(super) fn is_anchored() -> bool {
    env::var_os(ANCHORED_VARIABLE).is_some()
}

/// The supervision of this process, unless an anchor or a predecessor started it.
pub(super) fn supervision() -> Option<Supervision> {
    let has_predecessor = env::var_os(start::CHANNEL_VARIABLE).is_some();
    if is_anchored() || has_predecessor { None } else { Supervision::of_this() }
}

/// The sockets from the service manager, passed to this process or to the anchor that has just
/// started it. Call this once.
///
/// # Errors
///
/// If its variables are not valid.
pub fn activation() -> Result<Activation, ActivationError> {
    let anchor = env::var(ANCHORED_VARIABLE).ok().and_then(|pid| pid.parse().ok());
    let parent = anchor.filter(|anchor| *anchor == parent_id());
    let recipients: Vec<u32> = [process::id()].into_iter().chain(parent).collect();
    Activation::take(&passed_sockets(), &recipients)
}

/// Children must not take the sockets for their own: `start` removes the variables from their
/// environment.
fn passed_sockets() -> Variables {
    let [pid, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]
        .map(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()));
    Variables { pid, count, names }
}

/// The address without any listener configured: the port that a platform has chosen, or a loopback
/// address.
pub(super) fn default_bind() -> Result<Bind, Error> {
    let Some(port) = env::var_os("PORT") else {
        return Ok(Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))));
    };
    let port = port.to_string_lossy();
    // `parse` alone would accept a sign.
    let number = Some(&*port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    match number.and_then(|port| port.parse().ok()) {
        Some(port) => Ok(Bind::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))),
        None => Err(Error::value("PORT", port, "is not a number from 0 to 65535; set one, unset it, or give --bind")),
    }
}

/// The descriptor of the channel that a predecessor has left to this process, if any.
///
/// Children must not find it: `start` removes the variable from their environment.
///
/// # Errors
///
/// If the variable does not hold a descriptor.
pub fn handoff_channel() -> Result<Option<RawFd>, Error> {
    let Some(number) = env::var_os(start::CHANNEL_VARIABLE) else { return Ok(None) };
    let parsed = number.to_str().and_then(|number| number.parse().ok()).filter(|number| *number > 2);
    parsed.map(Some).ok_or(Error::Channel(number))
}

/// The successor to start for a predecessor, if this process is a starter and is not to serve.
pub fn starting() -> Option<StartRequest> {
    let mut words = env::args_os();
    words.next().filter(|name| name == starter::NAME)?;
    let line = kernel::inherited(words.next()?.to_str()?.parse().ok()?, |_| true)?;
    let channel = kernel::inherited(handoff_channel().ok()??, |_| true)?;
    let program = PathBuf::from(words.next()?);
    Some(StartRequest { line: line.into(), channel, program, arguments: words.collect() })
}

/// The file in which tests inject faults, in builds that support it.
pub fn fault_orders() -> Option<PathBuf> {
    env::var_os(FAULTS_VARIABLE).map(PathBuf::from)
}
