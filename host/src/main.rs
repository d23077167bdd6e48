//! `uninterruptible-host`: parse, run, print one line where it failed, exit with a documented code.

use std::{
    fmt::Display,
    panic,
    process::{self, ExitCode},
    thread,
};
use uninterruptible_host::{
    command,
    config::{self, Config, Layers, cli::Arguments},
    handoff::{adopt::Inheritance, fault, starter},
    lifecycle::{self, anchor, notify::Notifier},
    record::{exit::Exit, log},
    system::signals,
};

fn main() -> ExitCode {
    report_bugs();
    match run() {
        Ok(code) => code,
        Err(failure) => {
            log::complain(&failure.to_string());
            failure.exit().into()
        }
    }
}

fn run() -> Result<ExitCode, lifecycle::Error> {
    let handlers = signals::install().map_err(lifecycle::Error::Signals)?;
    if let Some(order) = config::starting() {
        return Ok(starter::run(order));
    }
    if let Some(orders) = config::fault_orders() {
        fault::arm(orders);
    }
    let inheritance = config::handoff_channel()?.map(Inheritance::take).transpose()?;
    let fail = |error: &dyn Display| inheritance.iter().for_each(|predecessor| predecessor.fail(&error.to_string()));
    let mut arguments = match Arguments::from_process() {
        Ok(arguments) => arguments,
        Err(refused) => {
            fail(&refused);
            return Ok(refused.answer().into());
        }
    };
    if let Some(command) = arguments.command.take() {
        return Ok(command::run(command, arguments, handlers)?.into());
    }
    let layers = Layers::read(arguments).inspect_err(|error| fail(error))?;
    // Before any thread exists. A successor does not step back behind a process that its
    // predecessor does not wait for.
    let launch = config::anchor(&layers).inspect_err(|error| fail(error))?;
    if let Some(launch) = launch.filter(|_| inheritance.is_none()) {
        return Ok(anchor::run(&launch, handlers)?);
    }
    let signals = handlers.deliver().map_err(lifecycle::Error::Signals)?;
    let activation = config::activation().map_err(config::Error::from).inspect_err(|error| fail(error))?;
    let config = Config::resolve(layers, activation.sockets.len()).inspect_err(|error| fail(error))?;
    let _flush_on_exit = log::start(&config.log).inspect_err(|error| fail(error))?;
    let anchor = Notifier::new(config.notify_socket.as_deref().filter(|_| config.anchored));
    let outcome = lifecycle::run(config, activation, signals, inheritance);
    anchor.ending(outcome.as_ref().map_or_else(lifecycle::Error::exit, |exit| *exit).code());
    outcome.map(ExitCode::from)
}

/// A panic is one line. On the main thread, which owns the lifecycle, it ends the process:
/// unwinding would wait for workers that nobody leads any more.
#[expect(clippy::exit, reason = "the hook runs where no exit code can be returned")]
fn report_bugs() {
    let lifecycle = thread::current().id();
    panic::set_hook(Box::new(move |bug| {
        log::complain(&format!("a bug, or a system that refuses threads: {}", bug.to_string().replace('\n', " ")));
        if thread::current().id() == lifecycle {
            process::exit(Exit::Bug.code());
        }
    }));
}
