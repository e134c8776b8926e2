//! What a pass of n rows costs: t(n) over t(1) for a stack of layers the size of a real model, by path and format, and
//! the machine's own limits beside it.
//!
//! `cargo bench -p upcycle-kernels -- [135m|1b]... [FORMAT]... [PATH]... [ROWS]... [busy]` (default: 135m 1b Q4_1, the best
//! path, 1 to 81 rows; `busy`: also what passes cost beside as many busy threads as the kernels have). Times are medians; `best` is the
//! fastest pass, for machines with other work. Memory is timed before and after, because it may change within seconds.

mod limits;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use upcycle_kernels::{
    Activations, AttentionSpan, Format, Isa, KernelPath, Kernels, KvCache, KvShape, KvType, Matmul, Matrix,
    NewKv, Store,
};

#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    layers: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    ffn: usize,
    vocab: usize,
}

/// SmolLM2-135M, and the shape of Llama 3.2 1B.
const SIZES: [Size; 2] = [
    Size { name: "135m", layers: 30, width: 576, heads: 9, kv_heads: 3, ffn: 1536, vocab: 49152 },
    Size { name: "1b", layers: 16, width: 2048, heads: 32, kv_heads: 8, ffn: 8192, vocab: 128_256 },
];

const CONTEXT: usize = 256;
const ROWS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 81];
const HEAD_DIM: usize = 64;

struct Layer {
    qkv: [Matrix; 3],
    out: Matrix,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

struct Stack {
    size: Size,
    layers: Vec<Layer>,
    head: Matrix,
    cache: KvCache,
    norm: Vec<f32>,
}

/// Blocks of any bytes whose scales are small and finite.
fn matrix(format: Format, rows: usize, cols: usize) -> Matrix {
    let mut bytes = vec![0x21_u8; rows * cols / format.block() * format.block_bytes()];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (index as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] & 0x2f;
    }
    Matrix::pack("random", format, (rows, cols), &bytes, 2).expect("sound by construction")
}

impl Stack {
    fn new(size: Size, format: Format) -> Self {
        let kv = size.kv_heads * HEAD_DIM;
        let layer = |_| Layer {
            qkv: [(size.width), kv, kv].map(|rows| matrix(format, rows, size.width)),
            out: matrix(format, size.width, size.width),
            gate: matrix(format, size.ffn, size.width),
            up: matrix(format, size.ffn, size.width),
            down: matrix(format, size.width, size.ffn),
        };
        // The real 135M file keeps its embedding, which is the head, as Q8_0.
        let head = if format.is_quantized() && size.name == "135m" { Format::Q8_0 } else { format };
        let shape = KvShape { layers: size.layers, kv_heads: size.kv_heads, head_dim: HEAD_DIM };
        let mut cache = KvCache::new(shape, KvType::F32);
        cache.reserve(CONTEXT).expect("memory for the cache");
        for layer in 0..size.layers {
            for position in 0..CONTEXT {
                cache.write(layer, position, &vec![0.01; kv], &vec![0.01; kv]);
            }
        }
        Self {
            size,
            layers: (0..size.layers).map(layer).collect(),
            head: matrix(head, size.vocab, size.width),
            cache,
            norm: vec![1.0; size.width],
        }
    }

    fn bytes(&self) -> usize {
        let of = |layer: &Layer| {
            let Layer { qkv, out, gate, up, down } = layer;
            qkv.iter().chain([out, gate, up, down]).map(Matrix::bytes).sum::<usize>()
        };
        self.layers.iter().map(of).sum::<usize>() + self.head.bytes()
    }

