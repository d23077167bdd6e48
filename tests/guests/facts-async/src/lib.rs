//! The guest `facts` on the 0.3 contract: the same lines.

use std::io;

use uninterruptible_guest::asynchronous::Connection;

#[uninterruptible_guest::handler]
async fn handle_request(mut connection: Connection) -> io::Result<()> {
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
        writeln!(connection, "{key}={}", value.as_deref().unwrap_or("none")).await?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
