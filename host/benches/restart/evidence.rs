//! Reports what the kernel knows of an unanswered TCP connection, as evidence of its cause.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::family::Family;

/// Both ends of this client's connection, a line each: the state, the bytes that wait to be sent
/// and to be read, and the process that holds it. A connection that waits to be accepted has no
/// process.
pub(crate) fn of(client: SocketAddr) -> String {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let Some(client) = hexadecimal(client) else { return String::new() };
    let mut ends = String::new();
    for line in table.lines().filter(|line| line.contains(&client)) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, state, queues, _, _, _, _, inode, ..] = fields[..] else { continue };
        let end = match () {
            () if local == client => "client's end",
            () if remote == client => "host's end",
            () => continue,
        };
        let holder = holder(inode).unwrap_or_else(|| "no process of the service".to_owned());
        ends.push_str(&format!("; {end}: state {state}, queued to send:read {queues}, held by {holder}"));
    }
    ends
}

/// The form of the kernel's table: the address as a number in memory order, in hexadecimal, and the
/// port.
fn hexadecimal(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V4(address) => {
            Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
        }
        SocketAddr::V6(_) => None,
    }
}

/// The process of the service that has this socket open.
fn holder(inode: &str) -> Option<String> {
    let socket = PathBuf::from(format!("socket:[{inode}]"));
    let family = Family::now().ok()?;
    let has_it = |pid: &&nix::unistd::Pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| link == socket)
    };
    family.alive.iter().find(has_it).map(|pid| format!("process {pid}"))
}
