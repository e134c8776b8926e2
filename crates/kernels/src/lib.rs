//! Forward passes over 1 to a few dozen rows on the CPU: matrix products with packed quantized weights, and tree attention. They verify draft
//! trees, and decode plainly just as well.
//!
//! One row is bound by reading the weights from memory, and a second row needs the same weights. These kernels decode each block of
//! weights once for up to eight rows, so eight rows cost little more than one.
//!
//! # The contract: row invariance
//! The result of a row is the same to the last bit, whatever the other rows, the row's index and the number of threads. So the nodes of a
//! tree get exactly what sequential decoding gives them.
//!
//! **All instruction sets give the same bits** as well. Integer sums are exact, and every floating-point operation is the same, in the same
//! order, with AVX2, AVX-512, NEON and portable code. The tests check both.
//!
//! # Use
//! ```
//! use upcycle_kernels::{Activations, Format, Kernels, Matrix, Matmul, Store};
//!
//! // 32 outputs and 64 inputs in Q8_0, as in a GGUF file: each block has a scale of 0.5 and 32 quants of 2.
//! let block = [&[0x00, 0x38][..], &[2; 32]].concat();
//! let matrix = Matrix::pack("w", Format::Q8_0, (32, 64), &block.repeat(2 * 32), 1)?;
//!
//! let kernels = Kernels::new(2)?;
//! let mut x = Activations::new();
//! kernels.load(&[1.0; 3 * 64], 64, &mut x, matrix.format().is_quantized()); // three rows of ones
//! let mut out = vec![0.0; 3 * 32];
//! kernels.multiply(&x, &mut [Matmul { matrix: &matrix, out: &mut out, store: Store::Set }]);
//! assert!(out.iter().all(|y| (y - 64.0).abs() < 1e-3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The packing and the measurements are in `docs/kernels.md` of the repository.
#![expect(
    unsafe_code,
    reason = "vector instructions and disjoint writes from several threads; each block says why it is sound"
)]

mod activations;
mod attention;
mod buffer;
mod columns;
mod error;
mod format;
mod isa;
mod kernels;
mod kv;
mod lanes;
mod layout;
mod limits;
mod matmul;
mod matrix;
mod ops;
mod pack;
mod pool;
mod prefetch;
mod rope;

pub use activations::Activations;
pub use attention::{AttentionSpan, NewKv};
pub use error::PackError;
pub use format::Format;
pub use isa::{FORCE, Isa, IsaError, KernelPath};
pub use kernels::Kernels;
pub use kv::{KvCache, KvShape, KvType, PAGE};
pub use layout::{BLOCK, TILE};
pub use matrix::Matrix;
pub use ops::{Matmul, Store};
pub use pool::Pool;
pub use rope::{Rope, RopeLayout};
