//! Tree attention: each row attends to a prefix of the cache and to its own ancestors, in order of absolute position.
//!
//! A row's arithmetic is a function of its own positions alone: scores are dot products whose four partial sums run over
//! dimensions d, d + 4, …; the maximum is exact in any order; the sum of exponentials runs in sixteen lanes by
//! position modulo 16; values are added one position after the other. Masked positions do not occur. So a node of a
//! tree gets the bits that it gets when its path is decoded one token at a time.

mod loops;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vectors;

use std::cell::RefCell;

use crate::kv::{KEYS, KvCache, KvElement, KvShape, Numbers, PAGE};
use crate::matrix::BLOCK;
use crate::ops::Columns;
use crate::prefetch;
use crate::{Activations, Kernels, Path};

/// What one row attends to: positions `0..prefix` of `cache`, then the rows `tail` of the pass itself, in order of
/// position, the row itself last (unless it is in the cache already).
#[derive(Debug)]
pub struct Sight<'a, E> {
    /// The sequence's cache.
    pub cache: &'a KvCache<E>,
    /// Cached positions that it sees.
    pub prefix: usize,
    /// Rows of the pass that it sees: its ancestors, then itself. Together with `prefix` at least one.
    pub tail: &'a [u32],
    /// How many of the first of all these it does not see: those before a sliding window. Fewer than there are.
    pub unseen: usize,
}

impl<E> Clone for Sight<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Sight<'_, E> {}

/// The keys and values of the pass itself, `[rows, kv_heads * head_dim]` each.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'a> {
    /// Keys.
    pub keys: &'a [f32],
    /// Values.
    pub values: &'a [f32],
}

/// Rows that a task takes at most.
const ROWS: usize = 8;

/// Tasks for each thread that are enough to balance them.
const TASKS: usize = 3;

