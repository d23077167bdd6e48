//! Answers with all facts about its connection, a `key=value` a line: keys as in the contract,
//! bytes in hexadecimal, certificates joined by commas, `none` for absent values.

use std::io::{self, Write};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let certificates: Vec<String> = connection.tls_peer_certificates().iter().map(|der| hex(der)).collect();
    let facts = [
        ("id", Some(connection.id())),
        ("peer-address", Some(connection.peer_address())),
        ("local-address", Some(connection.local_address())),
        ("listener", Some(connection.listener())),
        ("tls-version", connection.tls_version()),
        ("tls-server-name", connection.tls_server_name()),
        ("tls-alpn", connection.tls_alpn().map(|name| hex(&name))),
        ("tls-peer-certificates", (!certificates.is_empty()).then(|| certificates.join(","))),
        ("is-draining", Some(connection.is_draining().to_string())),
    ];
    for (key, value) in facts {
        writeln!(connection, "{key}={}", value.as_deref().unwrap_or("none"))?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
