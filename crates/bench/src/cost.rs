//! The cost of a pass by its number of rows, t(n).

use std::collections::BTreeMap;

use upcycle_core::cost::ContextTimes;
use upcycle_core::{CostCurve, CostError};

use crate::results::Cost;
use crate::statistics::median;

/// The numbers of rows that are always timed, if the backend accepts them.
pub const ROWS: [usize; 13] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 81];

/// The times of one setup, as part of the results.
#[must_use]
pub fn named(timed: ContextTimes, setup: &str) -> Cost {
    Cost { setup: setup.to_owned(), context: timed.context, rows: timed.rows, seconds: timed.seconds }
}

/// [`ROWS`] and `more`, sorted.
#[must_use]
pub fn rows(more: &[usize]) -> Vec<usize> {
    let mut rows: Vec<usize> = ROWS.iter().chain(more).copied().filter(|&rows| rows > 0).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Merges several sweeps: the median of each size for each setup and context.
#[must_use]
pub fn merge(costs: impl IntoIterator<Item = Cost>) -> Vec<Cost> {
    let mut order: Vec<(String, usize)> = Vec::new();
    let mut times: BTreeMap<(String, usize), BTreeMap<usize, Vec<f64>>> = BTreeMap::new();
    for Cost { setup, context, rows, seconds } in costs {
        let key = (setup, context);
        if !order.contains(&key) {
            order.push(key.clone());
        }
        let times = times.entry(key).or_default();
        for (rows, seconds) in rows.into_iter().zip(seconds) {
            times.entry(rows).or_default().push(seconds);
        }
    }
    let merged = order.into_iter().map(|(setup, context)| {
        let times = times.remove(&(setup.clone(), context)).unwrap_or_default();
        let timed = times.into_iter().filter_map(|(rows, times)| Some((rows, median(times)?)));
        let (rows, seconds) = timed.unzip();
        Cost { setup, context, rows, seconds }
    });
    merged.collect()
}

/// The cost curve for automatic budgets, from the costs of one setup.
///
/// # Errors
/// [`CostError`] if nothing was measured.
pub fn curve(key: String, costs: &[Cost]) -> Result<CostCurve, CostError> {
    let timed = |cost: &Cost| ContextTimes {
        context: cost.context,
        rows: cost.rows.clone(),
        seconds: cost.seconds.clone(),
        spread: Vec::new(),
    };
    CostCurve::from_timings(key, &costs.iter().map(timed).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_arms_are_merged_with_the_usual_ones() {
        let sizes = rows(&[9, 2, 0]);
        assert!(sizes.is_sorted() && sizes.contains(&9) && sizes[0] == 1);
    }

    #[test]
    fn sweeps_merge_to_medians() {
        let cost = |seconds: f64| Cost {
            setup: "x".into(),
            context: 8,
            rows: vec![1, 2],
            seconds: vec![1.0, seconds],
        };
        let merged = merge([cost(2.0), cost(9.0), cost(3.0)]);
        assert_eq!(merged, [cost(3.0)]);
        assert!(curve(String::new(), &[]).is_err());
    }
}
