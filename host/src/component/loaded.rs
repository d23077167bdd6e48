//! From a plugin's file to code that can be instantiated: found in the cache or compiled, and
//! loaded into its pool.

use super::{
    backtrace::Symbols,
    cache::{self, Cache, Known},
    code::Code,
    contract::{self, Contract, Declared},
    engine::{self, Concurrency},
    file::PluginFile,
    kind::Kind,
    lowering::Links,
    mappings::Mappings,
    pool::{Needs, Pool},
    problem::{Problem, one_line},
    source::{Source, Wasi03},
};
use crate::record::digest::Digest;
use std::sync::Arc;
use tracing::warn;
use wasmtime::Engine;

/// The contract that a file is served by.
pub(crate) fn accepted(declared: &Declared, kind: Option<Kind>, wasi_0_3: Wasi03) -> Result<Contract, Problem> {
    let contract = declared.contract(kind)?;
    refused(&contract, wasi_0_3).map_or(Ok(contract), Err)
}

/// Why a contract cannot be served; `None` if it can.
pub(super) fn refused(contract: &Contract, wasi_0_3: Wasi03) -> Option<Problem> {
    if !contract.missing.is_empty() {
        return Some(contract::Error::MissingImports(contract.missing.clone()).into());
    }
    if contract.lacks_memory {
        return Some(contract::Error::NoMemory.into());
    }
    (contract.concurrency == Concurrency::Concurrent && wasi_0_3 == Wasi03::Disabled).then_some(Problem::Wasi03Disabled)
}

/// A plugin loaded into the pool of its guests, and the facts about it.
pub(crate) struct Loaded {
    pub(crate) contract: Contract,
    pub(crate) digest: Digest,
    pub(crate) pool: Arc<Pool>,
    pub(crate) code: Code,
    pub(crate) symbols: Option<Arc<Symbols>>,
    /// A hint that would make its guests faster.
    pub(crate) advice: Option<String>,
}

impl Loaded {
    /// Loads a plugin from the cache, or else compiles it.
    pub(crate) fn from(file: &PluginFile, source: &Source, links: Links) -> Result<Self, Problem> {
        let cache = Cache::open(source.cache_dir.as_deref(), source.component_layer);
        let found = cache.find(&file.key()?)?;
        let entry = match found {
            Some(entry) => entry,
            None => {
                let bytes = file.bytes()?;
                let digest = Digest::of(&bytes);
                wanted(digest, source)?;
                let mut declared = Declared::by(&bytes)?;
                let contract = accepted(&declared, source.kind, source.wasi_0_3)?;
                let compiler = compiler(&contract)?;
                declared.settle_layer(&bytes, compiler, source.component_layer, links);
                cache.make(compiler, &bytes, digest, declared)?
            }
        };
        let Known { digest, declared, needs } = &entry.known;
        wanted(*digest, source)?;
        let contract = accepted(declared, source.kind, source.wasi_0_3)?;
        let pool = pool(&contract, needs, source)?;
        let form = declared.form();
        let mut code = Code::load(&entry.artifact, &pool.engine, form);
        if let Err(error) = &code
            && !entry.artifact.is_fresh()
            && Code::load(&entry.artifact, compiler(&contract)?, form).is_err()
        {
            // For example on a file system that forbids execution.
            warn!(error = one_line(error), "cached plugin unusable, recompiling");
            let bytes = file.bytes()?;
            if Digest::of(&bytes) != *digest {
                return Err(Problem::Changing);
            }
            let made = cache::compile(compiler(&contract)?, &bytes, *digest, declared.clone())?;
            code = Code::load(&made.artifact, &pool.engine, form);
        }
        let symbols = if declared.is_debuggable { Symbols::of(&file.bytes()?) } else { None };
        let code = code.map_err(Problem::of_compiler)?;
        // An operator who has set --guest-memory-kept knows.
        let advice = source.limits.guest_memory_kept.is_none().then(|| pool.advice(needs)).flatten();
        Ok(Self { contract, digest: *digest, pool, code, symbols, advice })
    }
}

fn compiler(contract: &Contract) -> Result<&'static Engine, Problem> {
    engine::compiler(contract.concurrency).map_err(Problem::of_compiler)
}

/// Checks that it is the plugin that was asked for.
fn wanted(found: Digest, source: &Source) -> Result<(), Problem> {
    match source.digest {
        Some(wanted) if wanted != found => Err(Problem::Digest { found, wanted }),
        _ => Ok(()),
    }
}

/// The pool for its guests.
fn pool(contract: &Contract, needs: &Needs, source: &Source) -> Result<Arc<Pool>, Problem> {
    if needs.initial_memory > source.limits.guest_memory as u64 {
        return Err(Problem::Memory { needed: needs.initial_memory, given: source.limits.guest_memory });
    }
    let guests = source.max_connections;
    Pool::with_room_for(guests, &source.path, needs, contract.concurrency, &source.limits).map_err(|error| {
        let mappings = Mappings::needed(&[Mappings::of_a_guest(contract.concurrency, needs.memories)], guests);
        Problem::Room { connections: guests.get(), mappings, cause: one_line(&error) }
    })
}
