//! The admin endpoint: HTTP for operators and for the subcommands that ask a running host.
//!
//! ```text
//!  curl, subcommand ─► endpoint ─► http ─ command ─► lifecycle
//!                                  │ ▲                │ │
//!                                  │ └───── answer ◄──┘ │
//!                                  └─◄ status ◄─────────┘ published whenever it changes
//! ```
//!
//! Nothing here changes the process. A command goes to the `lifecycle`, which runs and answers it,
//! and each view shows the status that the lifecycle has published. A connection carries one
//! request, so that none outlives the process that got it.

mod address;
mod command;
mod endpoint;
pub(crate) mod http;
mod metrics;
mod page;
mod queue;
mod status;
pub(crate) mod stream;
mod usage;

pub use address::Address;
pub use command::{Answer, Caller, Command, Outcome, Until, Verb};
pub use endpoint::Endpoint;
pub use queue::{Inbox, Queue, open};
pub use status::{Listening, Moment, Past, Phase, Snapshot};