    /// One pass of `n` rows, a chain of siblings deep; returns what its parts took.
    fn pass(&self, kernels: &Kernels, n: usize, work: &mut Work) -> [Duration; PARTS.len()] {
        let Size { heads, kv_heads, vocab, .. } = self.size;
        let (kv, quantize) = (kv_heads * HEAD_DIM, self.layers[0].out.format().is_quantized());
        work.resize(n, self.size);
        let tails: Vec<Vec<u32>> = (0..n as u32).map(|row| vec![0, row]).collect();
        let spans: Vec<_> = tails
            .iter()
            .map(|tail| AttentionSpan {
                cache: &self.cache,
                prefix: CONTEXT,
                new_rows: &tail[usize::from(tail[1] == 0)..],
                skip: 0,
            })
            .collect();
        let mut parts = [Duration::ZERO; PARTS.len()];
        let mut last = Instant::now();
        let mut done = |part: Part| {
            let now = Instant::now();
            parts[part as usize] += now - last;
            last = now;
        };
        for (index, layer) in self.layers.iter().enumerate() {
            kernels.rms_norm(&work.x, &self.norm, 1e-5, &mut work.a, quantize);
            done(Part::Rows);
            kernels.multiply(
                &work.a,
                &mut [
                    Matmul { matrix: &layer.qkv[0], out: &mut work.q, store: Store::Set },
                    Matmul { matrix: &layer.qkv[1], out: &mut work.k, store: Store::Set },
                    Matmul { matrix: &layer.qkv[2], out: &mut work.v, store: Store::Set },
                ],
            );
            done(Part::Qkv);
            let new = NewKv { keys: &work.k[..n * kv], values: &work.v[..n * kv] };
            kernels.attention_into(index, heads, &work.q, &spans, new, &mut work.a, quantize);
            done(Part::Attention);
            kernels
                .multiply(&work.a, &mut [Matmul { matrix: &layer.out, out: &mut work.x, store: Store::Add }]);
            done(Part::Out);
            kernels.rms_norm(&work.x, &self.norm, 1e-5, &mut work.a, quantize);
            done(Part::Rows);
            kernels.swiglu(&layer.gate, &layer.up, &work.a, &mut work.b, quantize);
            done(Part::GateUp);
            kernels.multiply(
                &work.b,
                &mut [Matmul { matrix: &layer.down, out: &mut work.x, store: Store::Add }],
            );
            done(Part::Down);
        }
        kernels.rms_norm(&work.x, &self.norm, 1e-5, &mut work.a, self.head.format().is_quantized());
        done(Part::Rows);
        kernels.multiply(
            &work.a,
            &mut [Matmul { matrix: &self.head, out: &mut work.logits[..n * vocab], store: Store::Set }],
        );
        done(Part::Head);
        black_box(&work.logits);
        parts
    }
}

/// What a pass is made of.
#[derive(Clone, Copy)]
enum Part {
    /// Normalization and quantization of rows.
    Rows,
    Qkv,
    Attention,
    Out,
    /// Gates and ups with SwiGLU, and the quantization of what they give.
    GateUp,
    Down,
    Head,
}

const PARTS: [&str; 7] = ["rows", "qkv", "attention", "out", "gate and up", "down", "head"];

#[derive(Default)]
struct Work {
    x: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    logits: Vec<f32>,
    a: Activations,
    b: Activations,
}

impl Work {
    fn resize(&mut self, n: usize, size: Size) {
        self.x.clear();
        self.x.extend((0..n * size.width).map(|i| (i % 17) as f32 * 0.1 - 0.8));
        self.q.resize(n * size.width, 0.0);
        self.k.resize(n * size.kv_heads * HEAD_DIM, 0.0);
        self.v.resize(n * size.kv_heads * HEAD_DIM, 0.0);
        self.logits.resize(n * size.vocab, 0.0);
    }
}

/// Sorts the times.
fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

