//! Rotary position embeddings (Su et al., arXiv 2104.09864).

use crate::kernels::Kernels;
use crate::lanes;

/// Which dimensions rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Neighbours, 2i and 2i + 1, as in GGUF files of llama models.
    Interleaved,
    /// Halves, i and i + dims / 2: the "NeoX" layout of Qwen and others.
    Halves,
}

/// The angles of the rows of a pass, computed once for all layers.
#[derive(Clone, Debug)]
pub struct Rope {
    layout: RopeLayout,
    /// Radians per position of each pair of dimensions.
    frequencies: Vec<f64>,
    /// The factor of cosines and sines.
    magnitude: f64,
    /// Cosine and sine of each row and pair, `[rows, dims / 2]`.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rope {
    /// Embeddings over pairs of dimensions with these angular frequencies (radians per position); dimensions of a head
    /// beyond twice their number stay as they are.
    #[must_use]
    pub fn new(layout: RopeLayout, frequencies: Vec<f64>) -> Self {
        Self { layout, frequencies, magnitude: 1.0, cosines: Vec::new(), sines: Vec::new() }
    }

    /// The same with cosines and sines multiplied by `magnitude`, for YaRN.
    #[must_use]
    pub fn with_magnitude(self, magnitude: f32) -> Self {
        Self { magnitude: self.magnitude * f64::from(magnitude), ..self }
    }

    /// Computes the angles of rows at `positions`, in double precision.
    pub fn set_positions(&mut self, positions: &[u32]) {
        self.cosines.clear();
        self.sines.clear();
        for &position in positions {
            for frequency in &self.frequencies {
                let (sine, cosine) = (f64::from(position) * frequency).sin_cos();
                self.cosines.push((self.magnitude * cosine) as f32);
                self.sines.push((self.magnitude * sine) as f32);
            }
        }
    }
}

impl Kernels {
    /// Rotates every head of every row of `x`, `[rows, heads * head_dim]`, by its row's angles, in place.
    ///
    /// # Panics
    /// If `x` has other rows than [`set_positions`](Rope::set_positions) was given, or heads with fewer dimensions than rotate.
    pub fn rope(&self, rope: &Rope, x: &mut [f32], head_dim: usize) {
        let pairs = rope.frequencies.len();
        if x.is_empty() || pairs == 0 {
            return;
        }
        assert!(2 * pairs <= head_dim, "{pairs} pairs in heads of {head_dim}");
        let rows = rope.cosines.len() / pairs;
        assert!(rows > 0 && x.len().is_multiple_of(rows * head_dim), "positions were set for {rows} rows");
        let width = x.len() / rows;
        let angles = rope.cosines.chunks_exact(pairs).zip(rope.sines.chunks_exact(pairs));
        for (row, (cosines, sines)) in x.chunks_exact_mut(width).zip(angles) {
            for head in row.chunks_exact_mut(head_dim) {
                match rope.layout {
                    RopeLayout::Interleaved => interleaved(self.path(), head, cosines, sines),
                    RopeLayout::Halves => halves(self.path(), head, cosines, sines),
                }
            }
        }
    }
}

lanes::dispatch! {
    fn interleaved(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
        for ((pair, cosine), sine) in head.as_chunks_mut::<2>().0.iter_mut().zip(cosines).zip(sines) {
            let [a, b] = *pair;
            *pair = [a * cosine - b * sine, a * sine + b * cosine];
        }
    }
}

lanes::dispatch! {
    fn halves(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
        let (first, second) = head[..2 * cosines.len()].split_at_mut(cosines.len());
        for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
            (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
        }
    }
}
