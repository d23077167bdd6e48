//! A plugin's code: a component, or a core module that is a program of WASI 0.1.

use super::contract::Form;
use crate::system::kernel::artifact::Artifact;
use wasmtime::{Engine, Module, component::Component};

/// Executable code, ready to be linked.
pub(crate) enum Code {
    Component(Component),
    Module(Module),
}

impl Code {
    /// Compiles a file.
    pub(super) fn compile(engine: &Engine, file: &[u8], form: Form) -> wasmtime::Result<Artifact> {
        match form {
            Form::Component => Artifact::of_component(engine, file),
            Form::Module => Artifact::of_module(engine, file),
        }
    }

    /// Makes compiled code executable by `engine`.
    pub(crate) fn load(artifact: &Artifact, engine: &Engine, form: Form) -> wasmtime::Result<Self> {
        Ok(match form {
            Form::Component => Self::Component(artifact.load_component(engine)?),
            Form::Module => Self::Module(artifact.load_module(engine)?),
        })
    }
}
