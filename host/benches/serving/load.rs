//! The load: clients that connect to a server, verify every byte that it answers, and tell what they saw in one line.

pub(crate) mod echo;
pub(crate) mod handshakes;
pub(crate) mod hello;
pub(crate) mod idle;
pub(crate) mod outcome;

use std::future::Future;
use std::time::Duration;

use anyhow::anyhow;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::options::{LoadOptions, Shape};
use crate::process;
use crate::sources::connect;

/// Does what the options say and prints the outcome.
pub(crate) fn run(options: &LoadOptions) -> anyhow::Result<()> {
    process::end_with_parent()?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let outcome = match options.shape {
        Shape::Handshakes { server, handshake, ref certificate, clients, seconds } => {
            runtime.block_on(handshakes::load(server, clients, seconds, certificate, handshake))?
        }
        Shape::Hello { server, clients, seconds } => runtime.block_on(hello::load(server, clients, seconds))?,
        Shape::Echo { server, clients, bytes_per_client } => {
            runtime.block_on(echo::load(server, clients, bytes_per_client))?
        }
        Shape::Idle { server, connections } => idle::load(&runtime, server, connections)?,
    };
    println!("{outcome}");
    // Without waiting for clients that hang: the outcome counts them already.
    runtime.shutdown_background();
    Ok(())
}

/// Nothing waits without an end: what takes longer than `limit` has failed.
async fn bounded<T>(limit: Duration, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(limit, what).await.unwrap_or_else(|_| Err(anyhow!("no complete answer within {limit:?}")))
}
