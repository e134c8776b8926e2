//! Tree attention: each node of a tree gets the bits that it gets when its path is decoded one token at a time, with every instruction
//! set and number of threads; and the results are close to a plain oracle.

use proptest::prelude::*;
use upcycle_kernels::{
    Activations, AttentionSpan, Format, Isa, KernelPath, Kernels, KvCache, KvShape, KvType, Matmul, Matrix,
    NewKv, Store,
};

/// Heads of four vectors and one more, so that both kinds of columns run.
const SHAPE: KvShape = KvShape { layers: 2, kv_heads: 2, head_dim: 80 };
const HEADS: usize = 6;
const KV: usize = SHAPE.kv_heads * SHAPE.head_dim;
const WIDTH: usize = HEADS * SHAPE.head_dim;

/// A number between -2 and 2 for each seed and place, so that a token's rows depend on its path alone.
fn noise(seed: u64, index: usize) -> f32 {
    let mut x = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(index as u64)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 40) as f32 / 4_194_304.0 - 2.0
}

fn row(kind: u64, path: u64, width: usize) -> Vec<f32> {
    (0..width).map(|index| noise(path * 3 + kind, index)).collect()
}

fn kernels() -> Vec<Kernels> {
    let paths = Isa::available().into_iter().map(|isa| KernelPath::new(isa).unwrap());
    paths.flat_map(|path| [1, 3].map(|threads| Kernels::with_path(path, threads))).collect()
}

