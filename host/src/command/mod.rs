//! The subcommands, which do not serve. Each prints its result on standard output and exits. A
//! signal that stops a host ends it at once.

pub(crate) mod ask;
mod check;
mod inspect;
pub mod project;

use crate::{
    config::{
        self, Layers, Looking,
        cli::{Arguments, Command},
        project::Project,
    },
    guest::{self, Compiled},
    lifecycle::Error,
    record::{exit::Exit, log},
    system::signals::{Handlers, Signal, Signals},
};
use std::io::{self, Write};
use tokio::runtime;

/// Runs one subcommand, in a process that does not serve.
///
/// # Errors
///
/// If an option is not valid, the checked configuration would not be served, or the system refuses
/// a thread.
pub fn run(command: Command, arguments: Arguments, handlers: Handlers) -> Result<Exit, Error> {
    let work: Box<dyn FnOnce() -> Result<Exit, Error> + Send> = match command {
        Command::Check => {
            let layers = Layers::read(arguments)?;
            Box::new(move || check::run(layers))
        }
        Command::Ask(host, what) => {
            let asking = config::asking(host, what)?;
            Box::new(move || Ok(ask::run(&asking)))
        }
        Command::Inspect(file) => {
            let looking = Looking::resolve(file)?;
            Box::new(move || Ok(inspect::run(&looking)))
        }
        Command::Compile(file) => {
            let looking = Looking::resolve(file)?;
            Box::new(move || Ok(compile(&looking)))
        }
        Command::New(project) => {
            let project = config::project(&project)?;
            Box::new(move || Ok(begin(&project)))
        }
    };
    let mut signals = handlers.deliver().map_err(Error::Signals)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let exit = runtime.block_on(async {
        tokio::select! {
            done = tokio::task::spawn_blocking(work) => done.unwrap_or_else(|panic| Err(Error::Bug(panic.to_string()))),
            () = terminated(&mut signals) => Ok(Exit::CutShort),
        }
    });
    runtime.shutdown_background();
    exit
}

async fn terminated(signals: &mut Signals) {
    while signals.next().await != Signal::Terminate {}
}

fn begin(project: &Project) -> Exit {
    match project.write() {
        Ok(()) => say(&project.next_steps()),
        Err(error) => {
            log::complain(&error.to_string());
            match error {
                project::Error::Exists(_) => Exit::Usage,
                project::Error::Refused { .. } => Exit::System,
            }
        }
    }
}

fn compile(looking: &Looking) -> Exit {
    match guest::compile(
        &looking.plugin,
        looking.plugin_kind,
        looking.cache_dir.as_deref(),
        looking.wasi_0_3,
        looking.component_layer,
    ) {
        Ok(Compiled { entry, took: Some(took) }) => {
            say(&format!("compiled {} in {} ms to {}\n", looking.plugin.display(), took.as_millis(), entry.display()))
        }
        Ok(Compiled { entry, took: None }) => {
            say(&format!("{} is already compiled: {}\n", looking.plugin.display(), entry.display()))
        }
        Err(problem) => {
            log::complain(&format!("compile {}: {problem}", looking.plugin.display()));
            if problem.is_refusal_of_the_system() { Exit::System } else { Exit::Usage }
        }
    }
}

/// A reader that closes the pipe early, as `head` does, is not a failure; one that cannot take the
/// text is.
pub(crate) fn say(result: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(result.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            log::complain(&format!("standard output: {error}"));
            Exit::System
        }
        _ => Exit::Finished,
    }
}
