//! A host name that guests may connect to, and the addresses that it has. Only this process asks the resolver, and guests reach
//! what it was told: a grant of a name follows its answer, as a service that moves needs it.
//!
//! It does not follow anywhere. Whoever answers for a name could otherwise point guests at this machine or at the network behind
//! it (DNS rebinding). So the first answer, when the plugin is loaded, says where the name lives: in the internet, in private
//! networks, on this link, on this machine. A later address of a kind that the first answer did not have is left out, until the
//! plugin is loaded again.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::lookup_host,
    sync::Mutex as Turn,
    time::{Instant, timeout},
};
use tracing::{info, warn};

/// For how long an answer is not asked for again. Resolvers keep answers by themselves; this bounds what guests can make of one.
const FRESH: Duration = Duration::from_secs(1);

/// How long a guest that finds an old answer waits for a new one, and how long the first may take.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_FIRST_WAIT: Duration = Duration::from_secs(20);

/// Addresses that are kept of one answer.
const MOST_ADDRESSES: usize = 64;

/// Where an address is. What none of these is, nobody is to connect to.
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
            // The last two are for carriers' own networks (RFC 6598) and for measurements (RFC 2544).
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
            Self::Internet => "in the internet",
            Self::Private => "in a private network",
            Self::Link => "on the local link",
            Self::Machine => "on this machine",
        })
    }
}

/// A name, and what is known of it.
#[derive(Debug)]
pub(super) struct Name {
    name: String,
    scopes: Vec<Scope>,
    known: Mutex<Known>,
    /// Held by whoever asks the resolver, so that a name never occupies more than one of its threads.
    turn: Arc<Turn<()>>,
}

#[derive(Debug)]
struct Known {
    answer: Arc<[IpAddr]>,
    /// The one before, for guests that have looked up and not connected yet.
    before: Arc<[IpAddr]>,
    asked: Instant,
    /// Whether the resolver failed when it was asked last.
    failed: bool,
}

impl Name {
    /// Asks for the first time. Says why where there is no answer.
    pub(super) async fn find(name: &str) -> Result<Arc<Self>, String> {
        let answer = match timeout(LONGEST_FIRST_WAIT, ask(name)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(format!("the name cannot be resolved: {error}")),
            Err(_) => return Err(format!("the name was not resolved within {} s", LONGEST_FIRST_WAIT.as_secs())),
        };
        let mut scopes: Vec<Scope> = Vec::new();
        for scope in answer.iter().filter_map(|address| Scope::of(*address)) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        let answer: Arc<[IpAddr]> = answer.into_iter().filter(|address| Scope::of(*address).is_some()).collect();
        if answer.is_empty() {
            return Err("the name has no address that can be connected to".to_owned());
        }
        let known = Known { before: Arc::clone(&answer), answer, asked: Instant::now(), failed: false };
        Ok(Arc::new(Self { name: name.to_owned(), scopes, known: Mutex::new(known), turn: Arc::default() }))
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether the name has this address, or had it until the last answer.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.with_known(|known| known.answer.contains(&address) || known.before.contains(&address))
    }

    /// Its addresses. Where the answer is old, waits for a new one, but not for long, and not beside others that do.
    pub(super) async fn addresses(self: &Arc<Self>) -> Arc<[IpAddr]> {
        if self.with_known(|known| known.asked.elapsed() > FRESH)
            && let Ok(turn) = Arc::clone(&self.turn).try_lock_owned()
        {
            let name = Arc::clone(self);
            // A task of its own: a guest that ends meanwhile must not let another one ask beside a resolver that hangs.
            let asking = tokio::spawn(async move {
                let answer = ask(&name.name).await;
                name.learn(answer);
                drop(turn);
            });
            timeout(LONGEST_WAIT, asking).await.ok();
        }
        self.with_known(|known| Arc::clone(&known.answer))
    }

    /// Takes what the resolver says, as far as it is credible. A name that cannot be resolved keeps what it had.
    fn learn(&self, answer: io::Result<Vec<IpAddr>>) {
        let (kept, strange): (Vec<_>, Vec<_>) = match answer {
            Ok(answer) => answer
                .into_iter()
                .partition(|address| Scope::of(*address).is_some_and(|scope| self.scopes.contains(&scope))),
            Err(error) => {
                let first = self.with_known(|known| {
                    known.asked = Instant::now();
                    !std::mem::replace(&mut known.failed, true)
                });
                if first {
                    warn!(name = %self.name, %error, "a name that guests connect to is no longer resolved; its last addresses stay");
                }
                return;
            }
        };
        self.with_known(|known| {
            known.asked = Instant::now();
            if std::mem::take(&mut known.failed) {
                info!(name = %self.name, "a name that guests connect to is resolved again");
            }
            let changed = !kept.is_empty()
                && (kept.len() != known.answer.len() || kept.iter().any(|new| !known.answer.contains(new)));
            if changed {
                known.before = std::mem::replace(&mut known.answer, kept.into());
                info!(name = %self.name, addresses = ?known.answer, "a name that guests connect to has moved");
            }
        });
        if let Some(address) = strange.first() {
            let now = Scope::of(*address).map_or_else(|| "nowhere".to_owned(), |scope| scope.to_string());
            warn!(
                name = %self.name, %address,
                "an address of a name that guests connect to is left out: it is {now}, where the name had none when the plugin was \
                 loaded; reload where that is right"
            );
        }
    }

    fn with_known<T>(&self, use_it: impl FnOnce(&mut Known) -> T) -> T {
        use_it(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the system's resolver says, the same address once.
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

    fn name(first: &[&str]) -> Name {
        let answer: Arc<[IpAddr]> = first.iter().map(|address| address.parse().unwrap()).collect();
        let scopes = answer.iter().filter_map(|address| Scope::of(*address)).collect();
        let known = Known { before: Arc::clone(&answer), answer, asked: Instant::now(), failed: false };
        Name { name: "db.internal".to_owned(), scopes, known: Mutex::new(known), turn: Arc::default() }
    }

    fn learn(name: &Name, answer: &[&str]) {
        name.learn(Ok(answer.iter().map(|address| address.parse().unwrap()).collect()));
    }

    fn has(name: &Name, address: &str) -> bool {
        name.has(address.parse().unwrap())
    }

    #[test]
    fn a_name_moves_within_the_kind_of_network_that_it_lives_in() {
        let db = name(&["10.0.0.1"]);
        learn(&db, &["192.168.0.9", "10.0.0.2"]);
        assert!(has(&db, "10.0.0.1"), "the answer before still counts");
        learn(&db, &["10.0.0.3"]);
        assert!(!has(&db, "10.0.0.1") && has(&db, "10.0.0.2") && has(&db, "10.0.0.3"));
        for elsewhere in
            ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "93.184.216.34", "::", "0.0.0.0", "64:ff9b::7f00:1"]
        {
            learn(&db, &[elsewhere]);
            assert!(!has(&db, elsewhere), "{elsewhere}");
        }
        assert!(has(&db, "10.0.0.3"), "what is left out changes nothing");
    }

    #[test]
    fn a_resolver_that_fails_changes_nothing() {
        let db = name(&["10.0.0.1"]);
        db.learn(Err(io::Error::other("no resolver")));
        learn(&db, &[]);
        assert!(has(&db, "10.0.0.1"));
    }

    #[test]
    fn each_address_is_somewhere() {
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
