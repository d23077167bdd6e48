//! Why a connection failed.

use std::fmt;

/// A failure: a reason from a closed list, and a message.
#[derive(Debug)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// For people. Text from a guest is already escaped and shortened.
    pub message: String,
}

/// The closed list of reasons, by their names in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The guest returned an error.
    Error,
    /// The guest trapped.
    Trap,
    /// The guest asked for more memory than it may have.
    Memory,
    /// The guest used more CPU time than it may.
    CpuTime,
    /// The connection lasted longer than it may.
    WallTime,
    /// No byte moved for too long.
    Idle,
    /// The peer reset the connection.
    PeerReset,
    /// The peer did not show a certificate that is accepted.
    ClientCertificate,
    /// The process ended before the connection did.
    Drain,
    /// This host failed.
    Host,
}

/// The party that has to look into a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The author of the plugin.
    Plugin,
    /// No party: peers reset connections, and operators stop processes.
    Expected,
    /// The client. The operator of this host has to inform its operator.
    Client,
    /// The operator of this host.
    Host,
}

impl Failure {
    /// A failure whose reason says everything.
    pub fn plain(reason: Reason) -> Self {
        Self { reason, message: String::new() }
    }

    /// The message as the field of a record; `None` if it is empty.
    pub fn told(&self) -> Option<&str> {
        Some(self.message.as_str()).filter(|message| !message.is_empty())
    }
}

impl Reason {
    /// All reasons, in their order.
    pub const ALL: [Self; 10] = [
        Self::Error,
        Self::Trap,
        Self::Memory,
        Self::CpuTime,
        Self::WallTime,
        Self::Idle,
        Self::PeerReset,
        Self::ClientCertificate,
        Self::Drain,
        Self::Host,
    ];

    /// The party at fault.
    pub fn fault(self) -> Fault {
        match self {
            Self::Error | Self::Trap | Self::Memory | Self::CpuTime | Self::WallTime => Fault::Plugin,
            Self::Idle | Self::PeerReset | Self::Drain => Fault::Expected,
            Self::ClientCertificate => Fault::Client,
            Self::Host => Fault::Host,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Trap => "trap",
            Self::Memory => "memory",
            Self::CpuTime => "cpu-time",
            Self::WallTime => "wall-time",
            Self::Idle => "idle",
            Self::PeerReset => "peer-reset",
            Self::ClientCertificate => "client-certificate",
            Self::Drain => "drain",
            Self::Host => "host",
        })
    }
}
