//! x
pub(crate) mod sync;
