//! A plugin's code: a component, the main module of one, or a program of WASI 0.1.

use super::{
    contract::{Declared, Form},
    lowering::Layer,
};
use crate::system::kernel::artifact::Artifact;
use wasmtime::{Engine, Module, component::Component};

/// Executable code, ready to be linked.
pub(crate) enum Code {
    Component(Component),
    /// The main module of a component, changed by `lowering`.
    Lowered(Module),
    /// A program of WASI 0.1.
    Module(Module),
}

impl Code {
    /// Compiles a file.
    pub(super) fn compile(engine: &Engine, file: &[u8], declared: &Declared) -> wasmtime::Result<Artifact> {
        match (&declared.layer, declared.form()) {
            (Layer::Lowered(lowering), _) => Artifact::of_module(engine, &lowering.module(file)?),
            (Layer::Needed(_), Form::Module) => Artifact::of_module(engine, file),
            (Layer::Needed(_), _) => Artifact::of_component(engine, file),
        }
    }

    /// Makes compiled code executable by `engine`.
    pub(crate) fn load(artifact: &Artifact, engine: &Engine, form: Form) -> wasmtime::Result<Self> {
        Ok(match form {
            Form::Component => Self::Component(artifact.load_component(engine)?),
            Form::Lowered => Self::Lowered(artifact.load_module(engine)?),
            Form::Module => Self::Module(artifact.load_module(engine)?),
        })
    }
}
