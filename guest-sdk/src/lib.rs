//! The start of uninterruptible-guest.
