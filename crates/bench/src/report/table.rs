//! Tables, shown as HTML or as text.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::Serialize;

use super::numbers::{NONE, one_line};
use super::view::{ArmView, View};

/// A table. The page template reads its fields.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// How to read it.
    pub(crate) note: Option<&'static str>,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Column {
    pub(crate) head: String,
    pub(crate) kind: ColumnKind,
}

/// What a column contains, which decides its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ColumnKind {
    /// Names, on one line if possible.
    Words,
    /// Sentences, on several lines.
    Prose,
    /// Numbers, aligned to the right.
    Number,
}

/// A row of cells, or the heading of the following rows.
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

/// What a cell means for its arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tone {
    Plain,
    /// A gain.
    Good,
    /// A loss, or worse.
    Bad,
    /// No content.
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

    /// Adds rows by setup, under its name: `rows` makes the rows of one arm. Setups without rows are left out.
    pub(crate) fn with_arms<'a>(
        mut self,
        view: &View<'a>,
        rows: impl Fn(&ArmView<'a>) -> Vec<Vec<Cell>>,
    ) -> Self {
        for setup in &view.setups {
            let rows: Vec<_> = setup.arms.iter().flat_map(&rows).collect();
            if !rows.is_empty() {
                self.section(setup.name);
                rows.into_iter().for_each(|cells| self.row(cells));
            }
        }
        self
    }

    pub(crate) fn section(&mut self, name: &str) {
        self.rows.push(Row { section: Some(one_line(name)), cells: Vec::new() });
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(Row { section: None, cells });
    }

    /// Whether it has no rows with cells.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.cells.is_empty())
    }

    /// The table as text of at most `width` columns. Long cells are wrapped. Ends with a line break.
    pub(crate) fn text(&self, width: usize) -> String {
        let mut table = bare(width);
        table.set_header(self.columns.iter().map(|column| column.head.as_str()));
        let mut indent = "";
        for row in &self.rows {
            match &row.section {
                Some(name) => {
                    // Wrapping could remove an ordinary space.
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
        for (index, (column, shape)) in table.column_iter_mut().zip(&self.columns).enumerate() {
            column.set_padding(if index == 0 { (0, 0) } else { (2, 0) });
            if shape.kind == ColumnKind::Number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        lines(&table)
    }
}

impl Column {
    pub(crate) fn words(head: impl AsRef<str>) -> Self {
        Self::new(head, ColumnKind::Words)
    }

    pub(crate) fn prose(head: impl AsRef<str>) -> Self {
        Self::new(head, ColumnKind::Prose)
    }

    pub(crate) fn number(head: impl AsRef<str>) -> Self {
        Self::new(head, ColumnKind::Number)
    }

    fn new(head: impl AsRef<str>, kind: ColumnKind) -> Self {
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

    /// A cell that may be missing.
    pub(crate) fn maybe(text: Option<String>) -> Self {
        text.map_or_else(|| Self::new(NONE), Self::new)
    }
}

/// A paragraph of at most `width` columns; empty without text.
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
    fn text_columns_are_aligned() {
        assert_eq!(table().text(80), "arm     speed\nse|tup\n  a<b     1.5\n");
    }

    #[test]
    fn long_cells_are_wrapped() {
        let mut table = table();
        table.row(vec![Cell::new("a rather long name that goes on"), Cell::new("10.25")]);
        for line in table.text(24).lines() {
            assert!(line.chars().count() <= 24, "{line}");
        }
    }
}