fn table(stack: &Stack, format: Format, kernels: &Kernels, rows: &[usize]) {
    let mut work = Work::default();
    let rounds = if stack.size.name == "1b" { 9 } else { 25 };
    let mut times = vec![Vec::new(); rows.len()];
    let mut parts = vec![[const { Vec::new() }; PARTS.len()]; rows.len()];
    stack.pass(kernels, 81, &mut work);
    // Interleaved, so that a change of the machine's speed meets every n alike.
    for _ in 0..rounds {
        for (index, &n) in rows.iter().enumerate() {
            let pass = stack.pass(kernels, n, &mut work);
            times[index].push(pass.iter().sum());
            parts[index].iter_mut().zip(pass).for_each(|(times, time)| times.push(time));
        }
    }
    let one = median(&mut times[0]);
    let first = rows[0];
    let (path, threads) = (kernels.path().isa().name(), kernels.pool().threads());
    println!(
        "{} {} {path}, {threads} threads, {} MB: t({first}) {:.2} ms, {:.1} GB/s",
        stack.size.name,
        format.name(),
        stack.bytes() / 1_000_000,
        one * 1e3,
        stack.bytes() as f64 / one / 1e9,
    );
    for (index, &n) in rows.iter().enumerate() {
        let t = median(&mut times[index]);
        let best = times[index][0].as_secs_f64();
        let shares = PARTS.iter().zip(&mut parts[index]);
        let shares = shares.map(|(name, times)| format!("{name} {:.2}", median(times) * 1e3));
        let shares = shares.collect::<Vec<_>>().join(", ");
        println!(
            "  t({n:2})/t({first}) {:5.2}   ms: {:.2}, best {:.2}; {shares}",
            t / one,
            t * 1e3,
            best * 1e3
        );
    }
}

/// What passes cost beside as many busy threads as the kernels have, over what they cost alone.
fn beside_busy_threads(stack: &Stack, kernels: &Kernels) {
    let mut work = Work::default();
    for n in [1, 8] {
        let mut time = || {
            let mut times: Vec<Duration> =
                (0..15).map(|_| stack.pass(kernels, n, &mut work).iter().sum()).collect();
            median(&mut times)
        };
        let alone = time();
        let stop = AtomicBool::new(false);
        let beside = std::thread::scope(|scope| {
            for _ in 0..kernels.pool().threads() {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        black_box(0);
                    }
                });
            }
            let beside = time();
            stop.store(true, Ordering::Relaxed);
            beside
        });
        println!("  t({n}) beside {} busy threads: {:.2} times", kernels.pool().threads(), beside / alone);
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let named = |name: &str| words.iter().any(|word| word.eq_ignore_ascii_case(name));
    let sizes: Vec<Size> = SIZES.into_iter().filter(|size| named(size.name)).collect();
    let formats: Vec<Format> = Format::ALL.into_iter().filter(|format| named(format.name())).collect();
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| named(isa.name())).collect();
    let sizes = if sizes.is_empty() { SIZES.to_vec() } else { sizes };
    let formats = if formats.is_empty() { vec![Format::Q4_1] } else { formats };
    let rows: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).filter(|&n| n > 0).collect();
    let rows = if rows.is_empty() { ROWS.to_vec() } else { rows };
    let isas = if isas.is_empty() { vec![Isa::best()] } else { isas };
    for isa in isas {
        let path = match KernelPath::new(isa) {
            Ok(path) => path,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        let kernels = Kernels::with_path(path, 0);
        let memory = kernels.memory_bandwidth().expect("memory");
        println!("{}: memory {:.1} GB/s", isa.name(), memory / 1e9);
        if let Some(ceiling) = kernels.int8_peak() {
            println!("int8 in registers: {:.0} G multiply-adds a second", ceiling / 1e9);
        }
        for &format in &formats {
            let peak = limits::peak(&kernels, format);
            println!("{} in cache: {:.0} G multiply-adds a second", format.name(), peak / 1e9);
        }
        limits::one_row(&kernels, memory);
        for &size in &sizes {
            for &format in &formats {
                let stack = Stack::new(size, format);
                table(&stack, format, &kernels, &rows);
                println!(
                    "  memory afterwards: {:.1} GB/s",
                    kernels.memory_bandwidth().expect("memory") / 1e9
                );
                if named("busy") {
                    beside_busy_threads(&stack, &kernels);
                }
            }
        }
    }
}
