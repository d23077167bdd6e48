//! A connection, from accept to close.

pub mod accept;
pub mod admission;
pub mod drain;
pub(crate) mod http;
pub mod proxy_header;
pub mod quota;
pub mod serve;
pub mod service;
pub mod timeouts;
