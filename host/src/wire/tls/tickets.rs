//! Session tickets that outlive the process: how they are sealed, and the keys, which a successor
//! receives.
//!
//! The keys are a chain. Each link is derived from the one before, which is then forgotten: a
//! stolen link yields all later ones and no earlier one. The time alone decides which link is in
//! use. So two processes with the same chain (a predecessor and its successor) have the same keys
//! at any moment, without a message when they change. Keys are only in memory: a successor receives
//! them as a sealed memory file, and no log shows them.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustls::{pki_types::UnixTime, server::ProducesTickets};
use std::{
    fmt,
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

/// How long tickets are made with one key, in seconds. A stolen key exposes the sessions
/// of the last one to [`EARLIER`] + 1 periods.
const PERIOD: u64 = 6 * 60 * 60;

/// The number of earlier periods whose keys still open tickets.
const EARLIER: u64 = 2;

/// The lifetime of a ticket in seconds, as told to clients.
const LIFETIME: u32 = 12 * 60 * 60;

/// The most periods that the clock may leap (some 27 years). After a longer leap the clock was
/// wrong before or is now, and the chain starts over.
const LONGEST_LEAP: u64 = 40_000;

const NAME_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 32;

/// The first bytes of the file of keys. The period and the secret of the first link follow.
const MARK: &[u8; 8] = b"tickets1";
const FILE_LENGTH: usize = MARK.len() + size_of::<u64>() + SECRET_LENGTH;

/// The purposes for which secrets are derived; a part of the handoff protocol.
const NEXT: &str = "uninterruptible-host 2026-11-22 ticket keys: the next link";
const SEAL: &str = "uninterruptible-host 2026-11-22 ticket keys: the key that seals";
const NAME: &str = "uninterruptible-host 2026-11-22 ticket keys: the name of the key";

/// The ticket keys of this process, and of those that it hands over to. Created at the first use.
#[derive(Default)]
pub struct TicketKeys(Mutex<Option<Chain>>);

/// Why a file is not a set of ticket keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Another process could change it.
    #[error("the file of ticket keys is not sealed")]
    NotSealed,
    /// It has other content.
    #[error("the file of ticket keys is not of this version")]
    Foreign,
    /// The system refuses.
    #[error("ticket keys: {0}")]
    System(#[from] io::Error),
}

struct Chain {
    /// The oldest link that is still needed.
    first: Link,
    /// The keys of [`EARLIER`] + 1 periods from `first` on, the current one last.
    keys: Vec<Key>,
}

/// The secret from which the key of one period, and all later links, are derived.
struct Link {
    period: u64,
    secret: Zeroizing<[u8; SECRET_LENGTH]>,
}

struct Key {
    /// Part of the ticket, so that its key is found.
    name: [u8; NAME_LENGTH],
    seal: LessSafeKey,
}

impl Link {
    fn random(period: u64) -> io::Result<Self> {
        let mut secret = Zeroizing::new([0; SECRET_LENGTH]);
        rand::fill(secret.as_mut_slice())
            .map_err(|_unspecified| io::Error::other("the system's random numbers are not available"))?;
        Ok(Self { period, secret })
    }

    fn derive(&self, purpose: &str) -> Zeroizing<[u8; SECRET_LENGTH]> {
        Zeroizing::new(blake3::derive_key(purpose, self.secret.as_slice()))
    }

    fn next(&self) -> Self {
        Self { period: self.period.saturating_add(1), secret: self.derive(NEXT) }
    }

    fn key(&self) -> io::Result<Key> {
        let mut name = [0; NAME_LENGTH];
        name.iter_mut().zip(self.derive(NAME).iter()).for_each(|(name, derived)| *name = *derived);
        let seal = UnboundKey::new(&AES_256_GCM, self.derive(SEAL).as_slice());
        Ok(Key {
            name,
            seal: LessSafeKey::new(seal.map_err(|_unspecified| io::Error::other("a key of another length"))?),
        })
    }
}

impl Chain {
    fn from(first: Link) -> io::Result<Self> {
        let mut keys = vec![first.key()?];
        let mut link = first.next();
        for _ in 0..EARLIER {
            keys.push(link.key()?);
            link = link.next();
        }
        Ok(Self { first, keys })
    }

    /// A new random chain that starts with this period.
    fn random(period: u64) -> io::Result<Self> {
        Self::from(Link::random(period.saturating_sub(EARLIER))?)
    }

    /// Advances the chain to a period. It never goes back: if the clock does, the chain waits.
    fn at(&mut self, period: u64) -> io::Result<()> {
        if period < self.first.period || period - self.first.period > LONGEST_LEAP {
            *self = Self::random(period)?;
        }
        let mut first = None;
        while first.as_ref().unwrap_or(&self.first).period + EARLIER < period {
            first = Some(first.as_ref().unwrap_or(&self.first).next());
        }
        if let Some(first) = first {
            *self = Self::from(first)?;
        }
        Ok(())
    }
}

impl TicketKeys {
    /// A sealed memory file with these keys, for a successor.
    ///
    /// # Errors
    ///
    /// If the system refuses one.
    pub fn hand_over(&self) -> Result<OwnedFd, KeysError> {
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_LENGTH));
        self.now(|Chain { first: Link { period, secret }, .. }| {
            text.extend(MARK);
            text.extend(period.to_be_bytes());
            text.extend(secret.iter());
        })?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("ticket-keys", flags).map_err(io::Error::from)?);
        file.write_all(&text)?;
        fcntl_add_seals(&file, sealed()).map_err(io::Error::from)?;
        Ok(file.into())
    }

    /// Replaces the keys by those of a predecessor.
    ///
    /// # Errors
    ///
    /// If the file is not a sealed file of ticket keys.
    pub fn take_over(&self, file: OwnedFd) -> Result<(), KeysError> {
        // Only memory files have seals. For other files the call fails.
        if !fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(sealed())) {
            return Err(KeysError::NotSealed);
        }
        let file = File::from(file);
        let mut text = Zeroizing::new([0; FILE_LENGTH]);
        if file.metadata()?.len() != FILE_LENGTH as u64 {
            return Err(KeysError::Foreign);
        }
        file.read_exact_at(text.as_mut_slice(), 0)?;
        let rest = text.strip_prefix(MARK).ok_or(KeysError::Foreign)?;
        let (period, secret) = rest.split_first_chunk().ok_or(KeysError::Foreign)?;
        let secret = Zeroizing::new(secret.try_into().map_err(|_length| KeysError::Foreign)?);
        let chain = Chain::from(Link { period: u64::from_be_bytes(*period), secret })?;
        *self.lock() = Some(chain);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Chain>> {
        // A chain is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses the chain of the current period.
    fn now<T>(&self, used: impl FnOnce(&Chain) -> T) -> io::Result<T> {
        let period = period(UnixTime::now());
        let mut chain = self.lock();
        let chain = match &mut *chain {
            Some(chain) => chain,
            none => none.insert(Chain::random(period)?),
        };
        chain.at(period)?;
        Ok(used(chain))
    }
}

