//! The reference page of all keys, written from the key table: `docs/configuration.md`.

use std::fmt::Write as _;

use super::schema::{ComponentTable, Key, KeyTable, Kind, variable};
use crate::registry::Registry;

const HEAD: &str = "\
# Configuration

One TOML file configures a deployment. [configs/](../configs) has one for each backend to start from.

Each key can also be set by a flag (`--set decode.seed=7`) or by an environment variable (`UPCYCLE_DECODE__SEED=7`, with two
underscores between levels). Flags come first, then variables, then the file, then the defaults. A relative path in a file is
relative to the file's folder, elsewhere to the working directory.

An unknown key or a wrong value is an error that names the line, what was expected and the nearest name. An empty variable counts
as unset. An unknown variable is a warning, and variables that Kubernetes sets for a service are ignored. `upcycle config check
FILE` prints a file with the variables of the environment and every default written out.

A default of `-` means that the key is not set. Backends, drafters and sources of your own read their tables in the same way:
[Adding a backend](adding-a-backend.md).

<!-- Generated from the doc comments of the types: UPDATE_PAGES=1 ./scripts/test.sh -->
";

const TAIL: &str = "
## Other variables

| variable | meaning |
|---|---|
| `UPCYCLE_KERNELS` | forces a path of the kernels: `portable`, `neon-dot`, `avx2`, `avx-vnni`, `avx512-vnni` |
| `UPCYCLE_MODELS` | the folder where `scripts/get-model.sh` keeps models |
| `UPCYCLE_TEST_MODEL` | the model for tests |
| `ORT_DYLIB_PATH` | ONNX Runtime's shared library |
| `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` | the Hugging Face hub, as for its other programs |
| `NO_COLOR` | turns colours off |
";

/// The reference of all keys with a registry's backends, drafters and sources, as a page in Markdown.
#[must_use]
pub fn configuration_page(registry: &Registry) -> String {
    let keys = KeyTable::new(registry);
    let mut tables = Vec::new();
    for section in ["model", "backend", "drafter", "decode", "engine", "server", "log"] {
        tables.push(section.to_owned());
        let of_section = |table: &&ComponentTable| table.section.split('.').next() == Some(section);
        tables.extend(keys.component_tables.iter().filter(of_section).map(ComponentTable::key));
    }
    let mut page = HEAD.to_owned();
    for table in &tables {
        let rows = keys.keys.iter().filter(|(name, _)| table_of(name, &tables) == Some(table));
        let rows: String = rows.map(|(name, key)| row(name, key)).collect();
        if !rows.is_empty() {
            let depth = "#".repeat(table.matches('.').count() + 2);
            let head = "| key | type | default | meaning | variable |\n|---|---|---|---|---|";
            let _ = write!(page, "\n{depth} `[{table}]`\n\n{head}\n{rows}");
        }
    }
    page + TAIL
}

/// The deepest of the page's tables that contains a key.
fn table_of<'a>(key: &str, tables: &'a [String]) -> Option<&'a String> {
    let mut parents =
        std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(parent, _)| parent)).skip(1);
    parents.find_map(|parent| tables.iter().find(|table| *table == parent))
}

fn row(name: &str, key: &Key) -> String {
    let default = match &key.default {
        Some(toml::Value::Table(table)) if table.is_empty() => "`{}`".to_owned(),
        Some(value) => format!("`{value}`"),
        None => "-".to_owned(),
    };
    let kind = match (key.kind, key.range) {
        (Kind::Integer | Kind::Number, (Some(_), Some(_))) => format!("number, {}", key.range_text()),
        (Kind::Integer, _) => "whole number".to_owned(),
        (Kind::IntegerOrName, _) => "whole number or name".to_owned(),
        (Kind::String, _) if key.path.is_some() => "path".to_owned(),
        (Kind::String, _) if !key.names.is_empty() => "name".to_owned(),
        (Kind::Table, _) => "table".to_owned(),
        _ => key.to_string().trim_start_matches("a ").to_owned(),
    };
    let mut meaning = key.doc.clone();
    if !key.names.is_empty() {
        let names: Vec<String> = key
            .names
            .iter()
            .map(|(name, doc)| match doc.trim_end_matches('.') {
                "" => format!("`{name}`"),
                doc => format!("`{name}` ({doc})"),
            })
            .collect();
        let _ = write!(meaning, " Values: {}.", names.join(", "));
    }
    format!(
        "| `{name}` | {kind} | {default} | {} | `{}` |\n",
        meaning.trim().replace('|', "\\|"),
        variable(name)
    )
}
