//! The operations side: an endpoint that speaks HTTP to whoever runs the host, and the subcommands that ask there.
//!
//! ```text
//!  curl, subcommand ─► endpoint ─► http ── order ──► lifecycle
//!                                  │ ▲                │ │
//!                                  │ └───── answer ◄──┘ │
//!                                  └─◄ status ◄─────────┘ published whenever it changes
//! ```
//!
//! Nothing here changes what the process does: a verb is an order for the `lifecycle`, which answers it, and what is read is what
//! the lifecycle has published. One request a connection, so that none outlives the process that was asked.

mod address;
mod desk;
mod endpoint;
pub(crate) mod http;
mod metrics;
mod order;
mod page;
mod status;
pub(crate) mod stream;
mod usage;

pub use address::Address;
pub use desk::{Desk, Inbox, open};
pub use endpoint::Endpoint;
pub use order::{Answer, Asker, Order, Outcome, Until, Verb};
pub use status::{Listening, Moment, Past, Phase, Snapshot};
