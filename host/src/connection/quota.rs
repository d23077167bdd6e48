//! The connections and guests of each address, with a limit, so that one address cannot take all
//! slots.
//!
//! An address is in memory only while it has a connection, so there are never more entries than
//! connections.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The counts of all addresses that have a connection.
#[derive(Clone, Debug, Default)]
pub struct Quotas(Arc<Mutex<HashMap<Holder, Count>>>);

/// The addresses that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Holder(IpAddr);

/// The count of one holder.
#[derive(Debug, Default)]
struct Count {
    held: u32,
    /// Wakes one waiting task each time a share is given back.
    freed: Arc<Notify>,
}

/// One connection or one further guest, in the count of its address. Dropping it gives the share
/// back.
#[derive(Debug)]
pub struct Share {
    quotas: Quotas,
    holder: Holder,
    most: NonZeroU32,
}

impl From<IpAddr> for Holder {
    /// An IPv4 address, or the /64 of an IPv6 address. A /64 is the least that a provider assigns:
    /// one customer has 2⁶⁴ addresses and would never reach a limit for a single one.
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 => v4,
        })
    }
}

impl Quotas {
    /// Counts one more for `address`, unless it has `most` already.
    pub fn take(&self, address: IpAddr, most: NonZeroU32) -> Option<Share> {
        self.take_for(address.into(), most).ok()
    }

    /// The same for a holder. If it has `most` already, returns the notification of a free share.
    fn take_for(&self, holder: Holder, most: NonZeroU32) -> Result<Share, Arc<Notify>> {
        let mut held = self.held();
        // The entry that is added here is counted at once, since `most` is never 0.
        let count = held.entry(holder).or_default();
        if count.held >= most.get() {
            return Err(Arc::clone(&count.freed));
        }
        count.held += 1;
        Ok(Share { quotas: self.clone(), holder, most })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Holder, Count>> {
        // No code that holds the lock can leave a count half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Waits until the same address is below its limit, and counts one more.
    pub async fn another(&self) -> Self {
        loop {
            match self.quotas.take_for(self.holder, self.most) {
                Ok(share) => return share,
                // A share that is given back before this waits has stored its notification.
                Err(freed) => freed.notified().await,
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.quotas.held().entry(self.holder) {
            let count = entry.get_mut();
            count.held = count.held.saturating_sub(1);
            if count.held == 0 {
                // No task waits here: each waiting task has a share.
                entry.remove();
            } else {
                count.freed.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_count_and_gives_shares_back() {
        let quotas = Quotas::default();
        let two = NonZeroU32::new(2).unwrap();
        let take = |text| quotas.take(address(text), two);
        let (first, second) = (take("192.0.2.1").unwrap(), take("::ffff:192.0.2.1").unwrap());
        assert!(take("192.0.2.1").is_none(), "mapped or not, it is the same address");
        let other = take("192.0.2.2").unwrap();
        drop(second);
        let third = take("192.0.2.1").unwrap();
        assert!(take("192.0.2.1").is_none());
        drop((first, third, other));
        assert!(quotas.held().is_empty(), "nothing is kept of addresses without a connection");
    }

    #[tokio::test]
    async fn another_share_waits_until_one_is_given_back() {
        let quotas = Quotas::default();
        let take = |text| quotas.take(address(text), NonZeroU32::new(2).unwrap());
        let (first, second) = (take("192.0.2.1").unwrap(), take("192.0.2.1").unwrap());
        let third = {
            let mut waiting = std::pin::pin!(first.another());
            assert!(futures::poll!(&mut waiting).is_pending());
            drop(take("192.0.2.2").unwrap());
            assert!(futures::poll!(&mut waiting).is_pending(), "a share of another address is of no use");
            drop(second);
            waiting.await
        };
        assert!(take("192.0.2.1").is_none());
        drop((first, third));
        assert!(quotas.held().is_empty());
    }

    #[test]
    fn an_ipv6_64_counts_as_one_address() {
        let quotas = Quotas::default();
        let take = |text| quotas.take(address(text), NonZeroU32::MIN);
        let _first = take("2001:db8:0:1::1").unwrap();
        assert!(take("2001:db8:0:1:ffff::2").is_none());
        let _neighbour = take("2001:db8:0:2::1").unwrap();
        let _v4 = take("0.0.0.0").unwrap();
        let _unspecified = take("::").unwrap();
    }

    #[test]
    fn a_lowered_limit_counts_earlier_connections() {
        let quotas = Quotas::default();
        let take = |most| quotas.take(address("192.0.2.1"), NonZeroU32::new(most).unwrap());
        let before: Vec<_> = (0..3).map(|_| take(3).unwrap()).collect();
        assert!(take(1).is_none() && take(3).is_none() && take(4).is_some());
        drop(before);
        assert!(take(1).is_some());
    }
}
