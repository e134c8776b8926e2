//! Summarizes records for each arm, over all prompts and by group.

mod predict;

use std::collections::BTreeMap;

use crate::cost;
use crate::results::{
    Arm, ArmState, Cost, Equality, EqualityCount, Record, Results, SourceCount, Steps, Summary,
};
use crate::statistics::{self, Rounds, median};

/// The summaries of all arms with records, each over all prompts and then by group.
#[must_use]
pub fn summarize(arms: &[Arm], groups: &[String], records: &[Record], costs: &[Cost]) -> Vec<Summary> {
    let by_arm: Vec<ByQuestion<'_>> = (0..arms.len()).map(|arm| by_question(records, arm)).collect();
    let mut summaries = Vec::new();
    for (index, arm) in arms.iter().enumerate() {
        if by_arm[index].is_empty() {
            continue;
        }
        let all = std::iter::once(None).chain(groups.iter().map(Some));
        for group in all {
            let own = of_group(&by_arm[index], group);
            if own.is_empty() {
                continue;
            }
            let base = of_group(&by_arm[arm.baseline], group);
            let mut summary = one(index, group.cloned(), &own);
            if arm.baseline != index {
                let both: Vec<_> =
                    own.iter().filter_map(|(id, rounds)| Some((rounds, base.get(id)?))).collect();
                let (own, base): (Vec<Rounds>, Vec<Rounds>) =
                    both.iter().map(|(own, base)| (times(own), times(base))).unzip();
                summary.speedup = (!own.is_empty()).then(|| statistics::speedup(&own, &base));
                if let (None, false, Some(speedup)) = (group, arm.kind.is_peer(), summary.speedup) {
                    let costs: Vec<Cost> =
                        costs.iter().filter(|cost| cost.setup == arm.setup).cloned().collect();
                    let pairs = own.iter().zip(&base).map(|(own, base)| own.median_ratio_round(base));
                    let pairs: Vec<_> = both.iter().zip(pairs).collect();
                    let plain =
                        sum(pairs.iter().filter_map(|((_, base), round)| base[(*round)?].steps.as_ref()));
                    let drafted =
                        sum(pairs.iter().filter_map(|((own, _), round)| own[(*round)?].steps.as_ref()));
                    summary.prediction = cost::curve(String::new(), &costs).ok().and_then(|curve| {
                        predict::predict(&curve, costs[0].context, arm.nodes, &drafted, &plain, speedup.value)
                    });
                }
            }
            summaries.push(summary);
        }
    }
    summaries
}

/// The records of an arm by question. Questions are in order of the prompts, records in order of the rounds.
type ByQuestion<'a> = BTreeMap<(usize, &'a str), Vec<&'a Record>>;

fn by_question(records: &[Record], arm: usize) -> ByQuestion<'_> {
    let mut order: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = ByQuestion::new();
    for record in records {
        let next = order.len();
        let place = *order.entry(&record.question).or_insert(next);
        if record.arm == arm {
            found.entry((place, &record.question)).or_default().push(record);
        }
    }
    found.values_mut().for_each(|rounds| rounds.sort_by_key(|record| record.round));
    found
}

fn of_group<'a>(all: &ByQuestion<'a>, group: Option<&String>) -> ByQuestion<'a> {
    let wanted =
        |rounds: &[&Record]| group.is_none_or(|group| rounds.iter().all(|record| record.group == *group));
    all.iter().filter(|(_, rounds)| wanted(rounds)).map(|(key, rounds)| (*key, rounds.clone())).collect()
}

fn times(rounds: &[&Record]) -> Rounds {
    Rounds {
        tokens: rounds.iter().map(|record| record.decode_tokens as f64).collect(),
        seconds: rounds.iter().map(|record| record.decode_seconds).collect(),
    }
}

/// The steps of each prompt's median round.
fn counted(prompts: &[Vec<&Record>]) -> Steps {
    sum(prompts.iter().filter_map(|rounds| rounds[times(rounds).median()?].steps.as_ref()))
}

fn sum<'a>(steps: impl Iterator<Item = &'a Steps>) -> Steps {
    let mut sum = Steps::default();
    steps.for_each(|steps| add(&mut sum, steps));
    sum
}

fn add(sum: &mut Steps, more: &Steps) {
    sum.count += more.count;
    sum.emitted += more.emitted;
    sum.drafted += more.drafted;
    sum.accepted += more.accepted;
    for (counts, more) in [
        (&mut sum.nodes, &more.nodes),
        (&mut sum.drafted_by_depth, &more.drafted_by_depth),
        (&mut sum.accepted_by_depth, &more.accepted_by_depth),
    ] {
        counts.resize(counts.len().max(more.len()), 0);
        counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
    }
    for source in &more.sources {
        match sum.sources.iter_mut().find(|there| there.name == source.name) {
            Some(SourceCount { drafted, accepted, .. }) => {
                *drafted += source.drafted;
                *accepted += source.accepted;
            }
            None => sum.sources.push(source.clone()),
        }
    }
    sum.time.draft += more.time.draft;
    sum.time.forward += more.time.forward;
    sum.time.accept += more.time.accept;
    sum.time.commit += more.time.commit;
    sum.time.observe += more.time.observe;
    sum.drafter_memory = sum.drafter_memory.max(more.drafter_memory);
}

