//! The claim about speed: two loads against two native servers, and the worst pair counts. A single
//! load with a single native server can flatter the host.

use super::series::Series;
use super::{Bench, Section, Side};
use crate::aims::Bound;
use crate::native::BACKLOG;
use crate::options::Work;
use crate::report::grouped;
use crate::section::scaled;
use crate::statistics::{Ratio, median};

const SIDES: [Side; 4] = [Side::Lean, Side::Native, Side::Host, Side::HostAsync];
const CLIENTS: [usize; 3] = [16, 64, 256];
const COLUMNS: [&str; 8] =
    ["Load", "Clients", "Server", "connections/s", "host, 0.2 ÷ it", "host, 0.3 ÷ it", "user, µs", "system, µs"];

/// How a load makes its clients: its name, and the load's option.
const LOADS: [(&str, &str); 2] = [("tasks", ""), ("threads", " --threads")];

/// One of the host's sides beside a native server.
struct Pair {
    side: Side,
    ratio: Ratio,
    circumstances: String,
}

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let contestants = bench.start_all(&SIDES, Work::Hello, CLIENTS.into_iter().max().unwrap_or(1))?;
    let mut section = Section::new("The claim: two loads, two native servers").text(text(bench)).columns(COLUMNS);
    let mut pairs: Vec<Pair> = Vec::new();
    for (load, option) in LOADS {
        for clients in CLIENTS {
            let all = Series::for_a_time(bench, &contestants, |one| {
                format!("hello {}{option} --clients {clients}", one.server.address())
            })?;
            let [lean, native, host, concurrent] = &all[..] else { continue };
            for one in &all {
                let mut row = vec![load.to_owned(), clients.to_string(), one.name.clone(), grouped(median(one.rate()))];
                for (side, measured) in [(Side::Host, host), (Side::HostAsync, concurrent)] {
                    let is_native = [lean, native].iter().any(|native| native.name == one.name);
                    let ratio = is_native.then(|| Ratio::of_pairs(&one.rate(), &measured.rate()));
                    row.push(ratio.map_or_else(String::new, |ratio| ratio.to_string()));
                    let circumstances =
                        || format!("{clients} clients, load of {load}, against the {} server", one.name);
                    pairs.extend(ratio.map(|ratio| Pair { side, ratio, circumstances: circumstances() }));
                }
                row.extend([median(one.user_time()), median(one.system_time())].map(scaled));
                section.row(row);
            }
        }
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;
    let sides = [
        (Side::Host, "connections/s, worst pair, 0.2", 1.0),
        (Side::HostAsync, "connections/s, worst pair, 0.3", 0.75),
    ];
    let mut claims = Vec::new();
    for (side, what, bound) in sides {
        let of_side = pairs.iter().filter(|pair| pair.side == side);
        let worst = of_side.min_by(|one, other| one.ratio.median.total_cmp(&other.ratio.median));
        if let Some(Pair { ratio, circumstances, .. }) = worst {
            bench.aim(what, Bound::AtLeast(bound), ratio.median, "× native");
            claims.push(format!("* {}: {ratio} × the native rate ({circumstances}).", side.name()));
        }
    }
    Ok(section.text(format!("The claim is the worst pair:\n\n{}", claims.join("\n"))))
}

fn text(bench: &Bench<'_>) -> String {
    let workers = bench.workers();
    format!(
        "Each client connects, sends `bob` and a newline, reads `Hello bob!` to the end of the connection, and begins again. \
         The load is a process of its own, and server and load share all cores.\n\n\
         * *tasks*: clients are tasks of a tokio runtime with a thread for each core.\n\
         * *threads*: each client is a thread that blocks in the kernel.\n\
         * *lean native*: reads a line, answers, shuts down, drops the connection (`host/benches/serving/lean.rs`).\n\
         * *native*: also limits open connections and drains each one before closing, as the host does (`native.rs`). The other tables compare with it.\n\n\
         Every server is a process with tokio's multi-threaded runtime, {workers} worker threads (`--workers`), one listener with a \
         backlog of {BACKLOG} (`--backlog`), `SO_REUSEADDR` and `TCP_NODELAY`, and comes from the same build profile. CPU time is of \
         the server's process for each connection.",
    )
}
