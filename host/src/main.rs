//! `uninterruptible-host`: parse, run, print one line where it failed, exit with a documented code.

use std::{
    panic,
    process::{self, ExitCode},
    thread,
};
use uninterruptible_host::{
    cli::Arguments,
    config::{self, Config},
    exit::Exit,
    fault,
    handoff::adopt::Inheritance,
    lifecycle, log, signals,
};

fn main() -> ExitCode {
    report_bugs();
    match run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            log::complain(&failure.to_string());
            failure.exit().into()
        }
    }
}

fn run() -> Result<Exit, lifecycle::Failure> {
    let signals = signals::install().map_err(lifecycle::Failure::Signals)?;
    config::fault_orders().map(fault::arm);
    let inheritance = config::handoff_channel().map(Inheritance::take).transpose()?;
    let config = match Arguments::from_process().map(Config::resolve) {
        Ok(Ok(config)) => config,
        Ok(Err(error)) => {
            inheritance.iter().for_each(|inheritance| inheritance.fail(&error.to_string()));
            return Err(error.into());
        }
        Err(refused) => {
            inheritance.iter().for_each(|inheritance| inheritance.fail(&refused.to_string()));
            return Ok(refused.answer());
        }
    };
    let _flush_on_exit = log::start(config.log);
    lifecycle::run(config, signals, inheritance)
}

/// A panic is one line. On the main thread, which owns the lifecycle, it ends the process: unwinding would wait for workers that
/// nobody leads any more.
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
