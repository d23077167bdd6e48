//! The source of a plugin, and the options for loading it.

use super::{grants::Grants, kind::Kind};
use crate::record::digest::Digest;
use std::{num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

/// How to load a plugin and run its guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The digest that it must have, if the operator gives one.
    pub digest: Option<Digest>,
    /// The kind as which to serve it, if the operator names one.
    pub kind: Option<Kind>,
    /// The grants of its guests.
    pub grants: Grants,
    /// The directory of its compiled form.
    pub cache_dir: Option<PathBuf>,
    /// When its guests start.
    pub start: GuestStart,
    /// Whether it may use WASI 0.3.
    pub wasi_0_3: Wasi03,
    /// Whether it may be served without the engine's component layer.
    pub component_layer: ComponentLayer,
    /// The limits of each guest.
    pub limits: Limits,
    /// The most guests at once.
    pub max_connections: NonZeroU32,
}

/// When the guest of a connection starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestStart {
    /// As soon as the connection is accepted.
    Accept,
    /// When the peer has sent a byte, or has closed its side.
    FirstByte,
    /// At the first byte if the plugin's trial guest did nothing before it, else at accept.
    Auto,
}

impl FromStr for GuestStart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "accept" => Ok(Self::Accept),
            "first-byte" => Ok(Self::FirstByte),
            "auto" => Ok(Self::Auto),
            _ => Err("is not one of auto, accept, first-byte"),
        }
    }
}

/// Whether plugins of WASI 0.3 are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi03 {
    /// They are served.
    Served,
    /// They are rejected at start.
    Disabled,
}

/// Whether components are served through the engine's component layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentLayer {
    /// Only those that need it: the others start faster without.
    Auto,
    /// All of them.
    Keep,
}

impl FromStr for ComponentLayer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "keep" => Ok(Self::Keep),
            _ => Err("is not one of auto, keep"),
        }
    }
}

/// The limits of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory over all its linear memories.
    pub guest_memory: usize,
    /// Bytes of it that stay mapped for the next guest, if set.
    pub guest_memory_kept: Option<usize>,
    /// CPU time that it may use while its connection moves no byte.
    pub guest_cpu_time: Duration,
    /// Resources that it may hold: streams, pollables, bodies, descriptors.
    pub guest_resources: u32,
}
