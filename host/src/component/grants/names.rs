//! A host name that guests may connect to, and its addresses. Only this process asks the resolver.
//! A grant of a name follows the resolver's answers, so that a service can move.
//!
//! It does not follow to every address: otherwise a DNS server could point guests at this machine
//! or the network behind it (DNS rebinding). So the first answer, when the plugin is loaded, fixes
//! the scopes of the name: the internet, private networks, this link, this machine. A later address
//! in another scope is left out until the plugin is loaded again.

use std::{
    fmt, io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::lookup_host,
    sync::Mutex as Turn,
    time::{Instant, timeout},
};
use tracing::{debug, info, warn};

/// How long an answer stays fresh. Resolvers have caches of their own; this limits the queries that
/// guests can cause.
const FRESH: Duration = Duration::from_secs(1);

/// How long a guest with a stale answer waits for a new one, and how long the first query may take.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_FIRST_WAIT: Duration = Duration::from_secs(20);

/// How long an address remains valid after the first answer without it: guests may take
/// their time between lookup and connect, and some names have another address at each query.
const KEPT: Duration = Duration::from_secs(60);

/// The most addresses kept of one answer, and of all earlier ones.
const MOST_ADDRESSES: usize = 64;
const MOST_EARLIER: usize = 256;

/// The scope of an address. Addresses outside of these scopes are never permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Internet,
    Private,
    Link,
    Machine,
}

impl Scope {
    fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Option<Self> {
        match address.octets() {
            [0 | 224..=255, ..] => None,
            [127, ..] => Some(Self::Machine),
            [169, 254, ..] => Some(Self::Link),
            // The last two are for carriers' networks (RFC 6598) and for benchmarks (RFC 2544).
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18 | 19, ..] => {
                Some(Self::Private)
            }
            _ => Some(Self::Internet),
        }
    }

    fn of_v6(address: Ipv6Addr) -> Option<Self> {
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Some(Self::Machine),
            [0, 0, 0, 0, 0, 0, ..] | [0xff00..=0xffff, ..] => None,
            [0xfe80..=0xfebf, ..] => Some(Self::Link),
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some(Self::Private),
            // Translated to IPv4 on the way (RFC 6052).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                Self::of_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
            }
            _ => Some(Self::Internet),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Internet => "on the internet",
            Self::Private => "in a private network",
            Self::Link => "on the local link",
            Self::Machine => "on this machine",
        })
    }
}

/// A name, and its known addresses.
#[derive(Debug)]
pub(super) struct Name {
    name: String,
    scopes: Vec<Scope>,
    known: Mutex<Known>,
    /// Held by the task that asks the resolver, so that a name occupies at most one of its threads.
    turn: Arc<Turn<()>>,
}

#[derive(Debug)]
struct Known {
    answer: Arc<[IpAddr]>,
    /// Addresses of earlier answers, with the time of the first answer without them.
    earlier: Vec<(IpAddr, Instant)>,
    asked_at: Instant,
    /// Whether the last query failed.
    failed: bool,
    /// The address that was rejected last.
    rejected: Option<IpAddr>,
}

impl Known {
    fn new(answer: Arc<[IpAddr]>) -> Self {
        Self { answer, earlier: Vec::new(), asked_at: Instant::now(), failed: false, rejected: None }
    }

    fn has(&self, address: IpAddr, now: Instant) -> bool {
        self.answer.contains(&address)
            || self
                .earlier
                .iter()
                .any(|(earlier, left)| *earlier == address && now.saturating_duration_since(*left) < KEPT)
    }

    /// Replaces the answer. Returns whether it differs.
    fn replace(&mut self, answer: Vec<IpAddr>, now: Instant) -> bool {
        let gone: Vec<IpAddr> = self.answer.iter().copied().filter(|old| !answer.contains(old)).collect();
        let differs = !gone.is_empty() || answer.len() != self.answer.len();
        self.earlier.retain(|(earlier, left)| now.saturating_duration_since(*left) < KEPT && !gone.contains(earlier));
        self.earlier.extend(gone.into_iter().map(|address| (address, now)));
        let too_many = self.earlier.len().saturating_sub(MOST_EARLIER);
        self.earlier.drain(..too_many);
        self.answer = answer.into();
        differs
    }
}

impl Name {
    /// Resolves the name for the first time. The error says why there is no answer.
    pub(super) async fn find(name: &str) -> Result<Arc<Self>, String> {
        let answer = match timeout(LONGEST_FIRST_WAIT, ask(name)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(format!("the name cannot be resolved: {error}")),
            Err(_) => return Err(format!("the name was not resolved within {} s", LONGEST_FIRST_WAIT.as_secs())),
        };
        let answer: Arc<[IpAddr]> = answer.into_iter().filter(|address| Scope::of(*address).is_some()).collect();
        if answer.is_empty() {
            return Err("the name does not resolve to an address that a guest can connect to".to_owned());
        }
        let found = Self::new(name, answer);
        // The record shows an operator which scopes the name is trusted for from here on.
        let homes: Vec<String> = found.scopes.iter().map(Scope::to_string).collect();
        let addresses: Vec<String> = found.with_known(|known| known.answer.iter().map(IpAddr::to_string).collect());
        info!(name, addresses = addresses.join(" "), networks = homes.join(" and "), "granted name resolved");
        Ok(Arc::new(found))
    }

    fn new(name: &str, first: Arc<[IpAddr]>) -> Self {
        let mut scopes: Vec<Scope> = Vec::new();
        for scope in first.iter().filter_map(|address| Scope::of(*address)) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        Self { name: name.to_owned(), scopes, known: Mutex::new(Known::new(first)), turn: Arc::default() }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether the name has this address, or had it recently.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.with_known(|known| known.has(address, Instant::now()))
    }

