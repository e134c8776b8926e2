//! Facts about a run, as names and values.

use serde::Serialize;

use crate::results::{InitialTables, Results};

use super::numbers::{NONE, bytes, count, decimal, one_line};
use super::view::{ArmView, View};

/// A name and its value. The page template reads the fields.
#[derive(Debug, Serialize)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

fn fact(name: &'static str, value: impl AsRef<str>) -> Fact {
    let value = one_line(value.as_ref());
    Fact { name, value: if value.is_empty() { NONE.to_owned() } else { value } }
}

/// Date, prompts, rounds and decoding on one line.
pub(crate) fn summary(view: &View<'_>) -> String {
    let settings = &view.results.settings;
    let groups =
        if view.groups.len() > 1 { format!(" in {} groups", view.groups.len()) } else { String::new() };
    format!(
        "{}; {}{groups}, {}, {}",
        date(&view.results.started),
        count(settings.prompts_count, "prompt", "prompts"),
        count(settings.rounds_done, "round", "rounds"),
        decoding(view.results),
    )
}

/// The machine, and how busy other programs kept it.
pub(crate) fn machine(results: &Results) -> Vec<Fact> {
    let machine = &results.machine;
    let load =
        |load: Option<[f64; 3]>| load.map_or(NONE.to_owned(), |load| load.map(|l| decimal(l, 2)).join(", "));
    let busy = machine.others_busy.map_or(NONE.to_owned(), |busy| {
        format!("{} of {}", decimal(busy, 2), count(machine.processors, "processor", "processors"))
    });
    vec![
        fact("processor", &machine.cpu),
        fact("instruction sets", machine.flags.join(", ")),
        fact("logical processors", machine.processors.to_string()),
        fact("memory", bytes(machine.memory)),
        fact("system", &machine.system),
        fact("load at the start (1, 5, 15 min)", load(machine.load_start)),
        fact("load at the end", load(machine.load_end)),
        fact("kept busy by other programs while arms were timed", busy),
    ]
}

/// The program.
pub(crate) fn build(results: &Results) -> Vec<Fact> {
    let build = &results.build;
    vec![
        fact("version", &build.version),
        fact("git revision", build.revision.as_deref().unwrap_or(NONE)),
        fact("profile", &build.profile),
    ]
}

/// The settings.
pub(crate) fn settings(results: &Results) -> Vec<Fact> {
    let settings = &results.settings;
    let tables = match settings.tables {
        InitialTables::Empty => "empty for each prompt",
        InitialTables::Carried => {
            "carried from the previous prompts of the round, starting with the configured snapshot, if any"
        }
        InitialTables::Snapshot => "the configured snapshot",
    };
    let per_group = settings.per_group.map_or("no limit".to_owned(), |most| format!("at most {most}"));
    vec![
        fact("began", date(&results.started)),
        fact("ended", date(&results.finished)),
        fact("prompts", format!("{}, from {}", settings.prompts_count, settings.prompts)),
        fact("SHA-256 of the prompts", &settings.prompts_sha256),
        fact("groups", settings.groups.join(", ")),
        fact("prompts per group", per_group),
        fact("tokens per answer", format!("at most {}", settings.max_tokens)),
        fact("rounds", format!("{} of {}", settings.rounds_done, settings.rounds)),
        fact("decoding", decoding(results)),
        fact("drafter tables at the start of a prompt", tables),
    ]
}

/// The engine, model and drafter of an arm.
pub(crate) fn arm(arm: &ArmView<'_>) -> Vec<Fact> {
    let arm = arm.arm;
    let number = |number: Option<usize>| number.map_or(NONE.to_owned(), |number| number.to_string());
    vec![
        fact("engine", [arm.engine.as_str(), arm.engine_version.as_deref().unwrap_or_default()].join(" ")),
        fact("model", &arm.model),
        fact("drafter", &arm.drafter),
        fact("draft nodes", number(arm.nodes)),
        fact("threads", number(arm.threads)),
    ]
}

/// `2026-03-01 09:30 UTC`, or the unchanged text if it is not a date.
pub(crate) fn date(stamp: &str) -> String {
    match (stamp.get(..10), stamp.get(10..11), stamp.get(11..16)) {
        (Some(day), Some("T"), Some(time)) if stamp.ends_with('Z') => format!("{day} {time} UTC"),
        _ => one_line(stamp),
    }
}

fn decoding(results: &Results) -> String {
    let settings = &results.settings;
    if settings.temperature == 0.0 {
        "greedy".to_owned()
    } else {
        format!("temperature {}, seed {}", decimal(f64::from(settings.temperature), 2), settings.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dates_are_shortened() {
        assert_eq!(date("2026-03-01T09:30:11.5Z"), "2026-03-01 09:30 UTC");
        assert_eq!(date("2026-03-01T09:30:11+01:00"), "2026-03-01T09:30:11+01:00");
        assert_eq!(date("höhö, not a dateZ"), "höhö, not a dateZ");
        assert_eq!(date(""), "");
    }
}
