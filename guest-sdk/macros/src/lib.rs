//! The start of uninterruptible-guest-macros.
