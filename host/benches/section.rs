//! A part of a report: a table with a paragraph above and below it, as Markdown that reads well in
//! a terminal too.

use std::fmt;

/// Of a line of prose.
const WIDTH: usize = 100;

/// One part of a report.
pub(crate) struct Section {
    title: &'static str,
    before: String,
    table: Table,
    after: String,
}

impl Section {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, before: String::new(), table: Table::default(), after: String::new() }
    }

    /// A paragraph: above the table until it has rows, below it then.
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        let place = if self.table.rows.is_empty() { &mut self.before } else { &mut self.after };
        *place = text.into();
        self
    }

    /// The paragraph above the table, where it is known last.
    #[allow(dead_code, reason = "each benchmark compiles this file, and one of them knows it first")]
    pub(crate) fn before(mut self, text: impl Into<String>) -> Self {
        self.before = text.into();
        self
    }

    pub(crate) fn columns(mut self, columns: impl IntoIterator<Item = &'static str>) -> Self {
        self.table = Table::new(columns);
        self
    }

    pub(crate) fn row(&mut self, row: Vec<String>) {
        self.table.rows.push(row);
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "## {}\n\n{}\n", self.title, wrapped(&self.before))?;
        if !self.table.rows.is_empty() {
            write!(f, "\n{}", self.table)?;
        }
        if self.after.is_empty() { Ok(()) } else { writeln!(f, "\n{}", wrapped(&self.after)) }
    }
}

/// Prose in lines of at most [`WIDTH`] characters; further lines of an item are indented. Code
/// stays as it is.
pub(crate) fn wrapped(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().map(|line| {
        is_code ^= line.starts_with("```");
        let indent = if line.starts_with("* ") { "  " } else { "" };
        if is_code { line.to_owned() } else { wrapped_line(line, indent) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str, indent: &str) -> String {
    let (mut text, mut length) = (String::new(), 0);
    for word in line.split(' ') {
        let word_length = word.chars().count();
        if length > 0 && length + 1 + word_length > WIDTH {
            text += "\n";
            text += indent;
            length = indent.len();
        } else if !text.is_empty() {
            text.push(' ');
            length += 1;
        }
        text += word;
        length += word_length;
    }
    text
}

#[derive(Default)]
pub(crate) struct Table {
    columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: impl IntoIterator<Item = &'static str>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize, name: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).chain([name.chars().count(), 3]).max().unwrap_or(3)
        };
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(column, name)| width(column, name)).collect();
        let header = self.columns.iter().zip(&widths).map(|(name, width)| format!(" {name:width$} |"));
        writeln!(f, "|{}", header.collect::<String>())?;
        writeln!(f, "|{}", widths.iter().map(|width| format!("{:-<1$}|", "", width + 2)).collect::<String>())?;
        for row in &self.rows {
            writeln!(
                f,
                "|{}",
                row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} |")).collect::<String>()
            )?;
        }
        Ok(())
    }
}

/// A whole number with its thousands set apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as milliseconds: fractions only where they matter.
pub(crate) fn milliseconds(seconds: f64) -> String {
    scaled(seconds * 1e3)
}

/// Fractions only where they matter.
pub(crate) fn scaled(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { grouped(number) }
}