    /// Its addresses. If the answer is stale, waits briefly for a new one, and joins a query that
    /// is already running.
    pub(super) async fn addresses(self: &Arc<Self>) -> Arc<[IpAddr]> {
        if self.with_known(|known| known.asked_at.elapsed() > FRESH)
            && let Ok(turn) = Arc::clone(&self.turn).try_lock_owned()
        {
            let name = Arc::clone(self);
            // A task of its own: if the guest ends meanwhile, the query still holds its turn, and a
            // hanging resolver is not asked again.
            let asking = tokio::spawn(async move {
                match ask(&name.name).await {
                    Ok(answer) => name.learn(answer, Instant::now()),
                    Err(error) => name.fail(&error),
                }
                drop(turn);
            });
            timeout(LONGEST_WAIT, asking).await.ok();
        }
        self.with_known(|known| Arc::clone(&known.answer))
    }

    /// Takes the addresses of an answer that are in a known scope.
    fn learn(&self, answer: Vec<IpAddr>, now: Instant) {
        let at_home = |address: &IpAddr| Scope::of(*address).is_some_and(|scope| self.scopes.contains(&scope));
        let (kept, rejected): (Vec<_>, Vec<_>) = answer.into_iter().partition(at_home);
        let rejected = rejected.first().copied();
        let (recovered, moved, news) = self.with_known(|known| {
            known.asked_at = now;
            let moved = !kept.is_empty() && known.replace(kept, now);
            (mem::take(&mut known.failed), moved, mem::replace(&mut known.rejected, rejected) != rejected)
        });
        if recovered {
            info!(name = %self.name, "granted name resolves again");
        }
        if moved {
            debug!(name = %self.name, "granted name has new addresses");
        }
        if let Some(address) = rejected.filter(|_| news) {
            let place = Scope::of(address).map_or_else(|| "nowhere".to_owned(), |scope| scope.to_string());
            let detail = format!("it is {place}, and the name had no address there at load; reload to allow it");
            warn!(name = %self.name, %address, detail, "resolved address rejected");
        }
    }

    /// Records a failed query. The name keeps its addresses.
    fn fail(&self, error: &io::Error) {
        let first = self.with_known(|known| {
            known.asked_at = Instant::now();
            !mem::replace(&mut known.failed, true)
        });
        if first {
            warn!(name = %self.name, %error, "granted name resolution failed");
        }
    }

    fn with_known<T>(&self, use_it: impl FnOnce(&mut Known) -> T) -> T {
        use_it(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The answer of the system's resolver, without duplicates.
async fn ask(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in lookup_host((name, 0)).await? {
        let address = address.ip().to_canonical();
        if addresses.len() < MOST_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn name(first: &[&str]) -> Name {
        Name::new("db.internal", addresses(first).into())
    }

    fn has(name: &Name, address: &str, now: Instant) -> bool {
        name.with_known(|known| known.has(address.parse().unwrap(), now))
    }

    #[test]
    fn a_name_may_move_within_its_scopes() {
        let (db, now) = (name(&["10.0.0.1"]), Instant::now());
        db.learn(addresses(&["192.168.0.9", "10.0.0.2"]), now);
        db.learn(addresses(&["10.0.0.2"]), now + KEPT / 2);
        for (address, until) in [("10.0.0.1", KEPT), ("192.168.0.9", KEPT * 3 / 2), ("10.0.0.2", KEPT * 100)] {
            assert!(has(&db, address, now + until - Duration::from_millis(1)), "{address}");
            assert!(address == "10.0.0.2" || !has(&db, address, now + until), "{address}");
        }
        let elsewhere =
            ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "93.184.216.34", "::", "0.0.0.0", "64:ff9b::7f00:1"];
        for elsewhere in elsewhere {
            db.learn(addresses(&[elsewhere]), now);
            assert!(!has(&db, elsewhere, now), "{elsewhere}");
        }
        assert!(has(&db, "10.0.0.2", now), "a rejected address changes nothing");
    }

    #[test]
    fn a_resolver_that_fails_changes_nothing() {
        let (db, now) = (name(&["10.0.0.1"]), Instant::now());
        db.fail(&io::Error::other("no resolver"));
        db.learn(Vec::new(), now);
        assert!(has(&db, "10.0.0.1", now + KEPT * 2));
    }

    #[test]
    fn the_addresses_of_a_name_are_limited() {
        let (db, now) = (name(&["10.0.0.1"]), Instant::now());
        for number in 0..10_000_u32 {
            db.learn(vec![IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | number))], now);
        }
        assert_eq!(db.with_known(|known| known.earlier.len()), MOST_EARLIER);
    }

    #[test]
    fn each_address_has_its_scope() {
        for (address, scope) in [
            ("93.184.216.34", Some(Scope::Internet)),
            ("2606:2800:220:1::1", Some(Scope::Internet)),
            ("64:ff9b::5db8:d822", Some(Scope::Internet)),
            ("172.31.0.1", Some(Scope::Private)),
            ("172.32.0.1", Some(Scope::Internet)),
            ("100.64.0.1", Some(Scope::Private)),
            ("fd00::1", Some(Scope::Private)),
            ("64:ff9b::a00:1", Some(Scope::Private)),
            ("169.254.169.254", Some(Scope::Link)),
            ("fe80::1", Some(Scope::Link)),
            ("127.0.0.53", Some(Scope::Machine)),
            ("::ffff:127.0.0.1", Some(Scope::Machine)),
            ("::1", Some(Scope::Machine)),
            ("::", None),
            ("::7f00:1", None),
            ("224.0.0.1", None),
            ("255.255.255.255", None),
            ("ff02::1", None),
        ] {
            assert_eq!(Scope::of(address.parse().unwrap()), scope, "{address}");
        }
    }
}
