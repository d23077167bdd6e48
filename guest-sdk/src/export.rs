//! The code that the expansion of `#[handler]` uses, between the exported function and the handler.
//! Hidden, and not part of the SDK's interface.

use crate::outcome::Outcome;

/// Fails to compile if a handler's return type is wrong.
pub const fn returns<T: Outcome>() {}

/// For an `fn`.
pub mod sync {
    use crate::connection::Connection;
    #[cfg(target_family = "wasm")]
    use crate::host::sync as host;
    #[cfg(target_family = "wasm")]
    use crate::outcome::Outcome;

    /// The argument of an `fn` handler.
    #[diagnostic::on_unimplemented(
        message = "an `fn` handler takes `uninterruptible_guest::Connection`, not `{Self}`",
        note = "an `async fn` handler takes `uninterruptible_guest::asynchronous::Connection`"
    )]
    pub trait Argument {}

    impl Argument for Connection {}

    /// Fails to compile if a handler's argument is wrong.
    pub const fn takes<T: Argument>() {}

    /// Serves one connection.
    #[cfg(target_family = "wasm")]
    #[inline]
    pub fn run<R: Outcome>(
        handler: impl FnOnce(Connection) -> R,
        connection: host::Connection,
        input: host::InputStream,
        output: host::OutputStream,
    ) -> Result<(), String> {
        handler(Connection::new(connection, input, output)).message()
    }
}

/// For an `async fn`.
pub mod asynchronous {
    #[cfg(target_family = "wasm")]
    use crate::asynchronous::{serve, task};
    #[cfg(target_family = "wasm")]
    use crate::host::asynchronous as host;
    #[cfg(target_family = "wasm")]
    use crate::outcome::Outcome;

    /// The argument of an `async fn` handler.
    #[diagnostic::on_unimplemented(
        message = "an `async fn` handler takes `uninterruptible_guest::asynchronous::Connection`, not `{Self}`",
        note = "an `fn` handler takes `uninterruptible_guest::Connection`"
    )]
    pub trait Argument {}

    impl Argument for crate::asynchronous::Connection {}

    /// Fails to compile if a handler's argument is wrong.
    pub const fn takes<T: Argument>() {}

    /// Starts to serve one connection, and returns the stream to the peer.
    #[cfg(target_family = "wasm")]
    #[inline]
    pub fn run<R: Outcome + 'static>(
        handler: impl AsyncFnOnce(crate::asynchronous::Connection) -> R + 'static,
        connection: host::Connection,
        input: host::StreamReader,
    ) -> host::StreamReader {
        let (output, returned) = crate::bindings::asynchronous::wit_stream::new();
        task::start(serve(handler, connection, input, output));
        returned
    }
}

/// Exports a function as the handler of the 0.2 contract.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($handler:path) => {
        const _: () = {
            use $crate::__private::sync_bindings as bindings;

            struct Plugin;

            impl bindings::exports::uninterruptible::server::handler::Guest for Plugin {
                fn handle_request(
                    connection: bindings::uninterruptible::server::types::Connection,
                    input: bindings::wasi::io::streams::InputStream,
                    output: bindings::wasi::io::streams::OutputStream,
                ) -> Result<(), String> {
                    $crate::__private::sync::run($handler, connection, input, output)
                }
            }

    bindings::export_guest!(Plugin with_types_in bindings);
        };
    };
}

/// Exports a function as the handler of the 0.3 contract.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin_async {
    ($handler:path) => {
        const _: () = {
            use $crate::__private::asynchronous_bindings as bindings;

            struct Plugin;

            impl bindings::exports::uninterruptible::server::handler::Guest for Plugin {
                async fn handle_request(
                    connection: bindings::uninterruptible::server::types::Connection,
                    input: $crate::__private::StreamReader<u8>,
                ) -> $crate::__private::StreamReader<u8> {
                    $crate::__private::asynchronous::run($handler, connection, input)
                }
            }

    bindings::export_guest_async!(Plugin with_types_in bindings);
        };
    };
}
