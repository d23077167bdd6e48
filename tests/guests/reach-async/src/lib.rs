//! The guest `reach` on WASI 0.3: the verbs that the host answers with code of its own there.
//! Errors have their names in Rust.
#![allow(missing_docs, reason = "generated bindings")]

use std::{io, net::SocketAddr};
use uninterruptible_guest::asynchronous::Connection;
use wasi::{
    filesystem::{
        preopens::get_directories,
        types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags},
    },
    sockets::{
        ip_name_lookup::resolve_addresses,
        types::{
            IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket, UdpSocket,
        },
    },
};

wit_bindgen::generate!({
    inline: "
        package test:guest;
        world guest {
            import wasi:filesystem/types@0.3.0;
            import wasi:filesystem/preopens@0.3.0;
            import wasi:sockets/types@0.3.0;
            import wasi:sockets/ip-name-lookup@0.3.0;
        }
    ",
    path: ["../wit/filesystem-0.3", "../wit/sockets-0.3"],
    generate_all,
});

#[uninterruptible_guest::handler]
async fn handle_request(mut connection: Connection) -> io::Result<()> {
    let directories = get_directories();
    let mut line = String::new();
    loop {
        line.clear();
        if connection.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["lookup", name] => match resolve_addresses((*name).to_owned()).await {
                Ok(addresses) => addresses.iter().map(written).collect::<Vec<_>>().join(" "),
                Err(code) => format!("{code:?}"),
            },
            ["connect", address] => told(connected(address).await),
            ["connect", address, count] => {
                let mut kept = Vec::new();
                let mut end = String::new();
                for _ in 0..count.parse().expect("a number") {
                    match connected(address).await {
                        Ok(socket) => kept.push(socket),
                        Err(error) => {
                            end = format!(" then {error}");
                            break;
                        }
                    }
                }
                format!("{}{end}", kept.len())
            }
            ["bind", address] => told(bound(address)),
            ["listen"] => told(
                TcpSocket::create(IpAddressFamily::Ipv4)
                    .and_then(|socket| socket.listen())
                    .map_err(|code| format!("{code:?}")),
            ),
            ["udp"] => told(UdpSocket::create(IpAddressFamily::Ipv4).map_err(|code| format!("{code:?}"))),
            words => files(&directories, words).await.unwrap_or_else(|code| format!("{code:?}")),
        };
        connection.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;

async fn files(directories: &[(Descriptor, String)], words: &[&str]) -> Result<String, ErrorCode> {
    let place = |path: &str| {
        let (number, path) = path.split_once(':').expect("a number and a path");
        (&directories[number.parse::<usize>().expect("a number")].0, path.to_owned())
    };
    match words {
        ["read", path] => {
            let (dir, path) = place(path);
            let file = dir.open_at(FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ).await?;
            let (bytes, outcome) = file.read_via_stream(0);
            let bytes = bytes.collect().await;
            outcome.await?;
            Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
        }
        ["create", path] => {
            let (dir, path) = place(path);
            dir.open_at(FOLLOW, path, OpenFlags::CREATE, DescriptorFlags::WRITE).await?;
            Ok("ok".to_owned())
        }
        ["hold", path, count] => {
            let (dir, path) = place(path);
            let mut kept = Vec::new();
            for _ in 0..count.parse().expect("a number") {
                match dir.open_at(FOLLOW, path.clone(), OpenFlags::empty(), DescriptorFlags::READ).await {
                    Ok(file) => kept.push(file),
                    Err(code) => return Ok(format!("{} then {code:?}", kept.len())),
                }
            }
            Ok(format!("{}", kept.len()))
        }
        ["hold-listings", path, count] => {
            let (dir, path) = place(path);
            let dir = dir.open_at(FOLLOW, path, OpenFlags::DIRECTORY, DescriptorFlags::READ).await?;
            let mut kept = Vec::new();
            for _ in 0..count.parse().expect("a number") {
                kept.push(dir.read_directory());
            }
            let mut refused = 0;
            let count = kept.len();
            for (entries, outcome) in kept {
                drop(entries);
                refused += usize::from(outcome.await.is_err());
            }
            Ok(format!("{} then {refused} refused", count - refused))
        }
        ["list", path] => {
            let (dir, path) = place(path);
            let dir = dir.open_at(FOLLOW, path, OpenFlags::DIRECTORY, DescriptorFlags::READ).await?;
            let (entries, outcome) = dir.read_directory();
            let mut names: Vec<String> = entries.collect().await.into_iter().map(|entry| entry.name).collect();
            outcome.await?;
            names.sort();
            Ok(format!("{names:?}"))
        }
        ["touch", path] => {
            let (dir, path) = place(path);
            dir.set_times_at(FOLLOW, path, NewTimestamp::Now, NewTimestamp::Now).await?;
            Ok("ok".to_owned())
        }
        words => panic!("{words:?} is nothing that this guest can do"),
    }
}

fn told<T>(outcome: Result<T, String>) -> String {
    outcome.map_or_else(|error| error, |_| "ok".to_owned())
}

async fn connected(address: &str) -> Result<TcpSocket, String> {
    let (family, address) = parsed(address);
    let socket = TcpSocket::create(family).map_err(|code| format!("{code:?}"))?;
    socket.connect(address).await.map_err(|code| format!("{code:?}"))?;
    Ok(socket)
}

fn bound(address: &str) -> Result<(), String> {
    let (family, address) = parsed(address);
    TcpSocket::create(family).and_then(|socket| socket.bind(address)).map_err(|code| format!("{code:?}"))
}

fn written(address: &IpAddress) -> String {
    match *address {
        IpAddress::Ipv4((a, b, c, d)) => std::net::Ipv4Addr::new(a, b, c, d).to_string(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h).to_string(),
    }
}

fn parsed(address: &str) -> (IpAddressFamily, IpSocketAddress) {
    match address.parse().expect("an address and a port") {
        SocketAddr::V4(address) => {
            let [a, b, c, d] = address.ip().octets();
            let address = Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) };
            (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(address))
        }
        SocketAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.ip().segments();
            let port = address.port();
            let address = Ipv6SocketAddress { port, flow_info: 0, address: (a, b, c, d, e, f, g, h), scope_id: 0 };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
        }
    }
}
