//! What is done to rows between products: normalization, rotation, activation, and turning `[outputs, rows]` around.

use rayon::prelude::*;
use upcycle_checkpoint::gguf::RopeLayout;

/// Rows that are handled together: as many `f32` as a cache line holds, since products come with rows innermost.
const TILE: usize = 16;

/// Turns `columns`, `[width, rows]`, into `out`, `[rows, width]`.
pub(crate) fn turn(columns: &mut Vec<f32>, rows: usize, out: &mut Vec<f32>) {
    if rows == 1 {
        std::mem::swap(columns, out);
        return;
    }
    let width = columns.len() / rows;
    out.resize(columns.len(), 0.0);
    by_tile(out, width, rows, |out, first, here| {
        for (i, column) in columns.chunks_exact(rows).enumerate() {
            for (row, &value) in column[first..][..here].iter().enumerate() {
                out[row * width + i] = value;
            }
        }
    });
}

/// Adds `columns`, `[width, rows]`, to `out`, `[rows, width]`.
pub(crate) fn add_turned(columns: &[f32], rows: usize, out: &mut [f32]) {
    let width = columns.len() / rows;
    by_tile(out, width, rows, |out, first, here| {
        for (i, column) in columns.chunks_exact(rows).enumerate() {
            for (row, &value) in column[first..][..here].iter().enumerate() {
                out[row * width + i] += value;
            }
        }
    });
}

/// SwiGLU: `gate / (1 + exp(-gate)) * up` of `columns`, `[2 * width, rows]` (all gates, then all ups), into `out`,
/// `[rows, width]`.
pub(crate) fn swiglu(columns: &[f32], rows: usize, out: &mut [f32]) {
    let width = columns.len() / rows / 2;
    let (gates, ups) = columns.split_at(width * rows);
    by_tile(out, width, rows, |out, first, here| {
        for (i, (gates, ups)) in gates.chunks_exact(rows).zip(ups.chunks_exact(rows)).enumerate() {
            for (row, (&gate, &up)) in gates[first..][..here].iter().zip(&ups[first..]).enumerate() {
                out[row * width + i] = gate / (1.0 + (-gate).exp()) * up;
            }
        }
    });
}

/// Calls `f` with each tile of `out`, `[rows, width]`, the index of its first row, and the number of its rows.
fn by_tile(out: &mut [f32], width: usize, rows: usize, f: impl Fn(&mut [f32], usize, usize) + Sync) {
    out.par_chunks_mut(TILE * width).enumerate().for_each(|(tile, out)| {
        let first = tile * TILE;
        f(out, first, TILE.min(rows - first));
    });
}

/// RMS normalization of each row of `rows`, `[rows, width]`: `row / sqrt(mean(row²) + epsilon) * weight`.
pub(crate) fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = weight.len();
    let tiles = rows.par_chunks(TILE * width).zip(out.par_chunks_mut(TILE * width));
    tiles.for_each(|(rows, out)| {
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = 1.0 / (sum_of_squares(row) / width as f32 + epsilon).sqrt();
            for ((out, &value), &weight) in out.iter_mut().zip(row).zip(weight) {
                *out = value * scale * weight;
            }
        }
    });
}

