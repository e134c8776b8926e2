//! Absent arms, skipped prompts and models.

use crate::report::table::{Cell, Column, Table};
use crate::report::view::View;
use crate::results::ArmState;

/// Absent and failed arms.
pub(crate) fn missing(view: &View<'_>) -> Table {
    let columns = vec![Column::words("arm"), Column::words("state"), Column::prose("why")];
    let mut table = Table::new("Absent and failed arms", columns);
    for arm in view.arms() {
        let (state, reason) = match &arm.arm.state {
            ArmState::Measured => continue,
            ArmState::Absent { reason } => ("absent", reason),
            ArmState::Failed { reason } => ("failed", reason),
        };
        table.row(vec![Cell::new(&arm.arm.name), Cell::new(state), Cell::new(reason)]);
    }
    table
}

/// Skipped prompts.
pub(crate) fn skipped(view: &View<'_>) -> Table {
    let columns = vec![Column::words("prompt"), Column::words("group"), Column::prose("why")];
    let mut table = Table::new("Skipped prompts", columns);
    for skipped in &view.results.skipped {
        table.row([&skipped.question, &skipped.group, &skipped.reason].map(Cell::new).into());
    }
    table
}

/// The model files.
pub(crate) fn models(view: &View<'_>) -> Table {
    let columns = vec![Column::words("model"), Column::prose("SHA-256")];
    let mut table = Table::new("Models", columns);
    let mut seen = Vec::new();
    for arm in view.arms() {
        let model = (&arm.arm.model, &arm.arm.model_sha256);
        if !seen.contains(&model) {
            seen.push(model);
            table.row(vec![Cell::new(model.0), Cell::new(model.1)]);
        }
    }
    table
}
