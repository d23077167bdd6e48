//! Short connections: how many a second, how long each takes, its cost for the server, and how all
//! that grows with the number of clients.

use super::series::{COLUMNS, Series};
use super::{Bench, Contestant, Section, Side};
use crate::aims::Bound;
use crate::cores::Cores;
use crate::options::Work;
use crate::plot::{Curve, Plot, Scale};
use crate::report::grouped;
use crate::statistics::{Ratio, median};

/// The number of clients in the aims.
const AIMED_AT: usize = 64;

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let rows = rows(bench, &bench.options.clients)?;
    let curve = |index: usize, name| {
        let points =
            rows.iter().filter_map(|(clients, series)| Some((*clients as f64, median(series.get(index)?.rate()))));
        Curve { name, points: points.collect() }
    };
    let plot = bench.plot(Plot {
        file: "clients",
        title: "Short connections",
        x: "clients",
        scale: Scale::Logarithmic,
        y: "connections/s",
        curves: Side::USUAL.into_iter().enumerate().map(|(index, side)| curve(index, side.name())).collect(),
    });
    for (clients, series) in &rows {
        if let (AIMED_AT, [native, host, _]) = (*clients, &series[..]) {
            let p99 = Ratio::of_pairs(&native.p99(), &host.p99()).median;
            bench.aim("p99 at 64 clients, 0.2", Bound::AtMost(1.2), p99, "× native");
            bench.aim(
                "a guest's whole life on two threads, 0.2",
                Bound::AtMost(6.0),
                life(native, host),
                "µs of user time",
            );
        }
    }
    let section = Section::new("Short connections: `hello`").text(format!(
        "Tasks of a tokio runtime are the clients, and server and load share all cores, as in the first half of the claim. \
         Latency runs from connecting to the end of the connection. CPU is the time of the server's process for each \
         connection, in user mode and in the kernel.\n\n{plot}"
    ));
    Ok(fill(section, &rows))
}

/// The server has one core and the load has the others. This shows the limit of the server, not of
/// the machine.
pub(crate) fn saturated(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let section = Section::new("The same with the server's core saturated");
    let cores = match Cores::pinned() {
        Ok(cores) => cores,
        Err(error) => return Ok(section.text(format!("Not measured: {error:#}."))),
    };
    let rows = bench.with_cores(cores, || rows(bench, &[16, AIMED_AT]))?;
    for (clients, series) in &rows {
        if let (AIMED_AT, [native, host, concurrent]) = (*clients, &series[..]) {
            let rate = |series: &Series| Ratio::of_pairs(&native.rate(), &series.rate()).median;
            bench.aim(
                "connections/s with the server's core saturated, 0.2",
                Bound::AtLeast(0.85),
                rate(host),
                "× native",
            );
            bench.aim(
                "connections/s with the server's core saturated, 0.3",
                Bound::AtLeast(0.75),
                rate(concurrent),
                "× native",
            );
            bench.aim(
                "a guest's whole life on one thread, 0.2",
                Bound::AtMost(5.0),
                life(native, host),
                "µs of user time",
            );
        }
    }
    let section = section.text(
        "The server has the first core for itself, and the load has all others. So the load's own cost does not count \
         here.",
    );
    Ok(fill(section, &rows))
}

/// The cost of a guest's whole life: the host's user time for a connection less the native
/// server's. Kernel time is left out, since the two do not send the same number of packets.
fn life(native: &Series, host: &Series) -> f64 {
    median(host.user_time().iter().zip(native.user_time()).map(|(host, native)| host - native))
}

type Rows = Vec<(usize, Vec<Series>)>;

fn rows(bench: &Bench<'_>, clients: &[usize]) -> anyhow::Result<Rows> {
    let contestants = bench.start_all(&Side::USUAL, Work::Hello, clients.iter().copied().max().unwrap_or(1))?;
    let mut rows = Vec::new();
    for &clients in clients {
        let arguments = |one: &Contestant| format!("hello {} --clients {clients}", one.server.address());
        rows.push((clients, Series::for_a_time(bench, &contestants, arguments)?));
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;
    Ok(rows)
}

fn fill(section: Section, rows: &Rows) -> Section {
    let mut section = section.columns(["Clients"].into_iter().chain(COLUMNS));
    for (clients, series) in rows {
        for one in series {
            let mut row = vec![grouped(*clients as f64)];
            row.extend(one.cells(&series[0]));
            section.row(row);
        }
    }
    section
}