fn sealed() -> SealFlags {
    SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL
}

fn period(moment: UnixTime) -> u64 {
    moment.as_secs() / PERIOD
}

impl fmt::Debug for TicketKeys {
    /// Does not print the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

/// Makes and opens the tickets of one acceptor.
///
/// A ticket contains the client's certificate, which the library does not verify again. So a ticket
/// is valid only where the same client authorities apply as where it was made. After a change of
/// the authorities, or at a listener with others, a full handshake follows.
#[derive(Debug)]
pub(super) struct Ticketer {
    keys: Arc<TicketKeys>,
    scope: [u8; blake3::OUT_LEN],
}

impl Ticketer {
    /// `authorities` is the digest of the client authorities, if clients must show a certificate.
    pub(super) fn new(keys: Arc<TicketKeys>, authorities: Option<&blake3::Hash>) -> Self {
        Self { keys, scope: authorities.map_or([0; blake3::OUT_LEN], |digest| *digest.as_bytes()) }
    }
}

/// A ticket: the name of its key, the nonce, the sealed content, the seal.
impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let seal = |chain: &Chain| {
            let Key { name, seal } = chain.keys.last()?;
            let (nonce, scope) = (Nonce::assume_unique_for_key(nonce), Aad::from(self.scope));
            seal.seal_in_place_append_tag(nonce, scope, &mut sealed).ok()?;
            Some(*name)
        };
        let name = self.keys.now(seal).ok()??;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LENGTH>()?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        let mut opened = sealed.to_vec();
        let open = |chain: &Chain| {
            let key = chain.keys.iter().find(|key| key.name == *name)?;
            let (nonce, scope) = (Nonce::assume_unique_for_key(*nonce), Aad::from(self.scope));
            Some(key.seal.open_in_place(nonce, scope, &mut opened).ok()?.len())
        };
        let length = self.keys.now(open).ok()??;
        opened.truncate(length);
        Some(opened)
    }
}

#[cfg(test)]
mod tests;
