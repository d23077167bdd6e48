//! TLS: handshakes a second, full and resumed, and the cost of each for the server.

use super::series::{COLUMNS, Series};
use super::{Bench, Contestant, Section, Side};
use crate::aims::Bound;
use crate::encryption::{Files, Handshake};
use crate::options::Work;
use crate::report::grouped;
use crate::statistics::{Ratio, median};

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let clients = &bench.options.handshake_clients;
    let files = Files::make(bench.folder())?;
    let most = clients.iter().copied().max().unwrap_or(1);
    let start = |side| bench.start(bench.launch(side, Work::Hello, most)?.encrypted(&files));
    let sides = [Side::Native, Side::Host].into_iter();
    let contestants: Vec<Contestant> = sides
        .map(|side| Ok(Contestant { name: side.name().to_owned(), server: start(side)? }))
        .collect::<anyhow::Result<_>>()?;
    let mut section = Section::new("TLS handshakes: `hello`")
        .text(
            "Short connections over TLS 1.3 with a key on P-256. Both servers use the same library and settings, and the \
             load verifies that each handshake is full or resumed. The same machine does the clients' half of each \
             handshake, which takes as long.",
        )
        .columns(["Handshake", "Clients"].into_iter().chain(COLUMNS));
    for handshake in [Handshake::Full, Handshake::Resumed] {
        let mut ratios = Vec::new();
        for &clients in clients {
            let arguments = |contestant: &Contestant| {
                let (address, certificate) = (contestant.server.address(), files.tls_certificate.display());
                format!("handshakes {address} {} {certificate} --clients {clients}", word(handshake))
            };
            let all = Series::for_a_time(bench, &contestants, arguments)?;
            for series in &all {
                let mut row = vec![word(handshake).to_owned(), grouped(clients as f64)];
                row.extend(series.cells(&all[0]));
                section.row(row);
            }
            if let [native, host] = &all[..] {
                ratios.push(Ratio::of_pairs(&native.rate(), &host.rate()).median);
            }
        }
        let what = match handshake {
            Handshake::Full => "full TLS handshakes/s",
            Handshake::Resumed => "resumed TLS handshakes/s",
        };
        bench.aim(what, Bound::AtLeast(0.95), median(ratios), "× native");
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;
    Ok(section)
}

fn word(handshake: Handshake) -> &'static str {
    match handshake {
        Handshake::Full => "full",
        Handshake::Resumed => "resumed",
    }
}
