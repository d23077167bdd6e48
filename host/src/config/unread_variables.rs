//! Environment variables that this program does not read although they were probably meant for it.

use super::{cli, layers::ALIKE};
use crate::handoff::start;
use std::env;

/// The prefix of this program's own variables.
const PREFIX: &str = "UNINTERRUPTIBLE_";

/// Variables that processes of this program, or its tests, set for each other.
const INTERNAL: [&str; 3] = [start::CHANNEL_VARIABLE, super::ANCHORED_VARIABLE, super::environment::FAULTS_VARIABLE];

/// Each such variable with the one that was probably meant. Other variables with the prefix belong
/// to other programs: an orchestrator creates them from the name of a service.
pub fn unread_variables() -> Vec<(String, String)> {
    let known = cli::variables();
    let unread = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let is_read = |name: &String| known.iter().any(|(known, _)| known == name) || INTERNAL.contains(&name.as_str());
    let meant = |name: String| {
        let word = name.strip_prefix(PREFIX)?;
        // Some options have the variables of the Ruby gem, and are compared by their own names.
        let near = known.iter().map(|(variable, option)| {
            let by_variable = strsim::jaro_winkler(variable.trim_start_matches(PREFIX), word);
            let by_option = strsim::jaro_winkler(&option.to_uppercase().replace('-', "_"), word);
            (by_variable.max(by_option), variable)
        });
        let near = near.filter(|(alike, _)| *alike >= ALIKE).max_by(|(a, _), (b, _)| a.total_cmp(b));
        near.map(|(_, near)| (name.clone(), near.clone()))
    };
    unread.filter(|name| !is_read(name)).filter_map(meant).collect()
}
