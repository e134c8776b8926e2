//! Tree attention: each row attends to a prefix of the cache and to its own ancestors, in order of absolute position.
//!
//! A row's arithmetic depends on its own positions alone:
//! - A score is a dot product with four partial sums, over dimensions d, d + 4, and so on.
//! - The maximum is exact in any order.
//! - The sum of exponentials has sixteen lanes, by position modulo 16.
//! - Values are added one position after the other.
//!
//! Positions that a row does not attend to are not computed. So a node of a tree gets the bits that it gets when its path is
//! decoded one token at a time.

mod loops;
mod order;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vectors;

use std::cell::RefCell;

use crate::activations::Activations;
use crate::columns::Columns;
use crate::isa::KernelPath;
use crate::kernels::Kernels;
use crate::kv::{KEYS, KvCache, KvShape, Numbers, PAGE};
use crate::layout::BLOCK;

/// What one row attends to: positions `0..prefix` of `cache`, then rows of the pass itself, in order of position.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSpan<'a> {
    /// The sequence's cache.
    pub cache: &'a KvCache,
    /// Cached positions that it attends to.
    pub prefix: usize,
    /// Rows of the pass that it attends to: its ancestors, then itself unless it is in the cache. At least one, if `prefix` is 0.
    pub new_rows: &'a [u32],
    /// How many of the first positions are outside a sliding window. Fewer than there are positions.
    pub skip: usize,
}

/// Keys and values of the rows of the pass, `[rows, kv_heads * head_dim]` each.
#[derive(Clone, Copy, Debug)]
pub struct NewKv<'a> {
    /// Keys.
    pub keys: &'a [f32],
    /// Values.
    pub values: &'a [f32],
}

/// The most rows of a task.
const ROWS: usize = 8;

