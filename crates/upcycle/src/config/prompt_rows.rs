//! `drafter.prompt_rows`: what is learned from reading a prompt.

use std::fmt;

use upcycle_core::{CostCurve, RowSelection};

use super::choices::out_of_range;
use super::error::Problem;
use super::raw::RawAmount;

const KEY: &str = "drafter.prompt_rows";
const AUTO: &str = "auto";
const ALL: &str = "all";
const LAST: &str = "last";

/// The share of a prompt's time that ranking its rows may take.
const SHARE: f64 = 0.1;
/// Rows that are further apart teach too little to be ranked at all.
const FURTHEST: usize = 16;
/// The stride where no cost is known.
const STRIDE: usize = 4;

/// The rows of a prompt that the drafter's tables learn from. Ranking a row costs the model's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptRows {
    /// As many, evenly spread, as lengthen the reading of a prompt by a tenth at most.
    Auto,
    /// These.
    Fixed(RowSelection),
}

impl PromptRows {
    pub(super) fn check(raw: Option<RawAmount>) -> Result<Option<Self>, Problem> {
        let expected = "`auto`, `all`, `last`, or a number from 1 for every so many-th row";
        raw.map(|raw| match raw {
            RawAmount::Number(0) => Err(out_of_range(KEY, &0, expected)),
            RawAmount::Number(1) => Ok(Self::Fixed(RowSelection::All)),
            RawAmount::Number(stride) => Ok(Self::Fixed(RowSelection::Every(stride))),
            RawAmount::Name(name) => match &*name {
                AUTO => Ok(Self::Auto),
                ALL => Ok(Self::Fixed(RowSelection::All)),
                LAST => Ok(Self::Fixed(RowSelection::Last)),
                _ => Err(out_of_range(KEY, &format!("{name:?}"), expected)),
            },
        })
        .transpose()
    }

    /// The rows, by what `costs` say of ranking them; every fourth one where they say nothing, as beside a budget that is a
    /// number.
    #[must_use]
    pub fn rows(self, costs: Option<&CostCurve>) -> RowSelection {
        if let Self::Fixed(rows) = self {
            return rows;
        }
        let Some(share) = costs.and_then(CostCurve::prompt_ranking_overhead) else {
            return RowSelection::Every(STRIDE);
        };
        let stride = (share / SHARE).ceil();
        if stride <= 1.0 {
            RowSelection::All
        } else if stride <= FURTHEST as f64 {
            RowSelection::Every(stride as usize)
        } else {
            RowSelection::Last
        }
    }
}

impl From<PromptRows> for RawAmount {
    fn from(rows: PromptRows) -> Self {
        match rows {
            PromptRows::Fixed(RowSelection::Every(stride)) => Self::Number(stride),
            rows => Self::Name(rows.to_string()),
        }
    }
}

impl fmt::Display for PromptRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Fixed(RowSelection::All) => f.write_str(ALL),
            Self::Fixed(RowSelection::Last) => f.write_str(LAST),
            Self::Fixed(RowSelection::Every(stride)) => write!(f, "{stride}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking_a_prompts_rows_takes_a_tenth_at_most() {
        let curve = || CostCurve::new(String::new(), vec![(0, vec![(1, 1.0)])]).unwrap();
        let rows = |share| PromptRows::Auto.rows(Some(&curve().with_prompt_ranking_overhead(share).unwrap()));
        assert_eq!(rows(0.0), RowSelection::All);
        assert_eq!(rows(0.1), RowSelection::All);
        assert_eq!(rows(0.11), RowSelection::Every(2));
        assert_eq!(rows(0.33), RowSelection::Every(4));
        assert_eq!(rows(1.6), RowSelection::Every(16));
        assert_eq!(rows(1.7), RowSelection::Last);
        assert_eq!(PromptRows::Auto.rows(Some(&curve())), RowSelection::Every(4), "never timed");
        assert_eq!(PromptRows::Fixed(RowSelection::Last).rows(Some(&curve())), RowSelection::Last);
    }
}