/// The sum of squares, in lanes so that it is one fixed order that vectorizes.
fn sum_of_squares(row: &[f32]) -> f32 {
    let (lanes, rest) = row.as_chunks::<16>();
    let mut sums = [0.0_f32; 16];
    for lane in lanes {
        for i in 0..16 {
            sums[i] += lane[i] * lane[i];
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
}

/// As [`rms_norm`], of each head of one row, `[heads, weight.len()]`, in place.
pub(crate) fn rms_norm_heads(heads: &mut [f32], weight: &[f32], epsilon: f32) {
    for head in heads.chunks_exact_mut(weight.len()) {
        let scale = 1.0 / (sum_of_squares(head) / weight.len() as f32 + epsilon).sqrt();
        for (value, &weight) in head.iter_mut().zip(weight) {
            *value = *value * scale * weight;
        }
    }
}

/// Adds `b` to `a`.
pub(crate) fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}

/// Rotary position embedding.
#[derive(Debug)]
pub(crate) struct Rope {
    pub(crate) layout: RopeLayout,
    /// Radians by which pair `i` turns with each position.
    pub(crate) frequencies: Vec<f64>,
    /// What cosines and sines are multiplied with.
    pub(crate) magnitude: f32,
}

impl Rope {
    /// Cosine and sine of every pair at each position, `[positions, pairs]`.
    pub(crate) fn angles(&self, positions: &[u32], out: &mut Vec<(f32, f32)>) {
        let magnitude = f64::from(self.magnitude);
        out.clear();
        out.extend(positions.iter().flat_map(|&position| {
            self.frequencies.iter().map(move |frequency| {
                let (sin, cos) = (f64::from(position) * frequency).sin_cos();
                ((magnitude * cos) as f32, (magnitude * sin) as f32)
            })
        }));
    }

    /// Turns the pairs of every head of `heads`, `[heads, width]`, by `angles`, `[pairs]`; what is past the pairs stays.
    pub(crate) fn rotate(&self, heads: &mut [f32], width: usize, angles: &[(f32, f32)]) {
        let turn = |a: &mut f32, b: &mut f32, (cos, sin): (f32, f32)| {
            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        };
        for head in heads.chunks_exact_mut(width) {
            match self.layout {
                RopeLayout::Interleaved => {
                    let (pairs, _) = head.as_chunks_mut::<2>();
                    pairs.iter_mut().zip(angles).for_each(|([a, b], &angle)| turn(a, b, angle));
                }
                RopeLayout::Halves => {
                    let (first, second) = head.split_at_mut(angles.len());
                    let pairs = first.iter_mut().zip(second).zip(angles);
                    pairs.for_each(|((a, b), &angle)| turn(a, b, angle));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows() {
        for rows in [1, 2, 16, 37] {
            let width = 5;
            let at = |row: usize, i: usize| (row * 100 + i) as f32;
            let mut columns: Vec<f32> =
                (0..width).flat_map(|i| (0..rows).map(move |row| at(row, i))).collect();
            let expected: Vec<f32> = (0..rows).flat_map(|row| (0..width).map(move |i| at(row, i))).collect();
            let mut sums = expected.clone();
            add_turned(&columns, rows, &mut sums);
            let doubled: Vec<f32> = expected.iter().map(|value| 2.0 * value).collect();
            assert_eq!(sums, doubled);
            let mut out = Vec::new();
            turn(&mut columns, rows, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn rotation_keeps_lengths_and_depends_on_distance_alone() {
        for (layout, partner) in [(RopeLayout::Interleaved, 1), (RopeLayout::Halves, 2)] {
            let rope = Rope { layout, frequencies: vec![1.0, 0.1], magnitude: 1.0 };
            let turned = |values: [f32; 5], position| {
                let (mut values, mut angles) = (values, Vec::new());
                rope.angles(&[position], &mut angles);
                rope.rotate(&mut values, 5, &angles);
                values
            };
            let dot = |a: [f32; 5], b: [f32; 5]| a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>();
            let (q, k) = ([1.0, 2.0, -1.0, 0.5, 3.0], [0.5, -2.0, 1.5, 1.0, -1.0]);
            assert_eq!(turned(q, 0), q);
            assert_eq!(turned(q, 7)[4], 3.0, "past the pairs nothing turns");
            let first = q[0] * 1.0_f32.cos() - q[partner] * 1.0_f32.sin();
            assert!((turned(q, 1)[0] - first).abs() < 1e-6, "{layout:?}");
            assert!((dot(turned(q, 9), turned(k, 4)) - dot(turned(q, 105), turned(k, 100))).abs() < 1e-4);
        }
    }
}
