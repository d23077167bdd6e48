//! The status page for a browser: one page without scripts or external resources, which reloads
//! itself every few seconds.

use super::{
    command::Outcome,
    status::{Done, Past, Phase, Status, written},
};
use crate::record::failure::Reason;
use std::{fmt::Write as _, time::Duration};

const STYLE: &str = include_str!("page.css");

/// The page as HTML.
pub(super) fn of(status: &Status) -> String {
    let mut page = Page(String::new());
    page.add(&format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"refresh\" content=\"5\">\n<title>generation {} {}</title>\n<style>\n{STYLE}</style>\n<main>\n",
        status.generation, status.state
    ));
    let uptime = humantime::format_duration(Duration::from_secs(status.uptime_seconds.as_secs()));
    let mark = match status.state {
        Phase::Serving | Phase::Offering | Phase::Committed => "good",
        Phase::Probation | Phase::Watching => "watch",
        Phase::Draining | Phase::Stopping => "bad",
    };
    page.add(&format!(
        "<header><h1>uninterruptible-host</h1><p><b class=\"{mark}\">{}</b> generation {} {}</p>\
         <p class=\"quiet\">process {}, version {}, started {}, {uptime} ago</p></header>\n",
        status.state,
        status.generation,
        status.state.described(),
        status.pid,
        status.version,
        written(status.started),
    ));
    connections(&mut page, status);
    listeners(&mut page, status);
    plugins(&mut page, status);
    changes(&mut page, status);
    page.add("<footer class=\"quiet\"><a href=\"/status\">status</a> <a href=\"/metrics\">metrics</a></footer>\n</main>\n</html>\n");
    page.0
}

struct Page(String);

impl Page {
    /// Appends markup of this module.
    fn add(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Appends a table with a heading. It escapes the cells.
    fn table<const N: usize>(&mut self, heading: &str, heads: [&str; N], rows: &[[String; N]]) {
        let cells = |kind: &str, cells: &[String]| {
            cells.iter().fold(String::new(), |mut row, cell| {
                // Writing to a string cannot fail.
                write!(row, "<{kind}>{}</{kind}>", escaped(cell)).ok();
                row
            })
        };
        let heads = cells("th", &heads.map(str::to_owned));
        self.add(&format!("<section><h2>{heading}</h2><table><tr>{heads}</tr>\n"));
        for row in rows {
            self.add(&format!("<tr>{}</tr>\n", cells("td", row)));
        }
        self.add("</table></section>\n");
    }
}

fn connections(page: &mut Page, status: &Status) {
    let counted = &status.connections;
    let totals = &counted.totals;
    let failed: u64 = Reason::ALL.iter().map(|reason| totals.failed.of(*reason)).sum();
    page.add("<section class=\"numbers\">");
    for (number, of) in [
        (format!("{}", counted.open), format!("open of {}", counted.most)),
        (totals.accepted.to_string(), "accepted".to_owned()),
        (totals.finished.to_string(), "finished".to_owned()),
        (failed.to_string(), "failed".to_owned()),
        (totals.refused.to_string(), "refused".to_owned()),
        (totals.requests.to_string(), "requests".to_owned()),
    ] {
        page.add(&format!("<div><b>{number}</b>{of}</div>"));
    }
    page.add("</section>\n");
    if failed > 0 {
        let reasons = Reason::ALL.iter().filter(|reason| totals.failed.of(**reason) > 0);
        let rows: Vec<_> = reasons.map(|reason| [reason.to_string(), totals.failed.of(*reason).to_string()]).collect();
        page.table("Failed connections", ["reason", "count"], &rows);
    }
}

fn listeners(page: &mut Page, status: &Status) {
    let rows = status.listeners.iter().map(|listener| {
        let how = if listener.tls { "TLS" } else { "none" };
        let does = if listener.accepting { "accepting" } else { "not accepting" };
        [listener.address.clone(), does.to_owned(), how.to_owned(), listener.plugins.join(", ")]
    });
    page.table("Listeners", ["address", "here", "encryption", "plugins"], &rows.collect::<Vec<_>>());
}

fn plugins(page: &mut Page, status: &Status) {
    let rows = status.plugins.iter().map(|plugin| {
        let loaded = written(plugin.loaded).to_string();
        [plugin.name.clone(), plugin.file.clone(), plugin.kind.clone(), plugin.sha256.clone(), loaded]
    });
    page.table("Plugins", ["name", "file", "kind", "SHA-256", "loaded"], &rows.collect::<Vec<_>>());
}

fn changes(page: &mut Page, status: &Status) {
    let row = |what: &str, Done { done, failed, last }: &Done| {
        let last = last.as_ref().map_or_else(|| "none by this process".to_owned(), described);
        [what.to_owned(), done.to_string(), failed.to_string(), last]
    };
    let rows = [row("restarts", &status.restarts), row("reloads", &status.reloads)];
    page.table("Changes", ["", "done", "failed", "last"], &rows);
    if !status.draining.is_empty() {
        let rows = status.draining.iter().map(|draining| {
            let unknown = || "unknown".to_owned();
            [
                draining.generation.map_or_else(|| "rolled back".to_owned(), |generation| generation.to_string()),
                draining.pid.to_string(),
                draining.connections.map_or_else(unknown, |connections| connections.to_string()),
            ]
        });
        page.table("Draining generations", ["generation", "process", "connections"], &rows.collect::<Vec<_>>());
    }
}

fn described(past: &Past) -> String {
    let outcome = match past.outcome() {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
        Outcome::Elsewhere => "elsewhere",
    };
    format!("{} {outcome}: {}", written(past.at()), past.detail())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
