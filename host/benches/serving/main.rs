//! Compares the host with native servers that do the same work and with other tools, and shows how
//! cost grows; on loopback, in one command:
//!
//! ```text
//! plugins/build && cargo bench --bench serving
//! ```
//!
//! ```text
//!                  this process: starts both servers, one round at a time, alternating
//!                     │                       │                        │
//!   the same binary as `native`   uninterruptible-host --plugin …   the same binary as `load`
//!                     └───────────────┬───────┘                        │
//!                         one of them at a time  ◀──── connections ────┘
//! ```
//!
//! Server, load and measurement are separate processes. So the kernel counts a server's cost alone,
//! and the load is the same program for every server. A slow machine does not fail this benchmark;
//! a wrong or missing answer does.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

mod aims;
mod alternatives;
mod cores;
mod encryption;
mod generations;
mod lean;
mod load;
#[path = "../machine.rs"]
mod machine;
mod measure;
#[path = "../median.rs"]
mod median;
mod native;
mod options;
mod plot;
mod process;
mod report;
mod resources;
#[path = "../section.rs"]
mod section;
mod servers;
#[path = "../sources.rs"]
mod sources;
mod statistics;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::measure::{Bench, Section};
use crate::options::{CommandLine, Options, Part, Role};
use crate::report::Report;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let outcome = match command_line.role {
        Some(Role::Native(options)) => native::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Role::Lean(options)) => lean::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Role::Load(options)) => load::run(&options).map(|()| ExitCode::SUCCESS),
        None if !command_line.bench => {
            println!("nothing measured: this is a benchmark, run it with `cargo bench --bench serving`");
            Ok(ExitCode::SUCCESS)
        }
        None => measure(&command_line.options.resolved()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs the parts that were asked for, prints the report, and writes it where it belongs if nothing
/// failed.
fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    process::raise_descriptor_limit()?;
    let bench = Bench::prepare(options)?;
    let facts = machine::facts("server and load share them, unless stated otherwise");
    let mut sections = Vec::new();
    for part in options.parts() {
        eprintln!("measuring {part}");
        let section: Section = match part {
            Part::Claim => measure::claim::section(&bench),
            Part::Hello => measure::hello::section(&bench),
            Part::Saturated => measure::hello::saturated(&bench),
            Part::Syscalls => measure::syscalls::section(&bench),
            Part::Echo => measure::echo::section(&bench),
            Part::Handshakes => measure::handshakes::section(&bench),
            Part::Forking => measure::alternatives::section(&bench),
            Part::Http => measure::alternatives::http(&bench),
            Part::Memory => measure::memory::section(&bench),
            Part::Start => measure::start::section(&bench),
            Part::Languages => measure::languages::section(&bench),
            Part::Plugins => measure::plugins::section(&bench),
            Part::Succession => measure::succession::section(&bench),
        }
        .with_context(|| format!("measure {part}"))?;
        sections.push(section);
    }
    let report = Report { rounds: options.rounds, facts, aims: bench.take_aims(), sections, plots: bench.take_plots() };
    println!("{report}");
    let failures = bench.failures();
    if failures.is_empty() {
        if let Some(path) = options.output_path() {
            report.write(&path)?;
            eprintln!("written to {}", path.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not written to a file, since these failed:");
    for failure in failures {
        eprintln!("  {failure}");
    }
    Ok(ExitCode::FAILURE)
}
