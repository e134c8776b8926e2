//! `report.html`.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::chart::{ChartColor, Figure};
use super::error::ReportError;
use super::facts::{self, Fact};
use super::figures;
use super::headline::{Headline, headlines};
use super::notices::notices;
use super::numbers::{clean, one_line};
use super::table::Table;
use super::tables;
use super::view::{ArmView, View};

/// The data of the template.
#[derive(Serialize)]
struct Page {
    colors: Vec<ChartColor>,
    date: String,
    summary: String,
    cpu: String,
    notices: Vec<String>,
    headlines: Vec<Headline>,
    warnings: Vec<String>,
    /// By id.
    figures: BTreeMap<&'static str, Figure>,
    overall: Table,
    group_tables: Vec<Table>,
    predictions: Table,
    costs: Table,
    sources: Table,
    time: Table,
    verdicts: Table,
    wrong: Table,
    margins: Table,
    missing: Table,
    skipped: Table,
    models: Table,
    machine: Vec<Fact>,
    build: Vec<Fact>,
    settings: Vec<Fact>,
    configurations: Vec<Configuration>,
}

/// The configuration of an arm, or the command line of a peer.
#[derive(Serialize)]
struct Configuration {
    arm: String,
    facts: Vec<Fact>,
    text: String,
}

/// The whole page.
pub(crate) fn render(view: &View<'_>) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("parts.html", include_str!("page/parts.html"))?;
    environment.add_template("page.css", include_str!("page/page.css"))?;
    environment.add_template("page.html", include_str!("page/page.html"))?;
    let group_tables: Vec<Table> = if view.groups.len() > 1 {
        let all = 0..view.groups.len();
        all.map(|group| tables::of_group(view, group, tables::FULL))
            .filter(|table| !table.is_empty())
            .collect()
    } else {
        Vec::new()
    };
    let page = Page {
        colors: ChartColor::all(),
        date: facts::date(&view.results.started),
        summary: facts::summary(view),
        cpu: one_line(&view.results.machine.cpu),
        notices: notices(view),
        headlines: headlines(view),
        warnings: view.warnings.iter().map(|warning| one_line(warning)).collect(),
        figures: figures::all(view)?,
        overall: tables::overall(view, tables::FULL),
        group_tables,
        predictions: tables::predictions(view, true),
        costs: tables::costs(view),
        sources: tables::sources(view),
        time: tables::time(view),
        verdicts: tables::verdicts(view),
        wrong: tables::wrong(view),
        margins: tables::margins(view),
        missing: tables::missing(view),
        skipped: tables::skipped(view),
        models: tables::models(view),
        machine: facts::machine(view.results),
        build: facts::build(view.results),
        settings: facts::settings(view.results),
        configurations: view.arms().map(configuration).collect(),
    };
    Ok(environment.get_template("page.html")?.render(Serde(&page))?)
}

fn configuration(arm: &ArmView<'_>) -> Configuration {
    Configuration { arm: one_line(&arm.arm.name), facts: facts::arm(arm), text: clean(&arm.arm.config) }
}
