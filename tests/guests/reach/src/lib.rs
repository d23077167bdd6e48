//! Uses files, sockets and its environment as each line says. It bypasses the C library, which
//! would itself reject calls that the host has to reject, unless the word begins with `standard`.
//! It answers each line with `ok`, the result, or the name of the error.
//!
//! A path begins with the number of the directory that it starts from: `0:notes/today`.

use std::io::{self, BufRead, Write};
use uninterruptible_guest::Connection;
use wasip2::{
    cli::environment,
    filesystem::{
        preopens::get_directories,
        types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags},
    },
    sockets::{
        instance_network::instance_network,
        ip_name_lookup::resolve_addresses,
        network::{self, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress},
        tcp_create_socket::create_tcp_socket,
        udp_create_socket::create_udp_socket,
    },
};

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let directories = get_directories();
    let mut line = String::new();
    loop {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["environment"] => Ok(format!("{:?}", environment::get_environment())),
            ["arguments"] => Ok(format!("{:?}", environment::get_arguments())),
            ["directories"] => {
                Ok(format!("{:?}", directories.iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>()))
            }
            [verb @ ("connect" | "bind" | "listen"), address] => socket(verb, address),
            ["connect", address, count] => many(count, || connected(address)),
            ["sockets", count] => many(count, || create_tcp_socket(IpAddressFamily::Ipv4).map_err(network_name)),
            ["standard-read", path] => {
                std::fs::read_to_string(path).map(|text| text.trim_end().to_owned()).map_err(|error| error.to_string())
            }
            ["standard-write", path, text] => {
                std::fs::write(path, text).map(|()| "ok".to_owned()).map_err(|error| error.to_string())
            }
            ["standard-list", path] => standard_list(path).map_err(|error| error.to_string()),
            ["udp"] => create_udp_socket(IpAddressFamily::Ipv4).map(|_| "ok".to_owned()).map_err(network_name),
            ["lookup", name] => lookup(name),
            words => files(&directories, words).map_err(|code| code.name().to_owned()),
        };
        connection.write_all(format!("{}\n", answer.unwrap_or_else(|error| error)).as_bytes())?;
    }
}

const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;

