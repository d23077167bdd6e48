//! Measures hot restarts from the outside, on loopback, in one command:
//!
//! ```text
//! plugins/build hello && cargo bench --bench restart
//! ```
//!
//! ```text
//!        this process: clients that ask all the time, and signals
//!          │                    │ USR1              │ TERM
//!          │            generation 1 ──► generation 2 ──► … ──► the last
//!          └── connections ──────┴───────────────────┴── one listener ──┘
//! ```
//!
//! The benchmark sees answers, the pidfile, `/proc`, and the times at which lines of the log
//! arrive. It inherits successors whose predecessors have ended, so it sees how each one ends, and
//! that none is left. It reports durations without judging them. An unanswered client, an
//! incomplete pidfile or a process that ends badly fails the run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

mod evidence;
mod family;
mod load;
mod log;
#[path = "../machine.rs"]
mod machine;
mod measure;
#[path = "../median.rs"]
mod median;
mod options;
mod patience;
mod pidfile;
mod report;
mod resources;
#[path = "../section.rs"]
mod section;
mod service;
#[path = "../sources.rs"]
mod sources;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::measure::Bench;
use crate::options::{CommandLine, Options};

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let outcome = if command_line.bench {
        measure(&command_line.options)
    } else {
        println!("nothing measured: this is a benchmark, run it with `cargo bench --bench restart`");
        Ok(ExitCode::SUCCESS)
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Measures, prints the report, and writes it to its file if nothing failed.
fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    patience::end_on_signals()?;
    // Before any process of a service starts: the facts come from programs that are waited for in
    // another way.
    let facts = machine::facts("hosts and clients share all of them");
    family::adopt_orphans()?;
    let bench = Bench::prepare(options)?;
    let (outcome, at_rest) = measure::restarts::sections(&bench).context("measure restarts")?;
    let longest = measure::longest::section(&bench).context("measure the longest waits")?;
    let starting = measure::succession::section(&bench).context("measure the succession")?;
    let signals = measure::signals::section(&bench).context("measure the answers to signals")?;
    let report = report::render(&facts, &[outcome, at_rest, longest, starting, signals]);
    println!("{report}");
    let failures = bench.failures();
    if failures.is_empty() {
        report::write(&options.output, &report)?;
        eprintln!("written to {}", options.output.display());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not written to a file, since there were {} failures:", failures.len());
    for failure in failures {
        eprintln!("  {failure}");
    }
    Ok(ExitCode::FAILURE)
}
