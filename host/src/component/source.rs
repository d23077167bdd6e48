//! What a plugin is loaded from, and with which options.

use super::{grants::Grants, kind::Kind};
use crate::record::digest::Digest;
use std::{num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

/// How a plugin is to be loaded and its guests to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What it must be, where that was said.
    pub digest: Option<Digest>,
    /// What kind it is taken for, where that was said.
    pub kind: Option<Kind>,
    /// What its guests are granted.
    pub grants: Grants,
    /// Where its compiled form is kept.
    pub cache_dir: Option<PathBuf>,
    /// When its guests start.
    pub start: GuestStart,
    /// Whether it may be of WASI 0.3.
    pub wasi_0_3: Wasi03,
    /// What its guests may use.
    pub limits: Limits,
    /// How many of them there are at most.
    pub max_connections: NonZeroU32,
}

/// When the guest of a connection starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestStart {
    /// As soon as the connection is accepted.
    Accept,
    /// When the peer has sent something, or has closed its side.
    FirstByte,
    /// At the first byte where the plugin's first guest did nothing before it, else at accept.
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
    /// They are.
    Served,
    /// They are refused at boot.
    Disabled,
}

/// The bounds of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory it may have, over all its linear memories.
    pub guest_memory: usize,
    /// Bytes of it that stay with the host when it is gone, where that was said.
    pub guest_memory_kept: Option<usize>,
    /// CPU time it may use while its connection moves no byte.
    pub guest_cpu_time: Duration,
    /// Resources it may hold: streams, pollables, bodies, descriptors.
    pub guest_resources: u32,
}
