//! The facts about its connection that a command gets: the environment variables of UCSPI, as set
//! by `tcpserver`, `sslserver`, `unixserver` and s6-networking.

use super::facts::Facts;
use crate::{
    net::{ListenerAddress, LocalAddress},
    wire::tls::Session,
};

/// The variables of one connection.
pub(in crate::guest) fn variables(facts: &Facts) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
    let (version, server_name) = facts.wire.session(of_tls).unwrap_or_default();
    match (facts.peer.socket(), &facts.listener) {
        (Some(peer), _) => {
            // Programs written for tcpserver find its names under TLS too.
            let protocols: &[&str] = if version.is_some() { &["SSL", "TCP"] } else { &["TCP"] };
            set("PROTO", protocols.first().copied().unwrap_or_default().to_owned());
            for protocol in protocols {
                set(&format!("{protocol}REMOTEIP"), peer.ip().to_string());
                set(&format!("{protocol}REMOTEPORT"), peer.port().to_string());
                if let Some(local) = facts.local().map(LocalAddress::socket) {
                    set(&format!("{protocol}LOCALIP"), local.ip().to_string());
                    set(&format!("{protocol}LOCALPORT"), local.port().to_string());
                }
            }
        }
        (None, listener) => {
            set("PROTO", "UNIX".to_owned());
            if let ListenerAddress::Unix(path) = listener {
                set("UNIXLOCALPATH", path.to_string());
            }
            if let Some(peer) = facts.wire.peer_process() {
                // Zero if it is in another pid namespace.
                if peer.pid() != 0 {
                    set("UNIXREMOTEPID", peer.pid().to_string());
                }
                set("UNIXREMOTEEUID", peer.uid().to_string());
                set("UNIXREMOTEEGID", peer.gid().to_string());
            }
        }
    }
    // The names of sslserver, s6-tlsd and Apache's mod_ssl.
    if let Some(version) = version {
        set("SSL_PROTOCOL", version);
    }
    if let Some(server_name) = server_name {
        set("SSL_TLS_SNI_SERVERNAME", server_name);
    }
    variables
}

fn of_tls(session: &Session) -> (Option<String>, Option<String>) {
    (session.version().map(str::to_owned), session.server_name().map(str::to_owned))
}
