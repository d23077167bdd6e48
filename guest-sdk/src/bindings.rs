//! The bindings to the contract, made by two `generate!`. They are not part of the SDK's interface.
//!
//! The worlds are written here and not taken from the contract, so that they can name the interface
//! `drain` and WASI's sockets too. That costs a plugin nothing: a component imports only the
//! functions that its code calls.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the WIT files are the documentation")]

pub mod sync {
    wit_bindgen::generate!({
        inline: "
            package uninterruptible:guest-sdk;
            world guest {
                import uninterruptible:server/drain@0.2.0;
                import wasi:clocks/monotonic-clock@0.2.0;
                import wasi:sockets/instance-network@0.2.0;
                import wasi:sockets/ip-name-lookup@0.2.0;
                import wasi:sockets/tcp-create-socket@0.2.0;
                export uninterruptible:server/handler@0.2.0;
            }
        ",
        path: ["../wit/0.2", "wit/clocks", "wit/sockets"],
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_guest",
        default_bindings_module: "uninterruptible_guest::__private::sync_bindings",
    });
}

pub mod asynchronous {
    wit_bindgen::generate!({
        inline: "
            package uninterruptible:guest-sdk;
            world guest-async {
                import uninterruptible:server/drain@0.3.0;
                export uninterruptible:server/handler@0.3.0;
            }
        ",
        path: "../wit/0.3",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_guest_async",
        default_bindings_module: "uninterruptible_guest::__private::asynchronous_bindings",
    });
}
