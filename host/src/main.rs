//! `uninterruptible-host`: parse, run, print one line where it failed, exit with a documented code.

use std::process::ExitCode;
use uninterruptible_host::{cli::Arguments, config::Config, exit::Exit, lifecycle, log, signals};

fn main() -> ExitCode {
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
    let config = match Arguments::from_process() {
        Ok(arguments) => Config::resolve(arguments)?,
        Err(refused) => return Ok(refused.answer()),
    };
    let _flush_on_exit = log::start(config.log);
    lifecycle::run(config, signals)
}
