//! The status in the text format of Prometheus, version 0.0.4. Names, kinds and units are an
//! interface.

use super::status::{Phase, Status};
use crate::record::failure::Reason;
use std::{fmt::Display, time::SystemTime};

/// The text so far.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn value(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(&value.to_string()))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("{name}{labels} {value}"));
    }

    /// One value without labels.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.value(name, &[], value);
    }

    fn line(&mut self, line: impl Display) {
        self.0.push_str(&line.to_string());
        self.0.push('\n');
    }
}

/// The status as text.
pub(super) fn of(status: &Status) -> String {
    let mut text = Text(String::new());
    text.family("uninterruptible_build_info", "gauge", "The version of the host.");
    text.value("uninterruptible_build_info", &[("version", &status.version)], 1);
    text.single("uninterruptible_generation", "gauge", "Generation of the process, starting at 1.", status.generation);
    text.family("uninterruptible_state", "gauge", "State of the process: 1 for the current state, 0 for the others.");
    for phase in Phase::ALL {
        text.value("uninterruptible_state", &[("state", &phase)], u8::from(phase == status.state));
    }
    connections(&mut text, status);
    restarts(&mut text, status);
    plugins(&mut text, status);
    process(&mut text, status);
    text.0
}

fn connections(text: &mut Text, status: &Status) {
    let counted = &status.connections;
    text.single("uninterruptible_connections_open", "gauge", "Open connections of this process.", counted.open);
    text.single(
        "uninterruptible_connections_max",
        "gauge",
        "Limit on open connections (--max-connections).",
        counted.most,
    );
    let totals = &counted.totals;
    for (name, help, value) in [
        ("uninterruptible_connections_accepted_total", "Accepted connections.", totals.accepted),
        ("uninterruptible_connections_refused_total", "Connections rejected by the access rules.", totals.refused),
        ("uninterruptible_connections_finished_total", "Connections that finished without an error.", totals.finished),
        ("uninterruptible_requests_total", "HTTP requests served by guests.", totals.requests),
    ] {
        text.single(name, "counter", help, value);
    }
    const FAILED: &str = "uninterruptible_connections_failed_total";
    text.family(FAILED, "counter", "Failed connections, by reason.");
    for reason in Reason::ALL {
        text.value(FAILED, &[("reason", &reason)], totals.failed.of(reason));
    }
}

fn restarts(text: &mut Text, status: &Status) {
    for (name, what, done) in [
        ("uninterruptible_restarts_total", "Hot restarts, by outcome.", &status.restarts),
        ("uninterruptible_reloads_total", "Reloads, by outcome.", &status.reloads),
    ] {
        text.family(name, "counter", what);
        text.value(name, &[("outcome", &"done")], done.done);
        text.value(name, &[("outcome", &"failed")], done.failed);
    }
    text.single("uninterruptible_draining_generations", "gauge", "Draining generations.", status.draining.len());
    text.single(
        "uninterruptible_draining_connections",
        "gauge",
        "Open connections of draining generations, as last reported.",
        status.draining.iter().filter_map(|draining| draining.connections).sum::<u64>(),
    );
}

fn plugins(text: &mut Text, status: &Status) {
    const LISTENER: &str = "uninterruptible_listener_accepting";
    text.family(LISTENER, "gauge", "1 if this process accepts on the listener, 0 if not.");
    for listener in &status.listeners {
        text.value(LISTENER, &[("address", &listener.address)], u8::from(listener.accepting));
    }
    const LOADED: &str = "uninterruptible_plugin_loaded_timestamp_seconds";
    text.family(LOADED, "gauge", "Time at which a plugin was loaded, in seconds since 1970.");
    for plugin in &status.plugins {
        let labels: [(&str, &dyn Display); 4] = [
            ("plugin", &plugin.name),
            ("file", &plugin.file),
            ("contract", &plugin.contract),
            ("sha256", &plugin.sha256),
        ];
        text.value(LOADED, &labels, since_1970(plugin.loaded));
    }
}

fn process(text: &mut Text, status: &Status) {
    let process = &status.process;
    text.single(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process, in seconds since 1970.",
        since_1970(status.started),
    );
    if let Some(seconds) = process.cpu_seconds {
        text.single("process_cpu_seconds_total", "counter", "CPU time of the process, in seconds.", seconds);
    }
    if let Some(bytes) = process.resident_bytes {
        text.single("process_resident_memory_bytes", "gauge", "Resident memory of the process, in bytes.", bytes);
    }
    if let Some(open) = process.open_descriptors {
        text.single("process_open_fds", "gauge", "Open file descriptors.", open);
    }
    if let Some(most) = process.most_descriptors {
        text.single("process_max_fds", "gauge", "Limit on open file descriptors.", most);
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Escapes a label value as the format requires.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
