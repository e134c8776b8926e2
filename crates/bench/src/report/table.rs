//! A table that becomes HTML, Markdown or text for a terminal.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::Serialize;

use super::numbers::{NONE, one_line};

/// A table. The page's template reads its fields.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    /// What it shows, in few words.
    pub(crate) title: String,
    /// How to read it.
    pub(crate) note: Option<&'static str>,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Column {
    pub(crate) head: String,
    pub(crate) kind: Kind,
}

/// What a column holds, which says how it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Names, on one line where there is room.
    Words,
    /// Sentences, which take several.
    Prose,
    /// Figures, aligned to the right.
    Number,
}

/// A row; one that only names the rows under it has no cells.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) section: Option<String>,
    pub(crate) cells: Vec<Cell>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// What a cell's figure means for its arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tone {
    Plain,
    /// A win.
    Good,
    /// A loss, or worse.
    Bad,
    /// Nothing to say.
    Quiet,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: Vec<Column>) -> Self {
        Self { title: title.into(), note: None, columns, rows: Vec::new() }
    }

    pub(crate) fn with_note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }

    pub(crate) fn section(&mut self, name: &str) {
        self.rows.push(Row { section: Some(one_line(name)), cells: Vec::new() });
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(Row { section: None, cells });
    }

    /// Whether it has no row but names of sections.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.cells.is_empty())
    }

    /// For a terminal of so many columns: what does not fit is wrapped within its cell. Ends with a line break.
    pub(crate) fn text(&self, width: usize) -> String {
        let mut table = bare(width);
        table.set_header(self.columns.iter().map(|column| column.head.as_str()));
        let mut indent = "";
        for row in &self.rows {
            match &row.section {
                Some(name) => {
                    // A space could be lost where the cell is wrapped.
                    indent = "\u{a0}\u{a0}";
                    table.add_row([name.as_str()]);
                }
                None => {
                    let (first, rest) = row.cells.split_first().map_or(("", &[][..]), |(c, r)| (&c.text, r));
                    let rest = rest.iter().map(|cell| cell.text.clone());
                    table.add_row(std::iter::once(format!("{indent}{first}")).chain(rest));
                }
            }
        }
        for (place, (column, shape)) in table.column_iter_mut().zip(&self.columns).enumerate() {
            column.set_padding(if place == 0 { (0, 0) } else { (2, 0) });
            if shape.kind == Kind::Number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        lines(&table)
    }

    /// As GitHub's Markdown, without the title.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("|");
        for column in &self.columns {
            let _ = write!(text, " {} |", escaped(&column.head));
        }
        text.push_str("\n|");
        for column in &self.columns {
            text.push_str(if column.kind == Kind::Number { "---:|" } else { "---|" });
        }
        text.push('\n');
        for row in &self.rows {
            text.push('|');
            match &row.section {
                Some(name) => {
                    let _ = write!(text, " **{}** |", escaped(name));
                    text.extend(std::iter::repeat_n(" |", self.columns.len().saturating_sub(1)));
                }
                None => {
                    for cell in &row.cells {
                        let _ = write!(text, " {} |", escaped(&cell.text));
                    }
                }
            }
            text.push('\n');
        }
        text
    }
}

impl Column {
    pub(crate) fn words(head: impl AsRef<str>) -> Self {
        Self::new(head, Kind::Words)
    }

    pub(crate) fn prose(head: impl AsRef<str>) -> Self {
        Self::new(head, Kind::Prose)
    }

    pub(crate) fn number(head: impl AsRef<str>) -> Self {
        Self::new(head, Kind::Number)
    }

    fn new(head: impl AsRef<str>, kind: Kind) -> Self {
        Self { head: one_line(head.as_ref()), kind }
    }
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self::toned(text, Tone::Plain)
    }

    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        let text = one_line(text.as_ref());
        let tone = if text == NONE { Tone::Quiet } else { tone };
        Self { text, tone }
    }

    /// A figure that may be missing.
    pub(crate) fn maybe(text: Option<String>) -> Self {
        text.map_or_else(|| Self::new(NONE), Self::new)
    }
}

/// A paragraph, wrapped to so many columns; nothing where there is no text.
pub(crate) fn paragraph(text: &str, width: usize) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut table = bare(width);
    table.add_row([text]);
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
    }
    lines(&table)
}

fn bare(width: usize) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table
}

fn lines(table: &comfy_table::Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.replace('\u{a0}', " ").trim_end());
    }
    text
}

/// Text that Markdown shows as it stands, within one cell.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '$' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("t", vec![Column::words("arm"), Column::number("speed")]);
        table.section("se|tup");
        table.row(vec![Cell::new("a<b"), Cell::new("1.5")]);
        table
    }

    #[test]
    fn every_line_of_markdown_has_as_many_cells_as_the_head() {
        let markdown = table().markdown();
        for line in markdown.lines() {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 3, "{line}");
        }
        assert_eq!(markdown, "| arm | speed |\n|---|---:|\n| **se\\|tup** | |\n| a&lt;b | 1.5 |\n");
    }

    #[test]
    fn a_terminal_gets_aligned_columns() {
        assert_eq!(table().text(80), "arm     speed\nse|tup\n  a<b     1.5\n");
    }

    #[test]
    fn what_does_not_fit_is_wrapped() {
        let mut table = table();
        table.row(vec![Cell::new("a rather long name that goes on"), Cell::new("10.25")]);
        for line in table.text(24).lines() {
            assert!(line.chars().count() <= 24, "{line}");
        }
    }
}
