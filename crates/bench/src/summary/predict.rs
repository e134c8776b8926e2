//! Predicts the speed-up of an arm from its cost curve, and explains the difference to the measurement.

use upcycle_core::CostCurve;

use crate::results::{Prediction, Steps};

/// A larger gap between quotient and measurement is explained.
const GAP: f64 = 0.05;
/// Factors closer to 1 are not mentioned.
const MIN_EFFECT: f64 = 0.01;

/// Seconds of decoding.
pub(super) fn decoding(steps: &Steps) -> f64 {
    let time = steps.time;
    time.draft + time.forward + time.accept + time.commit + time.observe
}

/// The prediction for trees of `nodes` nodes (none: automatic), from the steps `drafted` and `plain` for the same prompts;
/// none if one of them has no steps.
pub(super) fn predict(
    curve: &CostCurve,
    context: usize,
    nodes: Option<usize>,
    drafted: &Steps,
    plain: &Steps,
    measured: f64,
) -> Option<Prediction> {
    if drafted.count == 0 || plain.count == 0 || plain.emitted == 0 {
        return None;
    }
    let seconds = |nodes: usize| curve.seconds(nodes + 1, context);
    let tokens_per_step = drafted.emitted as f64 / drafted.count as f64;
    let mean_nodes = drafted.drafted as f64 / drafted.count as f64;
    // The curve is not linear, so the mean cost is not the cost of the mean.
    let sized: u64 = drafted.nodes.iter().sum();
    let total: f64 = (0..).zip(&drafted.nodes).map(|(nodes, &steps)| seconds(nodes) * steps as f64).sum();
    let mean = if sized > 0 { total / sized as f64 } else { seconds(mean_nodes.round() as usize) };
    let cost = nodes.map_or(mean, seconds);
    let cost_ratio = cost / seconds(0);
    let quotient = tokens_per_step / cost_ratio;
    // Seconds of a step, and of its pass.
    let per_step = |steps: &Steps| decoding(steps) / steps.count as f64;
    let pass = |steps: &Steps| steps.time.forward / steps.count as f64;
    let trees = cost / mean;
    let passes = (mean / pass(drafted)) / (seconds(0) / pass(plain));
    let overhead = (pass(drafted) / per_step(drafted)) / (pass(plain) / per_step(plain));
    let figures = [cost_ratio, quotient, trees, passes, overhead];
    if !figures.iter().all(|figure| figure.is_finite() && *figure > 0.0) {
        return None;
    }
    let mut prediction = Prediction {
        tokens_per_step,
        nodes,
        cost_ratio,
        quotient,
        measured,
        trees,
        passes,
        overhead,
        explanation: None,
    };
    prediction.explanation = explain(&prediction, mean_nodes);
    Some(prediction)
}

/// Explains the gap, if it is above 5 %.
fn explain(prediction: &Prediction, mean_nodes: f64) -> Option<String> {
    let Prediction { quotient, measured, trees, passes, overhead, nodes, .. } = *prediction;
    let gap = measured / quotient - 1.0;
    if gap.abs() <= GAP {
        return None;
    }
    let percent = |factor: f64| format!("{:+.0} %", 100.0 * (factor - 1.0));
    let mut parts = Vec::new();
    if (trees - 1.0).abs() > MIN_EFFECT {
        let most = nodes.unwrap_or_default();
        parts.push(format!(
            "{}: trees had {mean_nodes:.1} of at most {most} nodes on average",
            percent(trees)
        ));
    }
    if (passes - 1.0).abs() > MIN_EFFECT {
        let how = if passes > 1.0 { "cheaper" } else { "more expensive" };
        parts.push(format!(
            "{}: relative to plain decoding, passes were {how} than the cost curve says",
            percent(passes)
        ));
    }
    if (overhead - 1.0).abs() > MIN_EFFECT {
        parts.push(format!("{}: drafting, choosing, committing and learning", percent(overhead)));
    }
    Some(format!("{} in total. {}", percent(1.0 + gap), parts.join("; ")))
}
