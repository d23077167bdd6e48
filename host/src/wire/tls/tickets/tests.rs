//! Which tickets are valid as time passes, and after processes or authorities change.

use super::*;
use std::os::fd::AsFd;

fn keys_at(period: u64) -> Arc<TicketKeys> {
    Arc::new(TicketKeys(Mutex::new(Some(Chain::random(period).unwrap()))))
}

/// Seals with the current key of a period; `TicketKeys` itself uses the current time.
fn sealed_with(chain: &Chain) -> [u8; NAME_LENGTH] {
    chain.keys.last().unwrap().name
}

fn opens(chain: &Chain, name: [u8; NAME_LENGTH]) -> bool {
    chain.keys.iter().any(|key| key.name == name)
}

#[test]
fn a_ticket_is_opened_and_a_changed_one_is_not() {
    let ticketer = Ticketer::new(Arc::<TicketKeys>::default(), None);
    let ticket = ticketer.encrypt(b"a session").unwrap();
    assert_eq!(ticketer.decrypt(&ticket).unwrap(), b"a session");
    assert!(!ticket.windows(9).any(|window| window == b"a session"));
    assert_ne!(ticketer.encrypt(b"a session").unwrap(), ticket, "each is different");
    for place in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[place] ^= 1;
        assert_eq!(ticketer.decrypt(&changed), None, "changed in place {place}");
        assert_eq!(ticketer.decrypt(&ticket[..place]), None, "cut after {place}");
    }
}

#[test]
fn a_ticket_is_valid_only_for_the_same_client_authorities() {
    let keys = Arc::<TicketKeys>::default();
    let (one, other) = (blake3::hash(b"one authority"), blake3::hash(b"another"));
    let ticketers = [None, Some(&one), Some(&other)].map(|authority| Ticketer::new(Arc::clone(&keys), authority));
    for (index, maker) in ticketers.iter().enumerate() {
        let ticket = maker.encrypt(b"a session").unwrap();
        for (place, opener) in ticketers.iter().enumerate() {
            assert_eq!(opener.decrypt(&ticket).is_some(), index == place);
        }
    }
}

#[test]
fn predecessor_and_successor_open_each_others_tickets() {
    let (predecessor, successor) = (Arc::<TicketKeys>::default(), Arc::<TicketKeys>::default());
    let ticketers = [&predecessor, &successor].map(|keys| Ticketer::new(Arc::clone(keys), None));
    let ticket = ticketers[0].encrypt(b"a session").unwrap();
    assert_eq!(ticketers[1].decrypt(&ticket), None, "the key is another one");
    successor.take_over(predecessor.hand_over().unwrap()).unwrap();
    assert_eq!(ticketers[1].decrypt(&ticket).unwrap(), b"a session");
    let ticket = ticketers[1].encrypt(b"another").unwrap();
    assert_eq!(ticketers[0].decrypt(&ticket).unwrap(), b"another");
}

#[test]
fn two_processes_with_one_chain_change_keys_alike() {
    let predecessor = keys_at(100);
    let successor = keys_at(7);
    let copy = predecessor.lock().as_ref().map(|Chain { first: Link { period, secret }, .. }| {
        Chain::from(Link { period: *period, secret: secret.clone() }).unwrap()
    });
    *successor.lock() = copy;
    let bring = |keys: &TicketKeys, period| keys.lock().as_mut().unwrap().at(period).unwrap();
    let current = |keys: &TicketKeys| sealed_with(keys.lock().as_ref().unwrap());
    for period in [100, 101, 103, 110] {
        bring(&predecessor, period);
        bring(&successor, period);
        assert_eq!(current(&successor), current(&predecessor), "period {period}");
    }
}

#[test]
fn keys_change_with_time_and_old_ones_are_forgotten() {
    let mut chain = Chain::random(100).unwrap();
    let first = sealed_with(&chain);
    for period in 101..=100 + EARLIER {
        chain.at(period).unwrap();
        assert!(opens(&chain, first) && sealed_with(&chain) != first, "period {period}");
    }
    chain.at(101 + EARLIER).unwrap();
    assert!(!opens(&chain, first));
    assert_eq!(chain.keys.len() as u64, EARLIER + 1);
    assert!(u64::from(LIFETIME) <= EARLIER * PERIOD, "a ticket that was made last is good for as long as it says");
}

#[test]
fn a_clock_that_goes_back_changes_nothing_and_a_leap_starts_a_new_chain() {
    let mut chain = Chain::random(100).unwrap();
    let current = sealed_with(&chain);
    chain.at(100 - EARLIER).unwrap();
    assert_eq!(sealed_with(&chain), current);
    for period in [0, u64::MAX, 1] {
        chain.at(period).unwrap();
        assert!(!opens(&chain, current));
        let restarted = sealed_with(&chain);
        chain.at(period).unwrap();
        assert_eq!(sealed_with(&chain), restarted);
    }
}

#[test]
fn a_file_that_is_not_sealed_keys_is_rejected_and_changes_nothing() {
    let keys = Arc::<TicketKeys>::default();
    let ticketer = Ticketer::new(Arc::clone(&keys), None);
    let ticket = ticketer.encrypt(b"a session").unwrap();
    let memory = |content: &[u8], seals: SealFlags| {
        let mut file = File::from(memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
        file.write_all(content).unwrap();
        fcntl_add_seals(file.as_fd(), seals).unwrap();
        OwnedFd::from(file)
    };
    let whole = [MARK.as_slice(), &[0; FILE_LENGTH - MARK.len()]].concat();
    let (pipe, _) = io::pipe().unwrap();
    for (file, sealed) in [
        (OwnedFd::from(pipe), false),
        (OwnedFd::from(tempfile::tempfile().unwrap()), false),
        (memory(&whole, SealFlags::SHRINK), false),
        (memory(&whole[1..], sealed()), true),
        (memory(&[&whole[..], b"x"].concat(), sealed()), true),
        (memory(&[0; FILE_LENGTH], sealed()), true),
    ] {
        let refused = keys.take_over(file).unwrap_err();
        assert_eq!(matches!(refused, KeysError::Foreign), sealed, "{refused}");
    }
    assert!(ticketer.decrypt(&ticket).is_some());
    keys.take_over(memory(&whole, sealed())).unwrap();
    assert_eq!(ticketer.decrypt(&ticket), None);
}

#[test]
fn debug_output_does_not_contain_keys() {
    let keys = Arc::<TicketKeys>::default();
    let printed = format!("{keys:?} {:?}", Ticketer::new(Arc::clone(&keys), None));
    assert!(!printed.contains("secret") && printed.len() < 300, "{printed}");
}