fn one(arm: usize, group: Option<String>, own: &ByQuestion<'_>) -> Summary {
    let prompts: Vec<Vec<&Record>> = own.values().cloned().collect();
    let rounds: Vec<Rounds> = prompts.iter().map(|rounds| times(rounds)).collect();
    let steps = prompts.iter().flatten().any(|record| record.steps.is_some()).then(|| counted(&prompts));
    let prefills: Vec<(f64, f64)> = prompts
        .iter()
        .filter_map(|rounds| {
            let seconds = median(rounds.iter().map(|record| record.prefill_seconds).collect())?;
            Some((rounds.first()?.prompt_tokens as f64, seconds))
        })
        .collect();
    let (tokens, seconds) = prefills.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let per_step = |count: fn(&Steps) -> usize| {
        steps.as_ref().filter(|steps| steps.count > 0).map(|steps| count(steps) as f64 / steps.count as f64)
    };
    let mut equality = EqualityCount::default();
    for rounds in &prompts {
        let worst = rounds.iter().map(|record| &record.equality).max_by_key(|equality| rank(equality));
        match worst {
            Some(Equality::Exact) => equality.exact += 1,
            Some(Equality::WithinMargin { .. }) => equality.within_margin += 1,
            Some(Equality::Differs { .. }) => equality.differs += 1,
            Some(Equality::Wrong { .. }) => equality.wrong += 1,
            Some(Equality::Unknown) | None => equality.unknown += 1,
        }
    }
    Summary {
        arm,
        group,
        prompts: prompts.len(),
        speedup: None,
        tokens_per_second: statistics::rate(&rounds),
        prefill_tokens_per_second: if seconds > 0.0 { tokens / seconds } else { 0.0 },
        first_token_seconds: median(prefills.into_iter().map(|(_, seconds)| seconds).collect())
            .unwrap_or(0.0),
        tokens_per_step: per_step(|steps| steps.emitted),
        nodes_per_step: per_step(|steps| steps.drafted),
        drafting_share: steps.as_ref().and_then(|steps| {
            let time = steps.time;
            let all = predict::decoding(steps);
            (all > 0.0).then(|| (time.draft + time.observe) / all)
        }),
        peak_memory: prompts.iter().flatten().filter_map(|record| record.peak_memory).max(),
        steps,
        equality,
        prediction: None,
    }
}

/// Ranks verdicts: a worse one is higher.
fn rank(equality: &Equality) -> u8 {
    match equality {
        Equality::Exact => 0,
        Equality::WithinMargin { .. } => 1,
        Equality::Differs { .. } => 2,
        Equality::Unknown => 3,
        Equality::Wrong { .. } => 4,
    }
}

/// A run warns if other programs kept more processors busy.
const BUSY: f64 = 0.1;
/// A run warns if an interval is wider than this share of its figure.
const WIDE: f64 = 0.1;

/// Reasons to distrust the results.
#[must_use]
pub fn warnings(results: &Results) -> Vec<String> {
    let Results { arms, settings, machine, build, summaries, .. } = results;
    let mut warnings = Vec::new();
    if build.profile != "release" {
        warnings.push(format!("this is a {} build: its timings are not meaningful", build.profile));
    }
    if !results.complete {
        warnings.push("the run was stopped before its end".to_owned());
    }
    if settings.rounds_done < 3 {
        let rounds = match settings.rounds_done {
            1 => "1 complete round was".to_owned(),
            rounds => format!("{rounds} complete rounds were"),
        };
        warnings.push(format!(
            "{rounds} measured; with fewer than three a median does not protect from a slow moment"
        ));
    }
    if let Some(load) = machine.load_start.filter(|load| load[0] > 0.5) {
        warnings.push(format!("the load average was {:.2} when the run began", load[0]));
    }
    if let Some(busy) = machine.others_busy.filter(|&busy| busy > BUSY) {
        warnings.push(format!(
            "other programs kept {busy:.2} of {} processors busy while arms were timed",
            machine.processors
        ));
    }
    for summary in summaries.iter().filter(|summary| summary.group.is_none()) {
        let Some(speedup) = summary.speedup else { continue };
        if speedup.value > 0.0 && (speedup.high - speedup.low) / speedup.value > WIDE {
            warnings.push(format!(
                "the confidence interval of {} is wide ({:.2} to {:.2}); use more prompts or rounds",
                arms[summary.arm].name, speedup.low, speedup.high
            ));
        }
    }
    for arm in arms {
        if let ArmState::Failed { reason } = &arm.state {
            warnings.push(format!("{} failed: {reason}", arm.name));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
