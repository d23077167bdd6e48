//! `uninterruptible-host`: parse, run, print one line where it failed, exit with a documented code.

use std::{panic, process::ExitCode};
use uninterruptible_host::{cli::Arguments, config::Config, exit::Exit, lifecycle, log, signals};

fn main() -> ExitCode {
    panic::set_hook(Box::new(|bug| log::complain(&format!("a bug in uninterruptible-host: {bug}"))));
    match panic::catch_unwind(run) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => {
            log::complain(&failure.to_string());
            failure.exit().into()
        }
        Err(_) => Exit::Bug.into(), // The hook has said what it was.
    }
}

fn run() -> Result<Exit, lifecycle::Failure> {
    let signals = signals::install().map_err(lifecycle::Failure::Signals)?;
    let config = match Arguments::from_process() {
        Ok(arguments) => Config::resolve(arguments)?,
        Err(refused) => return Ok(refused.answer()),
    };
    let _flush_on_exit = log::start(config.log);
    lifecycle::run(config, signals)
}