fn files(directories: &[(Descriptor, String)], words: &[&str]) -> Result<String, ErrorCode> {
    let place = |path: &str| {
        let (number, path) = path.split_once(':').expect("a number and a path");
        (&directories[number.parse::<usize>().expect("a number")].0, path.to_owned())
    };
    match words {
        ["read", path] => {
            let (dir, path) = place(path);
            let file = dir.open_at(FOLLOW, &path, OpenFlags::empty(), DescriptorFlags::READ)?;
            let (bytes, _) = file.read(4096, 0)?;
            return Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        }
        ["write", path, text] => {
            let (dir, path) = place(path);
            let file = dir.open_at(FOLLOW, &path, OpenFlags::CREATE, DescriptorFlags::WRITE)?;
            file.write(text.as_bytes(), 0)?;
        }
        ["truncate", path] => {
            let (dir, path) = place(path);
            dir.open_at(FOLLOW, &path, OpenFlags::TRUNCATE, DescriptorFlags::READ)?;
        }
        ["no-follow", path] => {
            let (dir, path) = place(path);
            dir.open_at(PathFlags::empty(), &path, OpenFlags::empty(), DescriptorFlags::READ)?;
        }
        // Through a descriptor that was opened for reading.
        ["write-by-reading", path] => {
            let (dir, path) = place(path);
            let file = dir.open_at(FOLLOW, &path, OpenFlags::empty(), DescriptorFlags::READ)?;
            file.write(b"overwritten", 0)?;
        }
        // From a directory that was opened below the granted one.
        ["below", path, further] => {
            let (dir, path) = place(path);
            let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
            let dir = dir.open_at(FOLLOW, &path, OpenFlags::DIRECTORY, flags)?;
            dir.open_at(FOLLOW, further, OpenFlags::empty(), DescriptorFlags::READ)?;
        }
        ["hold", path, count] => {
            let (dir, path) = place(path);
            return many(count, || {
                dir.open_at(FOLLOW, &path, OpenFlags::empty(), DescriptorFlags::READ)
                    .map_err(|code| code.name().to_owned())
            })
            .map_err(|_| ErrorCode::Io);
        }
        // The stream alone keeps the file open.
        ["hold-streams", path, count] => {
            let (dir, path) = place(path);
            return many(count, || {
                dir.open_at(FOLLOW, &path, OpenFlags::empty(), DescriptorFlags::READ)
                    .and_then(|file| file.read_via_stream(0))
                    .map_err(|code| code.name().to_owned())
            })
            .map_err(|_| ErrorCode::Io);
        }
        ["hoard-streams", path, count] => {
            let (dir, path) = place(path);
            let file = dir.open_at(FOLLOW, &path, OpenFlags::empty(), DescriptorFlags::READ)?;
            return many(count, || file.read_via_stream(0).map_err(|code| code.name().to_owned()))
                .map_err(|_| ErrorCode::Io);
        }
        ["again-and-again", path, count] => {
            let (dir, path) = place(path);
            for _ in 0..count.parse().expect("a number") {
                dir.open_at(FOLLOW, &path, OpenFlags::empty(), DescriptorFlags::READ)?;
            }
        }
        ["list", path] => {
            let (dir, path) = place(path);
            let dir = dir.open_at(FOLLOW, &path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
            let entries = dir.read_directory()?;
            let mut names = Vec::new();
            while let Some(entry) = entries.read_directory_entry()? {
                names.push(entry.name);
            }
            names.sort();
            return Ok(format!("{names:?}"));
        }
        ["stat", path] => {
            let (dir, path) = place(path);
            return Ok(format!("{:?}", dir.stat_at(FOLLOW, &path)?.type_));
        }
        ["touch", path] => {
            let (dir, path) = place(path);
            dir.set_times_at(FOLLOW, &path, NewTimestamp::Now, NewTimestamp::Now)?;
        }
        ["read-link", path] => {
            let (dir, path) = place(path);
            return dir.readlink_at(&path);
        }
        ["symlink", target, path] => {
            let (dir, path) = place(path);
            dir.symlink_at(target, &path)?;
        }
        ["link", from, to] => {
            let ((from_dir, from), (to_dir, to)) = (place(from), place(to));
            from_dir.link_at(PathFlags::empty(), &from, to_dir, &to)?;
        }
        ["rename", from, to] => {
            let ((from_dir, from), (to_dir, to)) = (place(from), place(to));
            from_dir.rename_at(&from, to_dir, &to)?;
        }
        ["make-directory", path] => {
            let (dir, path) = place(path);
            dir.create_directory_at(&path)?;
        }
        ["remove", path] => {
            let (dir, path) = place(path);
            dir.unlink_file_at(&path)?;
        }
        words => panic!("{words:?} is nothing that this guest can do"),
    }
    Ok("ok".to_owned())
}

fn standard_list(path: &str) -> io::Result<String> {
    let entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = entries.collect::<io::Result<Vec<String>>>()?;
    names.sort();
    Ok(format!("{names:?}"))
}

/// Does something this often, keeps the results, and reports the number of successes and the end.
fn many<T>(count: &str, mut make: impl FnMut() -> Result<T, String>) -> Result<String, String> {
    let mut kept = Vec::new();
    for _ in 0..count.parse().expect("a number") {
        match make() {
            Ok(made) => kept.push(made),
            Err(error) => return Ok(format!("{} then {error}", kept.len())),
        }
    }
    Ok(format!("{}", kept.len()))
}

fn network_name(code: network::ErrorCode) -> String {
    code.name().to_owned()
}

fn socket(verb: &str, address: &str) -> Result<String, String> {
    if verb == "connect" {
        return connected(address).map(|_| "ok".to_owned());
    }
    let address = parsed(address);
    let socket = create_tcp_socket(family(&address)).map_err(network_name)?;
    let network = instance_network();
    let started = socket.start_bind(&network, address).and_then(|()| socket.finish_bind());
    if verb == "bind" {
        return started.map(|()| "ok".to_owned()).map_err(network_name);
    }
    started
        .and_then(|()| socket.start_listen())
        .and_then(|()| socket.finish_listen())
        .map(|()| "ok".to_owned())
        .map_err(network_name)
}

/// Returns everything that keeps the connection open.
fn connected(address: &str) -> Result<impl Sized + use<>, String> {
    let address = parsed(address);
    let socket = create_tcp_socket(family(&address)).map_err(network_name)?;
    socket.start_connect(&instance_network(), address).map_err(network_name)?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok((input, output, socket)),
            Err(network::ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(code) => return Err(network_name(code)),
        }
    }
}

fn lookup(name: &str) -> Result<String, String> {
    let addresses = resolve_addresses(&instance_network(), name).map_err(network_name)?;
    let mut found = Vec::new();
    loop {
        match addresses.resolve_next_address() {
            Ok(Some(IpAddress::Ipv4((a, b, c, d)))) => found.push(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            Ok(Some(IpAddress::Ipv6((a, b, c, d, e, f, g, h)))) => {
                found.push(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h).to_string());
            }
            Ok(None) => return Ok(found.join(" ")),
            Err(network::ErrorCode::WouldBlock) => addresses.subscribe().block(),
            Err(code) => return Err(network_name(code)),
        }
    }
}

fn family(address: &IpSocketAddress) -> IpAddressFamily {
    match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

fn parsed(address: &str) -> IpSocketAddress {
    match address.parse().expect("an address and a port") {
        std::net::SocketAddr::V4(address) => {
            let [a, b, c, d] = address.ip().octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) })
        }
        std::net::SocketAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.ip().segments();
            IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port: address.port(),
                flow_info: 0,
                address: (a, b, c, d, e, f, g, h),
                scope_id: 0,
            })
        }
    }
}
