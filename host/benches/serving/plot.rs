//! Pictures of how things grow: lines over one axis, as SVG that needs nothing else to be seen.

use std::fmt::{self, Write};

use crate::section::grouped;

/// Where pictures lie, beside the report.
pub(crate) const FOLDER: &str = "performance";

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Colours that colour-blind readers can distinguish (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Two names closer than this could not be read.
const LINE: f64 = 15.0;

/// How the horizontal axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Logarithmic,
}

/// One server's figures at growing numbers of clients, connections or plugins.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A picture. The vertical axis begins at zero, so that a line which looks straight through the
/// origin is one.
#[derive(Debug)]
pub(crate) struct Plot {
    /// The name of the file, without its ending.
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) scale: Scale,
    pub(crate) y: &'static str,
    pub(crate) curves: Vec<Curve>,
}

impl Plot {
    /// The link that shows it in the report.
    pub(crate) fn link(&self) -> String {
        format!("![{} over {}]({FOLDER}/{}.svg)", self.title, self.x, self.file)
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.curves.iter().flat_map(|curve| curve.points.iter().copied())
    }

    /// The places on the horizontal axis that were measured.
    fn places(&self) -> Vec<f64> {
        let mut places: Vec<f64> = self.points().map(|(x, _)| x).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        places
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.places();
        let (Some(first), Some(last)) = (places.first().copied(), places.last().copied()) else {
            return f.write_str("<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n");
        };
        let step = step(self.points().map(|(_, y)| y).fold(0.0, f64::max));
        let highest = self.points().map(|(_, y)| (y / step).ceil() * step).fold(step, f64::max);
        let scaled = |x: f64| match self.scale {
            Scale::Linear => x,
            Scale::Logarithmic => x.max(f64::MIN_POSITIVE).log2(),
        };
        // A single place stands at the left.
        let span = (scaled(last) - scaled(first)).max(f64::MIN_POSITIVE);
        let across = |x: f64| LEFT + (scaled(x) - scaled(first)) / span * (WIDTH - LEFT - RIGHT);
        let up = |y: f64| HEIGHT - BOTTOM - y / highest * (HEIGHT - TOP - BOTTOM);

        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
        )?;
        writeln!(f, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>")?;
        text(f, WIDTH / 2.0, 20.0, "middle", "#000", &format!("{}, {}", self.title, self.y))?;
        text(f, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10.0, "middle", "#444", self.x)?;
        let (begin, end) = (LEFT, WIDTH - RIGHT);
        let mut y = 0.0;
        while y <= highest {
            writeln!(f, "<path d=\"M{begin:.1} {0:.1}H{end:.1}\" stroke=\"#ddd\"/>", up(y))?;
            text(f, LEFT - 8.0, up(y) + 4.0, "end", "#444", &tick(y, step))?;
            y += step;
        }
        let mut free = f64::NEG_INFINITY;
        for place in places {
            // A label that would lie on its neighbour is left out.
            if across(place) - free > 30.0 {
                text(f, across(place), HEIGHT - BOTTOM + 18.0, "middle", "#444", &grouped(place))?;
                free = across(place) + 2.0;
            }
        }

        // Names stand at the ends of their curves, moved down where they would lie on each other.
        let end_of = |curve: &Curve| curve.points.last().map_or(0.0, |(_, y)| up(*y));
        let mut order: Vec<(usize, &Curve)> = self.curves.iter().enumerate().collect();
        order.sort_by(|(_, one), (_, other)| end_of(one).total_cmp(&end_of(other)));
        let mut lowest = f64::NEG_INFINITY;
        for (index, curve) in order {
            let colour = COLOURS[index % COLOURS.len()];
            let mut path = String::new();
            for (index, (x, y)) in curve.points.iter().enumerate() {
                write!(path, "{}{:.1} {:.1}", if index == 0 { 'M' } else { 'L' }, across(*x), up(*y))?;
                writeln!(f, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", across(*x), up(*y))?;
            }
            writeln!(f, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>")?;
            lowest = end_of(curve).max(lowest + LINE);
            text(f, end + 8.0, lowest + 4.0, "start", colour, curve.name)?;
        }
        writeln!(f, "</svg>")
    }
}

fn text(f: &mut fmt::Formatter<'_>, x: f64, y: f64, anchor: &str, colour: &str, text: &str) -> fmt::Result {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(f, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>")
}

/// A round step: four to ten of them reach the highest point.
fn step(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf((highest / 4.0).log10().floor());
    let [small, middle, large] = [power, power * 2.0, power * 5.0];
    if highest / large >= 4.0 {
        large
    } else if highest / middle >= 4.0 {
        middle
    } else {
        small
    }
}

/// With as many digits after the point as the steps have.
fn tick(y: f64, step: f64) -> String {
    if step >= 1.0 { grouped(y) } else { format!("{y:.*}", (-step.log10().floor()).max(0.0) as usize) }
}
