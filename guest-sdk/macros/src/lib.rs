//! The attribute macro of `uninterruptible-guest`. Use it through that crate, which documents it.
//!
//! It checks a handler's signature and selects the generation of the contract. The code that serves
//! a connection is in the SDK, where it can be read and tested without macro expansion.
#![forbid(unsafe_code)]

mod expand;

use proc_macro::TokenStream;

/// Makes a function the handler of a plugin.
///
/// Documented where it is used: at `uninterruptible_guest::handler`.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(arguments.into(), item.into()).into()
}
