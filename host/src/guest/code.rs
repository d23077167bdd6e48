//! A plugin's code: a component, or a core module that is a program of WASI 0.1.

use super::contract::Form;
use crate::sys::Artifact;
use wasmtime::{Engine, Module, component::Component};

/// Executable code, ready to be linked.
pub(super) enum Code {
    Component(Component),
    Module(Module),
}

impl Code {
    /// Compiles a file.
    pub(super) fn compile(engine: &Engine, file: &[u8], form: Form) -> wasmtime::Result<Artifact> {
        Ok(Artifact::Fresh(match form {
            Form::Component => engine.precompile_component(file)?,
            Form::Module => engine.precompile_module(file)?,
        }))
    }

    /// Makes compiled code executable by `engine`.
    pub(super) fn load(artifact: &Artifact, engine: &Engine, form: Form) -> wasmtime::Result<Self> {
        Ok(match form {
            Form::Component => Self::Component(artifact.load(engine)?),
            Form::Module => Self::Module(artifact.load_module(engine)?),
        })
    }
}
