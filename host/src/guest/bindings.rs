//! The bindings of `wit/`: one module for each version of the contract.

/// The contract over WASI 0.2 streams.
pub(super) mod wasi_0_2 {
    wasmtime::component::bindgen!({
        path: "../wit/0.2",
        world: "plugin",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
            "uninterruptible:server/types.connection": crate::guest::io::facts::Facts,
        },
    });
}

/// The contract over the component model's own streams.
pub(super) mod wasi_0_3 {
    wasmtime::component::bindgen!({
        path: "../wit/0.3",
        world: "plugin-async",
        imports: {
            default: trappable,
            "uninterruptible:server/types.[method]connection.input-end": store | trappable,
        },
        with: {
            "uninterruptible:server/types.connection": crate::guest::io::facts::Facts,
        },
    });
}
