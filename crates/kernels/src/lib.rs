//! Small-batch forward passes on the CPU: products of packed quantized weights with 1 to a few dozen activation rows, and
//! tree attention, for verifying draft trees, and for plain decoding just as well.
//!
//! One row is bound by the memory that the weights come from; a second row needs the same memory. These kernels decode
//! each block of weights once for up to eight rows, so that eight rows cost little more than one.
//!
//! # The contract: row invariance
//! The result of a row is the same to the last bit whatever rows stand beside it, in whatever place, on however many
//! threads: so a tree's nodes get exactly what sequential decoding gives them. Beyond that, **all paths give the same
//! bits**: integer parts are exact, and every floating-point operation is the same fused multiply-add in the same order,
//! so that AVX2, AVX-512, NEON and portable code agree. The tests state both.
//!
//! # Use
//! ```
//! use upcycle_kernels::{Activations, Format, Kernels, Matrix, Product, Store};
//!
//! // A matrix of 32 outputs and 64 inputs, as a GGUF file stores Q8_0: a scale of 0.5 and 32 quants of 2 a block.
//! let block = [&[0x00, 0x38][..], &[2; 32]].concat();
//! let matrix = Matrix::pack("w", Format::Q8_0, (32, 64), &block.repeat(2 * 32), 1)?;
//!
//! let kernels = Kernels::new(2)?;
//! let mut x = Activations::new();
//! kernels.load(&[1.0; 3 * 64], 64, &mut x, matrix.format().is_quantized()); // three rows of ones
//! let mut out = vec![0.0; 3 * 32];
//! kernels.multiply(&x, &mut [Product { matrix: &matrix, out: &mut out, store: Store::Set }]);
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
mod error;
mod format;
mod isa;
mod kernels;
mod kv;
mod lanes;
mod matrix;
mod ops;
mod pack;
mod pool;
mod prefetch;
mod product;
mod rope;

pub use activations::Activations;
pub use attention::{Fresh, Sight};
pub use error::{IsaError, PackError};
pub use format::Format;
pub use isa::{FORCE, Isa, Path};
pub use kernels::Kernels;
pub use kv::{KvCache, KvElement, KvShape, PAGE};
pub use matrix::{BLOCK, Matrix, TILE};
pub use ops::{Product, Store};
pub use pool::Pool;
pub use rope::{Rope, RopeLayout};
