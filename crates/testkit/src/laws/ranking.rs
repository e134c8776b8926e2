//! Law 7: candidates agree with logits.

use upcycle_core::{Candidates, Row, RowSelection, TokenId, TopK, TreeInput};

use crate::law::{Broken, Law};
use crate::probe::{Checked, Probe};
use crate::subject::Subject;

/// With vocabularies up to this size, rows are also ranked as a whole.
const SMALL_VOCAB: usize = 4096;

/// Law 7: the candidates are the highest logits, sorted, equal ones by rising id, for every k and every selection of rows. Their
/// log-sum-exp is that of the row.
///
/// # Errors
/// [`Broken`].
pub fn top_is_the_head(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::TopIsTheHead)?;
    let vocab = probe.verifier.limits().vocab;
    let mut ks = vec![1, 8];
    if vocab <= SMALL_VOCAB {
        ks.push(vocab + 1);
    }
    for case in 0..subject.cases {
        let (prefix, tree) = (probe.prefix(), probe.tree(1));
        let seq = probe.open()?;
        probe.prefill(seq, &prefix)?;
        for (k, sums) in ks.iter().flat_map(|&k| [(k, false), (k, true)]) {
            let mut top = TopK::new(k);
            if sums {
                top = top.with_log_sum_exp();
            }
            for rows in [RowSelection::All, RowSelection::Last, RowSelection::Every(3)] {
                probe.at(format!("case {case}, k = {k}, {rows:?} of {} nodes", tree.len()));
                let passed = probe.verifier.forward(&[TreeInput { seq, tree: &tree, rows }], &mut top);
                probe.must("forward", passed)?;
                let nodes: Vec<usize> = rows.nodes(tree.len()).collect();
                if top.rows() != nodes.len() {
                    return Err(probe.differs(format!("{} rows", nodes.len()), top.rows()));
                }
                // From the last row back, since rows can be read in any order.
                for &node in nodes.iter().rev() {
                    let row = Row { input: 0, node };
                    let logits = probe.verifier.logits(row).map(<[f32]>::to_vec);
                    let logits = probe.must("reading logits", logits)?;
                    let Some(candidates) = top.get(row) else {
                        return Err(probe.differs(format!("candidates of {row}"), "none"));
                    };
                    is_head(&probe, row, candidates, &logits, k.min(vocab))?;
                    sum_is_right(&probe, row, candidates.log_sum_exp, sums.then(|| log_sum_exp(&logits)))?;
                }
            }
        }
        probe.verifier.close(seq);
    }
    Ok(())
}

fn is_head(probe: &Probe<'_>, row: Row, candidates: Candidates<'_>, logits: &[f32], width: usize) -> Checked {
    if let Some(bad) = logits.iter().find(|logit| !logit.is_finite()) {
        return Err(probe.differs(format!("finite logits in {row}"), bad));
    }
    let mut ids: Vec<TokenId> = (0..).take(logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    ids.truncate(width);
    if candidates.ids != ids {
        return Err(probe.differs(format!("candidates {ids:?} in {row}"), format!("{:?}", candidates.ids)));
    }
    let head: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
    if candidates.logits != head {
        return Err(probe.differs(format!("logits {head:?} in {row}"), format!("{:?}", candidates.logits)));
    }
    Ok(())
}

fn sum_is_right(probe: &Probe<'_>, row: Row, found: Option<f32>, expected: Option<f64>) -> Checked {
    let right = match (expected, found) {
        (None, None) => true,
        (Some(expected), Some(found)) => {
            (f64::from(found) - expected).abs() <= 1e-3 * expected.abs().max(1.0)
        }
        _ => false,
    };
    if right {
        return Ok(());
    }
    Err(probe.differs(format!("log-sum-exp {expected:?} of {row}"), format!("{found:?}")))
}

/// In double precision, in two passes.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(highest)).exp()).sum();
    f64::from(highest) + sum.ln()
}