/// Memory of a task, kept from task to task.
#[derive(Default)]
struct Scratch {
    /// The task's queries, `[queries, head_dim]`.
    queries: Vec<f32>,
    /// Their scores, then weights, `[queries, stride]`.
    scores: Vec<f32>,
    /// The sums of their weights, `[queries]`.
    totals: Vec<f32>,
    /// Their sums of values, `[queries, head_dim]`.
    out: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Kernels {
    /// Attention of every row: `queries` `[rows, heads * head_dim]` to `out`, of the same shape; query head h reads KV
    /// head `h * kv_heads / heads`. Scores are scaled by 1 / sqrt(head_dim).
    ///
    /// Rows that see one prefix, and the query heads that share a KV head, read its keys and values together, so that
    /// these come from memory once for up to eight rows.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or a row sees nothing, or a position that is not in the cache.
    pub fn attention<E: KvElement>(
        &self,
        layer: usize,
        heads: usize,
        queries: &[f32],
        sights: &[Sight<'_, E>],
        fresh: Fresh<'_>,
        out: &mut [f32],
    ) {
        let Some(first) = sights.first() else { return };
        let width = heads * first.cache.shape().head_dim;
        assert_eq!(out.len(), queries.len(), "the output has the shape of the queries");
        let out = Columns::new(out, width);
        self.attend(layer, heads, queries, sights, fresh, |row, from, sums| {
            // SAFETY: each task writes its own heads of its own rows.
            unsafe { out.slice(row, from, sums.len()) }.copy_from_slice(sums);
        });
    }

    /// As [`attention`](Self::attention), into `out`, quantized if wanted.
    ///
    /// # Panics
    /// As there.
    #[expect(clippy::too_many_arguments, reason = "what attention takes, and where it goes")]
    pub fn attention_into<E: KvElement>(
        &self,
        layer: usize,
        heads: usize,
        queries: &[f32],
        sights: &[Sight<'_, E>],
        fresh: Fresh<'_>,
        out: &mut Activations,
        quantize: bool,
    ) {
        let Some(first) = sights.first() else { return out.resize(0, 0) };
        let KvShape { kv_heads, head_dim, .. } = first.cache.shape();
        let width = heads * head_dim;
        out.resize(sights.len(), width);
        // A task's columns are whole blocks in most models; where they are not, two tasks share one.
        let whole = (width / kv_heads).is_multiple_of(BLOCK);
        let rows = out.split(quantize);
        self.attend(layer, heads, queries, sights, fresh, |row, from, sums| {
            // SAFETY: each task writes its own heads of its own rows, and quantizes them if no other has part of a block.
            unsafe {
                rows.slice(row, from, sums.len()).copy_from_slice(sums);
                if whole {
                    rows.finish(self.path(), row, from, sums.len());
                }
            }
        });
        if !whole {
            // SAFETY: every row is one task's.
            self.pool().run(sights.len(), |row| unsafe { rows.finish(self.path(), row, 0, width) });
        }
    }

    /// Attention of every row, handed to `each` by row and query heads of one KV head: the row, the first of its columns, the
    /// columns.
    fn attend<E: KvElement>(
        &self,
        layer: usize,
        heads: usize,
        queries: &[f32],
        sights: &[Sight<'_, E>],
        fresh: Fresh<'_>,
        each: impl Fn(usize, usize, &[f32]) + Sync,
    ) {
        let Some(first) = sights.first() else { return };
        let shape = first.cache.shape();
        let KvShape { layers, kv_heads, head_dim } = shape;
        let width = heads * head_dim;
        assert!(
            layer < layers && heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} heads over {kv_heads}"
        );
        assert_eq!(queries.len(), sights.len() * width, "queries are [rows, heads * head_dim]");
        for sight in sights {
            assert_eq!(sight.cache.shape(), shape, "all sequences are of one model");
            assert!(sight.prefix <= sight.cache.capacity(), "the prefix is cached");
            assert!(sight.prefix + sight.tail.len() > sight.unseen, "a row sees at least itself");
        }
        let rows = (sights.len() * kv_heads / (TASKS * self.pool().threads())).clamp(1, ROWS);
        let group = heads / kv_heads;
        let chunks = sights.len().div_ceil(rows);
        // Neighbours, which are one thread's, read the same keys and values.
        self.pool().run(chunks * kv_heads, |task| {
            let (kv_head, chunk) = (task / chunks, task % chunks);
            let place = Place { layer, kv_head, group };
            let (from, span) = (kv_head * group * head_dim, group * head_dim);
            let mut start = chunk * rows;
            let end = sights.len().min(start + rows);
            while start < end {
                let rows = start..start + alike(&sights[start..end]);
                start = rows.end;
                SCRATCH.with_borrow_mut(|scratch| {
                    scratch.queries.clear();
                    for row in rows.clone() {
                        scratch.queries.extend_from_slice(&queries[row * width + from..][..span]);
                    }
                    attend(self.path(), &sights[rows.clone()], place, fresh, scratch);
                    for (row, sums) in rows.zip(scratch.out.chunks_exact(span)) {
                        each(row, from, sums);
                    }
                });
            }
        });
    }
}

/// How many of the first rows see one prefix.
fn alike<E>(sights: &[Sight<'_, E>]) -> usize {
    let first = &sights[0];
    let same = |other: &&Sight<'_, E>| std::ptr::eq(first.cache, other.cache) && first.prefix == other.prefix;
    sights.iter().take_while(same).count()
}

/// What a task reads.
#[derive(Clone, Copy)]
struct Place {
    layer: usize,
    kv_head: usize,
    /// Query heads of the KV head.
    group: usize,
}

/// Attention of `sights`, all of one prefix: from `scratch.queries` to `scratch.out`.
fn attend<E: KvElement>(
    path: Path,
    sights: &[Sight<'_, E>],
    Place { layer, kv_head, group }: Place,
    fresh: Fresh<'_>,
    Scratch { queries, scores, totals, out }: &mut Scratch,
) {
    let Sight { cache, prefix, .. } = sights[0];
    let KvShape { kv_heads, head_dim, .. } = cache.shape();
    let longest = sights.iter().map(|sight| sight.tail.len()).max().unwrap_or(0);
    let stride = (prefix + longest).next_multiple_of(KEYS);
    let count = sights.len() * group;
    // Every score that is read is written before.
    scores.resize(count * stride, 0.0);
    totals.clear();
    out.clear();
    out.resize(count * head_dim, 0.0);
    // Pages that no row sees are not read.
    let unseen = sights.iter().map(|sight| sight.unseen.min(prefix)).min().unwrap_or(0);
    let pages = unseen / PAGE..prefix.div_ceil(PAGE);
    let keys_of = |page| cache.page(layer, kv_head, page).0;
    let values_of = |page| cache.page(layer, kv_head, page).1;
    for page in pages.clone() {
        // The next keys, or the first values, arrive while these are multiplied.
        prefetch::slice(if page + 1 < pages.end { keys_of(page + 1) } else { values_of(pages.start) });
        let first = page * PAGE;
        let positions = PAGE.min((prefix - first).next_multiple_of(KEYS));
        let keys = E::numbers(&keys_of(page)[..positions * head_dim]);
        loops::score_page(path, head_dim, queries, keys, stride, &mut scores[first..]);
    }
    let at = |row: u32| (row as usize * kv_heads + kv_head) * head_dim;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let each = queries.chunks_exact(head_dim).zip(scores.chunks_exact_mut(stride));
    for (index, (query, scores)) in each.enumerate() {
        let Sight { tail, unseen, .. } = sights[index / group];
        for (score, &row) in scores[prefix..].iter_mut().zip(tail) {
            *score = loops::dot(path, query, &fresh.keys[at(row)..][..head_dim]);
        }
        // Their weights are exactly 0, and so is what they add.
        scores[..unseen].fill(f32::NEG_INFINITY);
        let len = prefix + tail.len();
        totals.push(loops::softmax(path, scale, len, &mut scores[..len.next_multiple_of(KEYS)]));
    }
    for page in pages.clone() {
        if page + 1 < pages.end {
            prefetch::slice(values_of(page + 1));
        }
        let first = page * PAGE;
        let positions = PAGE.min(prefix - first);
        let values = E::numbers(&values_of(page)[..positions * head_dim]);
        loops::add_page(path, head_dim, values, stride, &scores[first..], out);
    }
    let each = out.chunks_exact_mut(head_dim).zip(scores.chunks_exact(stride)).zip(totals);
    for (index, ((out, scores), total)) in each.enumerate() {
        for (weight, &row) in scores[prefix..].iter().zip(sights[index / group].tail) {
            let values = Numbers::F32(&fresh.values[at(row)..][..head_dim]);
            loops::add_page(path, head_dim, values, 1, std::slice::from_ref(weight), out);
        }
        out.iter_mut().for_each(|x| *x /= *total);
    }
}
