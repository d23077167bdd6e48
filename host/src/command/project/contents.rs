//! The files of projects, for each language.

use crate::config::project::Language;

/// A file of a project.
pub(super) struct File {
    /// Its path within the project.
    pub(super) path: &'static str,
    pub(super) content: Content,
    pub(super) executable: bool,
}

/// The content of a file.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// Text, unchanged.
    Text(&'static str),
    /// Bytes, unchanged.
    Bytes(&'static [u8]),
    /// A template whose words are filled in.
    Template(&'static str),
}

/// A file of this repository, by its path there.
macro_rules! ours {
    ($path:literal) => {
        include_str!(concat!("../../../../", $path))
    };
}

const fn text(path: &'static str, text: &'static str) -> File {
    File { path, content: Content::Text(text), executable: false }
}

const fn template(path: &'static str, text: &'static str) -> File {
    File { path, content: Content::Template(text), executable: false }
}

const fn script(text: &'static str) -> File {
    File { path: "build", content: Content::Template(text), executable: true }
}

/// All files of a project.
pub(super) fn of(language: Language) -> impl Iterator<Item = &'static File> {
    let own = match language {
        Language::Rust => RUST,
        Language::C => C,
        Language::JavaScript => JAVASCRIPT,
        Language::Python => PYTHON,
    };
    // For a Rust plugin the contract is part of the SDK.
    let shared = if language == Language::Rust { SDK } else { CONTRACT };
    own.iter().chain(shared).chain(COMMON)
}

/// The template words that depend on the language.
pub(super) fn words(language: Language) -> [(&'static str, &'static str); 5] {
    let [name, handler, test, tools, ignored] = match language {
        Language::Rust => [
            "Rust",
            "src/lib.rs",
            "    cargo test",
            "a Rust toolchain, and adds the WebAssembly target to it",
            "/target\n",
        ],
        Language::C => [
            "C",
            "handler.c",
            "    # for C there are no native tests: test the running plugin, as below",
            "clang, wasi-libc and the linker of a Rust toolchain",
            "",
        ],
        Language::JavaScript => ["JavaScript", "handler.js", "    node --test", "Node.js and npm", "/node_modules\n"],
        Language::Python => {
            ["Python", "app.py", "    python3 test.py", "Python 3.10 or later", "/.venv\n__pycache__\n"]
        }
    };
    [("@LANGUAGE@", name), ("@HANDLER@", handler), ("@TEST@", test), ("@TOOLS@", tools), ("@IGNORED@", ignored)]
}

const COMMON: &[File] = &[
    template("README.md", include_str!("../../../templates/README.md")),
    template(".gitignore", "/@NAME@.wasm\n/.@NAME@.wasm.new\n@IGNORED@"),
];

const RUST: &[File] = &[
    template("Cargo.toml", include_str!("../../../templates/rust/Cargo.toml")),
    script(include_str!("../../../templates/rust/build")),
    text("src/lib.rs", ours!("plugins/hello/src/lib.rs")),
    text("uninterruptible/lanes", ours!("plugins/lanes")),
    template("uninterruptible/Cargo.toml", include_str!("../../../templates/rust/uninterruptible.toml")),
];

const C: &[File] = &[
    script(include_str!("../../../templates/c/build")),
    text("handler.c", ours!("examples/c-hello/0.2/hello.c")),
    text("bindings/plugin.c", ours!("examples/c-hello/0.2/bindings/plugin.c")),
    text("bindings/plugin.h", ours!("examples/c-hello/0.2/bindings/plugin.h")),
    File {
        path: "bindings/plugin_component_type.o",
        content: Content::Bytes(include_bytes!("../../../../examples/c-hello/0.2/bindings/plugin_component_type.o")),
        executable: false,
    },
];

const JAVASCRIPT: &[File] = &[
    script(include_str!("../../../templates/js/build")),
    text("handler.js", ours!("examples/javascript-hello/0.2/hello.js")),
    text("test.js", include_str!("../../../templates/js/test.js")),
    text("package.json", ours!("examples/javascript-hello/package.json")),
    text("package-lock.json", ours!("examples/javascript-hello/package-lock.json")),
];

const PYTHON: &[File] = &[
    script(include_str!("../../../templates/python/build")),
    text("app.py", ours!("examples/python-hello/0.2/hello.py")),
    text("test.py", include_str!("../../../templates/python/test.py")),
    text("requirements.txt", ours!("examples/python-hello/requirements.txt")),
];

const CONTRACT: &[File] = &[
    text("wit/deps/io/SHA256SUMS", ours!("wit/0.2/deps/io/SHA256SUMS")),
    text("wit/deps/io/error.wit", ours!("wit/0.2/deps/io/error.wit")),
    text("wit/deps/io/poll.wit", ours!("wit/0.2/deps/io/poll.wit")),
    text("wit/deps/io/streams.wit", ours!("wit/0.2/deps/io/streams.wit")),
    text("wit/deps/io/world.wit", ours!("wit/0.2/deps/io/world.wit")),
    text("wit/server.wit", ours!("wit/0.2/server.wit")),
];

const SDK: &[File] = &[
    text("uninterruptible/guest-sdk/src/asynchronous.rs", ours!("guest-sdk/src/asynchronous.rs")),
    text("uninterruptible/guest-sdk/src/asynchronous/connection.rs", ours!("guest-sdk/src/asynchronous/connection.rs")),
    text("uninterruptible/guest-sdk/src/asynchronous/input.rs", ours!("guest-sdk/src/asynchronous/input.rs")),
    text("uninterruptible/guest-sdk/src/asynchronous/output.rs", ours!("guest-sdk/src/asynchronous/output.rs")),
    text("uninterruptible/guest-sdk/src/asynchronous/task.rs", ours!("guest-sdk/src/asynchronous/task.rs")),
    text("uninterruptible/guest-sdk/src/bindings.rs", ours!("guest-sdk/src/bindings.rs")),
    text("uninterruptible/guest-sdk/src/connect.rs", ours!("guest-sdk/src/connect.rs")),
    text("uninterruptible/guest-sdk/src/connection.rs", ours!("guest-sdk/src/connection.rs")),
    text("uninterruptible/guest-sdk/src/error.rs", ours!("guest-sdk/src/error.rs")),
    text("uninterruptible/guest-sdk/src/export.rs", ours!("guest-sdk/src/export.rs")),
    text("uninterruptible/guest-sdk/src/facts.rs", ours!("guest-sdk/src/facts.rs")),
    text("uninterruptible/guest-sdk/src/framing.rs", ours!("guest-sdk/src/framing.rs")),
    text("uninterruptible/guest-sdk/src/host.rs", ours!("guest-sdk/src/host.rs")),
    text("uninterruptible/guest-sdk/src/input.rs", ours!("guest-sdk/src/input.rs")),
    text("uninterruptible/guest-sdk/src/lib.rs", ours!("guest-sdk/src/lib.rs")),
    text("uninterruptible/guest-sdk/src/outcome.rs", ours!("guest-sdk/src/outcome.rs")),
    text("uninterruptible/guest-sdk/src/outgoing.rs", ours!("guest-sdk/src/outgoing.rs")),
    text("uninterruptible/guest-sdk/src/output.rs", ours!("guest-sdk/src/output.rs")),
    text("uninterruptible/guest-sdk/src/pieces.rs", ours!("guest-sdk/src/pieces.rs")),
    text("uninterruptible/guest-sdk/src/relay.rs", ours!("guest-sdk/src/relay.rs")),
    text("uninterruptible/guest-sdk/src/socket.rs", ours!("guest-sdk/src/socket.rs")),
    text("uninterruptible/guest-sdk/src/testing.rs", ours!("guest-sdk/src/testing.rs")),
    text("uninterruptible/guest-sdk/src/testing/asynchronous.rs", ours!("guest-sdk/src/testing/asynchronous.rs")),
    text("uninterruptible/guest-sdk/src/testing/sync.rs", ours!("guest-sdk/src/testing/sync.rs")),
    text("uninterruptible/guest-sdk/src/testing/wire.rs", ours!("guest-sdk/src/testing/wire.rs")),
    text("uninterruptible/guest-sdk/macros/src/expand.rs", ours!("guest-sdk/macros/src/expand.rs")),
    text("uninterruptible/guest-sdk/macros/src/lib.rs", ours!("guest-sdk/macros/src/lib.rs")),
    text("uninterruptible/guest-sdk/minimal/src/descriptors.rs", ours!("guest-sdk/minimal/src/descriptors.rs")),
    text("uninterruptible/guest-sdk/minimal/src/lib.rs", ours!("guest-sdk/minimal/src/lib.rs")),
    text("uninterruptible/guest-sdk/minimal/wit/cli/cli.wit", ours!("guest-sdk/minimal/wit/cli/cli.wit")),
    text("uninterruptible/guest-sdk/wit/clocks/clocks.wit", ours!("guest-sdk/wit/clocks/clocks.wit")),
    text("uninterruptible/guest-sdk/wit/sockets/sockets.wit", ours!("guest-sdk/wit/sockets/sockets.wit")),
    text("uninterruptible/guest-sdk/Cargo.toml", ours!("guest-sdk/Cargo.toml")),
    text("uninterruptible/guest-sdk/macros/Cargo.toml", ours!("guest-sdk/macros/Cargo.toml")),
    text("uninterruptible/guest-sdk/minimal/Cargo.toml", ours!("guest-sdk/minimal/Cargo.toml")),
    text("uninterruptible/wit/0.2/deps/io/SHA256SUMS", ours!("wit/0.2/deps/io/SHA256SUMS")),
    text("uninterruptible/wit/0.2/deps/io/error.wit", ours!("wit/0.2/deps/io/error.wit")),
    text("uninterruptible/wit/0.2/deps/io/poll.wit", ours!("wit/0.2/deps/io/poll.wit")),
    text("uninterruptible/wit/0.2/deps/io/streams.wit", ours!("wit/0.2/deps/io/streams.wit")),
    text("uninterruptible/wit/0.2/deps/io/world.wit", ours!("wit/0.2/deps/io/world.wit")),
    text("uninterruptible/wit/0.2/server.wit", ours!("wit/0.2/server.wit")),
    text("uninterruptible/wit/0.3/server.wit", ours!("wit/0.3/server.wit")),
];