/// The hash of a path: of the parent's hash and the node's token.
fn hash(parent: u64, token: u64) -> u64 {
    (parent ^ token.wrapping_mul(0x2545_f491_4f6c_dd1d)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8
}

/// A cache with the positions of `prefix`, and NaN behind them, as if a rejected draft had left it.
fn cache(kv_type: KvType, prefix: &[u64]) -> KvCache {
    let mut cache = KvCache::new(SHAPE, kv_type);
    cache.reserve(prefix.len() + 70).unwrap();
    for layer in 0..SHAPE.layers {
        for (position, &path) in prefix.iter().enumerate() {
            cache.write(layer, position, &row(1, path, KV), &row(2, path, KV));
        }
        cache.write(layer, prefix.len() + 3, &[f32::NAN; KV], &[f32::NAN; KV]);
    }
    cache
}

/// A row of keys or values as a pass computes it.
fn rounded(kv_type: KvType, kind: u64, path: u64) -> Vec<f32> {
    let mut row = row(kind, path, KV);
    kv_type.round(&mut row);
    row
}

fn sequential(kv_type: KvType, kernels: &Kernels, prefix: &[u64]) -> Vec<u32> {
    let (&last, before) = prefix.split_last().unwrap();
    let cache = cache(kv_type, before);
    let mut out = vec![0.0; WIDTH];
    let new = NewKv { keys: &rounded(kv_type, 1, last), values: &rounded(kv_type, 2, last) };
    let span = AttentionSpan { cache: &cache, prefix: before.len(), new_rows: &[0], skip: 0 };
    kernels.attention(1, HEADS, &row(0, last, WIDTH), &[span], new, &mut out);
    out.iter().map(|x| x.to_bits()).collect()
}

fn check_tree(kv_type: KvType, prefix_len: usize, parents: &[usize]) {
    let mut prefix = vec![7];
    for token in 1..=prefix_len as u64 {
        prefix.push(hash(prefix[prefix.len() - 1], token));
    }
    let root = prefix.pop().unwrap();
    let mut nodes = vec![(root, vec![0_u32])];
    for (index, &parent) in parents.iter().enumerate() {
        let (above, path) = &nodes[parent % nodes.len()];
        let path = path.iter().copied().chain([index as u32 + 1]).collect();
        nodes.push((hash(*above, index as u64 + 1000), path));
    }
    let cache = cache(kv_type, &prefix);
    let queries: Vec<f32> = nodes.iter().flat_map(|node| row(0, node.0, WIDTH)).collect();
    let rounded = |kind| nodes.iter().flat_map(|node| rounded(kv_type, kind, node.0)).collect::<Vec<_>>();
    let (keys, values) = (rounded(1), rounded(2));
    let spans: Vec<_> = nodes
        .iter()
        .map(|(_, path)| AttentionSpan { cache: &cache, prefix: prefix.len(), new_rows: path, skip: 0 })
        .collect();
    let mut reference = None;
    for kernels in kernels() {
        let mut out = vec![0.0; nodes.len() * WIDTH];
        kernels.attention(1, HEADS, &queries, &spans, NewKv { keys: &keys, values: &values }, &mut out);
        let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
        assert_eq!(reference.get_or_insert_with(|| bits.clone()), &bits, "{kernels:?}");
        for ((_, path), out) in nodes.iter().zip(bits.chunks(WIDTH)) {
            let mut line = prefix.clone();
            line.extend(path.iter().map(|&node| nodes[node as usize].0));
            assert_eq!(sequential(kv_type, &kernels, &line), out, "{kv_type:?}, {kernels:?}, node {path:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_tree_is_its_paths_to_the_bit(
        prefix in prop_oneof![0_usize..5, 14_usize..18, 62_usize..67, 0_usize..200],
        parents in prop::collection::vec(0_usize..100, 0..30),
    ) {
        KvType::ALL.into_iter().for_each(|kv_type| check_tree(kv_type, prefix, &parents));
    }
}

/// A digest holds across machines that have no vector instructions in common.
#[test]
fn the_bits_are_the_same_on_every_machine() {
    let prefix: Vec<u64> = (0..70).map(|token| hash(7, token)).collect();
    for kernels in kernels() {
        let digest = (sequential(KvType::F32, &kernels, &prefix).iter())
            .flat_map(|bits| bits.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3_u64)
            });
        assert_eq!(digest, 12_018_735_337_330_223_989, "{kernels:?}");
    }
}

#[test]
fn rows_of_several_sequences_and_prefixes_do_not_mix() {
    let lines: Vec<Vec<u64>> =
        [3_u64, 40, 70].map(|len| (0..len).map(|token| token + 100 * len).collect()).into();
    let caches: Vec<KvCache> = lines.iter().map(|line| cache(KvType::F32, &line[..line.len() - 1])).collect();
    // Two rows of each sequence, and one with a shorter prefix.
    let rows: Vec<(usize, usize)> =
        vec![(0, 2), (0, 2), (1, 39), (1, 39), (2, 69), (2, 30), (2, 69), (0, 2), (1, 20)];
    let last = |&(line, prefix): &(usize, usize)| lines[line][prefix];
    let concat = |kind, width| rows.iter().flat_map(|at| row(kind, last(at), width)).collect::<Vec<_>>();
    let (queries, keys, values) = (concat(0, WIDTH), concat(1, KV), concat(2, KV));
    let tails: Vec<[u32; 1]> = (0..rows.len() as u32).map(|row| [row]).collect();
    let spans: Vec<_> = rows
        .iter()
        .zip(&tails)
        .map(|(&(line, prefix), tail)| AttentionSpan {
            cache: &caches[line],
            prefix,
            new_rows: tail,
            skip: 0,
        })
        .collect();
    for kernels in kernels() {
        let mut out = vec![0.0; rows.len() * WIDTH];
        kernels.attention(1, HEADS, &queries, &spans, NewKv { keys: &keys, values: &values }, &mut out);
        for (&(line, prefix), out) in rows.iter().zip(out.chunks(WIDTH)) {
            let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
            assert_eq!(
                sequential(KvType::F32, &kernels, &lines[line][..=prefix]),
                bits,
                "{kernels:?}, {line}, {prefix}"
            );
        }
    }
}

#[test]
fn attention_is_close_to_the_oracle() {
    let prefix: Vec<u64> = (0..150).collect();
    let cache = cache(KvType::F32, &prefix);
    let query = row(0, 999, WIDTH);
    let mut out = vec![0.0; WIDTH];
    let span = AttentionSpan { cache: &cache, prefix: prefix.len(), new_rows: &[], skip: 0 };
    let new = NewKv { keys: &[], values: &[] };
    kernels()[0].attention(1, HEADS, &query, &[span], new, &mut out);
    for head in 0..HEADS {
        let (dim, kv) = (SHAPE.head_dim, head * SHAPE.kv_heads / HEADS * SHAPE.head_dim);
        let score = |path: &u64| -> f64 {
            let key = row(1, *path, KV);
            let dot =
                (0..dim).map(|d| f64::from(query[head * dim + d]) * f64::from(key[kv + d])).sum::<f64>();
            (dot / (dim as f64).sqrt()).exp()
        };
        let weights: Vec<f64> = prefix.iter().map(score).collect();
        for d in 0..dim {
            let value = |(path, weight): (&u64, &f64)| f64::from(row(2, *path, KV)[kv + d]) * weight;
            let exact = prefix.iter().zip(&weights).map(value).sum::<f64>() / weights.iter().sum::<f64>();
            assert!((exact - f64::from(out[head * dim + d])).abs() < 1e-5, "{exact} {}", out[head * dim + d]);
        }
    }
}

#[test]
fn a_nan_in_a_query_reaches_the_output() {
    let cache = cache(KvType::F32, &[1, 2, 3]);
    let mut query = row(0, 5, WIDTH);
    query[40] = f32::NAN;
    for kernels in kernels() {
        let mut out = vec![0.0; WIDTH];
        let span = AttentionSpan { cache: &cache, prefix: 3, new_rows: &[], skip: 0 };
        kernels.attention(0, HEADS, &query, &[span], NewKv { keys: &[], values: &[] }, &mut out);
        assert!(out.iter().any(|x| x.is_nan()));
    }
}

/// Positions before a window do not change a bit, whatever other rows attend to. A window equals the softmax over its positions.
#[test]
fn positions_before_a_window_do_not_matter() {
    let prefix: Vec<u64> = (0..150).collect();
    let clean = cache(KvType::F32, &prefix);
    let last = 200;
    let (keys, values) = (row(1, last, KV), row(2, last, KV));
    let new = NewKv { keys: &keys, values: &values };
    for skip in [1, 15, 16, 17, 63, 64, 65, 130, 149, 150] {
        let mut spoilt = clean.clone();
        for position in 0..skip {
            spoilt.write(1, position, &[9.0; KV], &[-7.0; KV]);
        }
        let span = |cache, skip| AttentionSpan { cache, prefix: prefix.len(), new_rows: &[0], skip };
        let queries = [row(0, last, WIDTH), row(0, 7, WIDTH), row(0, last, WIDTH)].concat();
        for kernels in kernels() {
            let attend = |spans: &[AttentionSpan<'_>]| {
                let mut out = vec![0.0; spans.len() * WIDTH];
                kernels.attention(1, HEADS, &queries[..out.len()], spans, new, &mut out);
                out
            };
            let alone = attend(&[span(&clean, skip)]);
            assert_eq!(alone, attend(&[span(&spoilt, skip)]), "{kernels:?}, {skip}");
            let beside = attend(&[span(&clean, 0), span(&clean, 3), span(&clean, skip)]);
            assert_eq!(alone, beside[2 * WIDTH..], "{kernels:?}, {skip}");
            assert_ne!(alone, beside[..WIDTH], "{kernels:?}, {skip}");
            let from_the_start = cache(KvType::F32, &prefix[skip..]);
            let span = AttentionSpan {
                cache: &from_the_start,
                prefix: prefix.len() - skip,
                new_rows: &[0],
                skip: 0,
            };
            for (a, b) in alone.iter().zip(attend(&[span])) {
                assert!((a - b).abs() < 1e-4, "{kernels:?}, {skip}: {a} {b}");
            }
        }
    }
}

/// Heads whose columns are whole blocks of activations, and heads whose columns are not.
#[test]
fn attention_into_activations_equals_attention_and_load() {
    for (kv_heads, head_dim) in [(2, 80), (3, 64), (2, 16)] {
        let heads = 3 * kv_heads;
        let shape = KvShape { layers: 1, kv_heads, head_dim };
        let (kv, width) = (kv_heads * head_dim, heads * head_dim);
        let mut cache = KvCache::new(shape, KvType::F32);
        cache.reserve(100).unwrap();
        (0..70).for_each(|position| cache.write(0, position, &row(1, position as u64, kv), &row(2, 1, kv)));
        let tails: Vec<u32> = (0..9).collect();
        let spans: Vec<_> = tails
            .iter()
            .map(|tail| AttentionSpan {
                cache: &cache,
                prefix: 70,
                new_rows: std::slice::from_ref(tail),
                skip: 0,
            })
            .collect();
        let rows = |kind, width| (0..9).flat_map(|path| row(kind, path, width)).collect::<Vec<_>>();
        let (queries, keys, values) = (rows(0, width), rows(1, kv), rows(2, kv));
        let new = NewKv { keys: &keys, values: &values };
        let bytes: Vec<u8> = (0..16 * width / 32 * 20).map(|index| (index * 7 % 31) as u8).collect();
        let quantized = width.is_multiple_of(32);
        let format = if quantized { Format::Q4_1 } else { Format::F16 };
        let bytes = if quantized { bytes } else { vec![1; 16 * width * 2] };
        let matrix = Matrix::pack("random", format, (16, width), &bytes, 1).unwrap();
        for kernels in kernels() {
            let product = |x: &Activations| {
                let mut out = vec![0.0; 9 * 16];
                kernels.multiply(x, &mut [Matmul { matrix: &matrix, out: &mut out, store: Store::Set }]);
                out
            };
            let mut plain = vec![0.0; queries.len()];
            kernels.attention(0, heads, &queries, &spans, new, &mut plain);
            let (mut loaded, mut direct) = (Activations::new(), Activations::new());
            kernels.load(&plain, width, &mut loaded, quantized);
            kernels.attention_into(0, heads, &queries, &spans, new, &mut direct, quantized);
            assert_eq!(direct.is_quantized(), quantized);
            assert!(plain.iter().any(|&x| x != 0.0));
            assert_eq!(product(&direct), product(&loaded), "{kv_heads} heads of {head_dim}");
        }
    }
}
