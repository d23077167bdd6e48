//! The paths, directories and addresses that tests use.

use super::run::{begin, root};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
};

/// A plugin or a test guest by its name, as `plugins/build` leaves it, or a path from the root.
pub fn plugin(name: &str) -> PathBuf {
    let places = [format!("target/plugins/{name}.wasm"), format!("target/test-guests/{name}.wasm"), name.to_owned()];
    let found = places.iter().map(|place| root().join(place)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no plugin {name}: run plugins/build first"))
}

/// A directory for one test, removed when it has passed.
pub fn directory() -> tempfile::TempDir {
    begin();
    tempfile::tempdir().unwrap()
}

/// A path in the grammar of `--bind`.
pub fn unix_uri(path: &Path) -> String {
    format!("unix://{}", path.to_str().unwrap())
}

/// Addresses for tests that must know their port before the host binds it: a configuration file, a
/// command line without a ready line, or a listener that comes later. They are free, share one IP
/// address of 127.0.0.0/8 that no other test has, and differ in their ports. Only a socket that is
/// bound to all addresses could take such a port first.
pub fn own_addresses<const N: usize>() -> [SocketAddr; N] {
    static TESTS: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // Tests name addresses below 127.128 themselves.
    let ip = Ipv4Addr::new(127, 128 + TESTS.fetch_add(1, Ordering::Relaxed) % 128, high, low);
    let held = [(); N].map(|()| TcpListener::bind((ip, 0)).unwrap());
    held.map(|socket| socket.local_addr().unwrap())
}

/// A cache that all tests share, so that each plugin is compiled once.
pub fn shared_cache() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    dir
}