/// Tasks for each thread. This many balance the threads.
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
    /// Rows with the same prefix, and query heads with the same KV head, share reads of keys and values, so memory is read once for
    /// up to eight rows.
    ///
    /// # Panics
    /// If the shapes do not match, or a row attends to nothing or to a position that is not in the cache.
    pub fn attention(
        &self,
        layer: usize,
        heads: usize,
        queries: &[f32],
        spans: &[AttentionSpan<'_>],
        new: NewKv<'_>,
        out: &mut [f32],
    ) {
        let Some(first) = spans.first() else { return };
        let width = heads * first.cache.shape().head_dim;
        assert_eq!(out.len(), queries.len(), "the output has the shape of the queries");
        let out = Columns::new(out, width);
        self.attend(layer, heads, queries, spans, new, |row, from, sums| {
            // SAFETY: each task writes its own heads of its own rows.
            unsafe { out.slice(row, from, sums.len()) }.copy_from_slice(sums);
        });
    }

    /// As [`attention`](Self::attention), into `out`; quantized if `quantize`.
    ///
    /// # Panics
    /// As there.
    #[expect(clippy::too_many_arguments, reason = "the arguments of attention and of its output")]
    pub fn attention_into(
        &self,
        layer: usize,
        heads: usize,
        queries: &[f32],
        spans: &[AttentionSpan<'_>],
        new: NewKv<'_>,
        out: &mut Activations,
        quantize: bool,
    ) {
        let Some(first) = spans.first() else { return out.resize(0, 0) };
        let KvShape { kv_heads, head_dim, .. } = first.cache.shape();
        let width = heads * head_dim;
        out.resize(spans.len(), width);
        // In some models two tasks share a block of columns.
        let whole = (width / kv_heads).is_multiple_of(BLOCK);
        let rows = out.split(quantize);
        self.attend(layer, heads, queries, spans, new, |row, from, sums| {
            // SAFETY: each task writes its own heads of its own rows, and quantizes them if it alone has their blocks.
            unsafe {
                rows.slice(row, from, sums.len()).copy_from_slice(sums);
                if whole {
                    rows.finish(self.path(), row, from, sums.len());
                }
            }
        });
        if !whole {
            // SAFETY: every row is one task's.
            self.pool().run(spans.len(), |row| unsafe { rows.finish(self.path(), row, 0, width) });
        }
    }

    /// Attention of every row. Calls `each` for a row and the query heads of one KV head, with the row, its first column and the
    /// columns.
    fn attend(
        &self,
        layer: usize,
        heads: usize,
        queries: &[f32],
        spans: &[AttentionSpan<'_>],
        new: NewKv<'_>,
        each: impl Fn(usize, usize, &[f32]) + Sync,
    ) {
        let Some(first) = spans.first() else { return };
        let shape = first.cache.shape();
        let KvShape { layers, kv_heads, head_dim } = shape;
        let width = heads * head_dim;
        assert!(
            layer < layers && heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} heads over {kv_heads}"
        );
        assert_eq!(queries.len(), spans.len() * width, "queries are [rows, heads * head_dim]");
        for span in spans {
            assert_eq!(span.cache.shape(), shape, "all caches have one shape");
            assert!(span.prefix <= span.cache.capacity(), "the prefix is cached");
            assert!(span.prefix + span.new_rows.len() > span.skip, "a row attends to at least itself");
        }
        let rows = (spans.len() * kv_heads / (TASKS * self.pool().threads())).clamp(1, ROWS);
        let group = heads / kv_heads;
        let chunks = spans.len().div_ceil(rows);
        // Neighbouring tasks, which one thread runs, read the same keys and values.
        self.pool().run(chunks * kv_heads, |task| {
            let (kv_head, chunk) = (task / chunks, task % chunks);
            let place = Place { layer, kv_head, group };
            let (from, width_of_group) = (kv_head * group * head_dim, group * head_dim);
            let mut start = chunk * rows;
            let end = spans.len().min(start + rows);
            while start < end {
                let rows = start..start + with_same_prefix(&spans[start..end]);
                start = rows.end;
                SCRATCH.with_borrow_mut(|scratch| {
                    scratch.queries.clear();
                    for row in rows.clone() {
                        scratch.queries.extend_from_slice(&queries[row * width + from..][..width_of_group]);
                    }
                    attend(self.path(), &spans[rows.clone()], place, new, scratch);
                    for (row, sums) in rows.zip(scratch.out.chunks_exact(width_of_group)) {
                        each(row, from, sums);
                    }
                });
            }
        });
    }
}

/// How many of the first rows have the same prefix.
fn with_same_prefix(spans: &[AttentionSpan<'_>]) -> usize {
    let first = &spans[0];
    let same =
        |other: &&AttentionSpan<'_>| std::ptr::eq(first.cache, other.cache) && first.prefix == other.prefix;
    spans.iter().take_while(same).count()
}

/// Where a task reads.
#[derive(Clone, Copy)]
struct Place {
    layer: usize,
    kv_head: usize,
    /// Query heads of the KV head.
    group: usize,
}

/// Attention of `spans`, which have the same prefix: from `scratch.queries` to `scratch.out`.
fn attend(
    path: KernelPath,
    spans: &[AttentionSpan<'_>],
    Place { layer, kv_head, group }: Place,
    new: NewKv<'_>,
    Scratch { queries, scores, totals, out }: &mut Scratch,
) {
    let AttentionSpan { cache, prefix, .. } = spans[0];
    let KvShape { kv_heads, head_dim, .. } = cache.shape();
    let longest = spans.iter().map(|span| span.new_rows.len()).max().unwrap_or(0);
    let stride = (prefix + longest).next_multiple_of(KEYS);
    let count = spans.len() * group;
    // Stale scores are overwritten before they are read.
    scores.resize(count * stride, 0.0);
    totals.clear();
    out.clear();
    out.resize(count * head_dim, 0.0);
    // Pages before all windows are not read.
    let skip = spans.iter().map(|span| span.skip.min(prefix)).min().unwrap_or(0);
    let pages = skip / PAGE..prefix.div_ceil(PAGE);
    let keys_of = |page| cache.page(layer, kv_head, page).0;
    let values_of = |page| cache.page(layer, kv_head, page).1;
    for page in pages.clone() {
        // Load the next keys, or the first values, while these are multiplied.
        if page + 1 < pages.end { keys_of(page + 1) } else { values_of(pages.start) }.prefetch();
        let first = page * PAGE;
        let positions = PAGE.min((prefix - first).next_multiple_of(KEYS));
        let keys = keys_of(page).first(positions * head_dim);
        loops::score_page(path, head_dim, queries, keys, stride, &mut scores[first..]);
    }
    let at = |row: u32| (row as usize * kv_heads + kv_head) * head_dim;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let each = queries.chunks_exact(head_dim).zip(scores.chunks_exact_mut(stride));
    for (index, (query, scores)) in each.enumerate() {
        let AttentionSpan { new_rows, skip, .. } = spans[index / group];
        for (score, &row) in scores[prefix..].iter_mut().zip(new_rows) {
            *score = loops::dot(path, query, &new.keys[at(row)..][..head_dim]);
        }
        // Their weights are exactly 0, so they add 0.
        scores[..skip].fill(f32::NEG_INFINITY);
        let len = prefix + new_rows.len();
        totals.push(loops::softmax(path, scale, len, &mut scores[..len.next_multiple_of(KEYS)]));
    }
    for page in pages.clone() {
        if page + 1 < pages.end {
            values_of(page + 1).prefetch();
        }
        let first = page * PAGE;
        let positions = PAGE.min(prefix - first);
        let values = values_of(page).first(positions * head_dim);
        loops::add_page(path, head_dim, values, stride, &scores[first..], out);
    }
    let each = out.chunks_exact_mut(head_dim).zip(scores.chunks_exact(stride)).zip(totals);
    for (index, ((out, scores), total)) in each.enumerate() {
        for (weight, &row) in scores[prefix..].iter().zip(spans[index / group].new_rows) {
            let values = Numbers::F32(&new.values[at(row)..][..head_dim]);
            loops::add_page(path, head_dim, values, 1, std::slice::from_ref(weight), out);
        }
        out.iter_mut().for_each(|x| *x /= *total);
    }
}
