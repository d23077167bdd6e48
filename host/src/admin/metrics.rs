//! The status as Prometheus reads it: text, version 0.0.4. Names, kinds and units are an interface.

use super::status::{Phase, Status};
use crate::record::failure::Reason;
use std::{fmt::Display, time::SystemTime};

/// What is written so far.
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
    text.single(
        "uninterruptible_generation",
        "gauge",
        "Which process of the service this is, from 1.",
        status.generation,
    );
    text.family("uninterruptible_state", "gauge", "What the process does: 1 for that, 0 for all else.");
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
    text.single("uninterruptible_connections_open", "gauge", "Connections that this process serves.", counted.open);
    text.single("uninterruptible_connections_max", "gauge", "As many may be open at once.", counted.most);
    let totals = &counted.totals;
    for (name, help, value) in [
        ("uninterruptible_connections_accepted_total", "Connections that were accepted.", totals.accepted),
        ("uninterruptible_connections_refused_total", "Connections of peers that may not connect.", totals.refused),
        ("uninterruptible_connections_finished_total", "Connections that ended well.", totals.finished),
        ("uninterruptible_requests_total", "Requests of HTTP that guests were made for.", totals.requests),
    ] {
        text.single(name, "counter", help, value);
    }
    const FAILED: &str = "uninterruptible_connections_failed_total";
    text.family(FAILED, "counter", "Connections that ended otherwise, by reason.");
    for reason in Reason::ALL {
        text.value(FAILED, &[("reason", &reason)], totals.failed.of(reason));
    }
}

fn restarts(text: &mut Text, status: &Status) {
    for (name, what, done) in [
        ("uninterruptible_restarts_total", "Hot restarts, by whether the successor is the service.", &status.restarts),
        ("uninterruptible_reloads_total", "Reloads, by whether they took effect.", &status.reloads),
    ] {
        text.family(name, "counter", what);
        text.value(name, &[("outcome", &"done")], done.done);
        text.value(name, &[("outcome", &"failed")], done.failed);
    }
    text.single(
        "uninterruptible_draining_generations",
        "gauge",
        "Other processes of the service that finish what they have.",
        status.draining.len(),
    );
    text.single(
        "uninterruptible_draining_connections",
        "gauge",
        "Connections of those, as far as they have told.",
        status.draining.iter().filter_map(|draining| draining.connections).sum::<u64>(),
    );
}

fn plugins(text: &mut Text, status: &Status) {
    const LISTENER: &str = "uninterruptible_listener_accepting";
    text.family(LISTENER, "gauge", "Whether this process accepts on the listener.");
    for listener in &status.listeners {
        text.value(LISTENER, &[("address", &listener.address)], u8::from(listener.accepting));
    }
    const LOADED: &str = "uninterruptible_plugin_loaded_timestamp_seconds";
    text.family(LOADED, "gauge", "When a plugin that serves was loaded, in seconds since 1970.");
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
        "When the process was started, in seconds since 1970.",
        since_1970(status.started),
    );
    if let Some(seconds) = process.cpu_seconds {
        text.single("process_cpu_seconds_total", "counter", "CPU time of the process.", seconds);
    }
    if let Some(bytes) = process.resident_bytes {
        text.single("process_resident_memory_bytes", "gauge", "Memory that the process has in use.", bytes);
    }
    if let Some(open) = process.open_descriptors {
        text.single("process_open_fds", "gauge", "Open descriptors.", open);
    }
    if let Some(most) = process.most_descriptors {
        text.single("process_max_fds", "gauge", "As many descriptors may be open.", most);
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// As the format wants the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
