//! Tensor types and entries of the tensor table.

use std::fmt;

/// The most dimensions of a tensor.
pub const MAX_DIMENSIONS: usize = 4;

/// Declares [`GgmlType`] from a table of variant, number in the file, name, and elements and bytes of a block.
macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $name:literal, $elements:literal, $bytes:literal;)*) => {
        /// The type of a tensor's elements.
        ///
        /// Quantized types store blocks of [`block_size`](Self::block_size) elements in
        /// [`block_bytes`](Self::block_bytes) bytes; other types have blocks of one element. Numbers and sizes follow
        /// `ggml.h` and `ggml-common.h` in llama.cpp.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum GgmlType {
            $(
                #[doc = concat!("`", $name, "`: ", stringify!($elements), " elements in ", stringify!($bytes), " bytes.")]
                $variant,
            )*
        }

        impl GgmlType {
            /// All known types, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The type with this number in a GGUF file, if known.
            #[must_use]
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The number of this type in a GGUF file.
            #[must_use]
            pub const fn id(self) -> u32 {
                match self {
                    $(Self::$variant => $id,)*
                }
            }

            /// llama.cpp's name of this type, such as `Q4_K`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Elements in a block; 1 for types that are not quantized.
            #[must_use]
            pub const fn block_size(self) -> u64 {
                match self {
                    $(Self::$variant => $elements,)*
                }
            }

            /// Bytes in a block.
            #[must_use]
            pub const fn block_bytes(self) -> u64 {
                match self {
                    $(Self::$variant => $bytes,)*
                }
            }
        }
    };
}

ggml_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 36;
    Q2K = 10, "Q2_K", 256, 84;
    Q3K = 11, "Q3_K", 256, 110;
    Q4K = 12, "Q4_K", 256, 144;
    Q5K = 13, "Q5_K", 256, 176;
    Q6K = 14, "Q6_K", 256, 210;
    Q8K = 15, "Q8_K", 256, 292;
    Iq2Xxs = 16, "IQ2_XXS", 256, 66;
    Iq2Xs = 17, "IQ2_XS", 256, 74;
    Iq3Xxs = 18, "IQ3_XXS", 256, 98;
    Iq1S = 19, "IQ1_S", 256, 50;
    Iq4Nl = 20, "IQ4_NL", 32, 18;
    Iq3S = 21, "IQ3_S", 256, 110;
    Iq2S = 22, "IQ2_S", 256, 82;
    Iq4Xs = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    Iq1M = 29, "IQ1_M", 256, 56;
    Bf16 = 30, "BF16", 1, 2;
    Tq1_0 = 34, "TQ1_0", 256, 54;
    Tq2_0 = 35, "TQ2_0", 256, 66;
    Mxfp4 = 39, "MXFP4", 32, 17;
    Nvfp4 = 40, "NVFP4", 64, 36;
    Q1_0 = 41, "Q1_0", 128, 18;
    Q2_0 = 42, "Q2_0", 64, 18;
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An entry of the tensor table, checked against its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, unique in the file.
    pub name: String,
    /// The type of the elements.
    pub dtype: GgmlType,
    /// The dimensions, **innermost (fastest varying) first**. A weight that maps `[in]` to `[out]` has the shape `[in, out]` here;
    /// most other formats call it `[out, in]`, row-major. A scalar has no dimensions.
    pub shape: Vec<u64>,
    /// The start of the data, in bytes from the start of the **file** (not of the data section).
    pub offset: u64,
    /// The length of the data, in bytes. `offset + bytes` is within the file.
    pub bytes: u64,
}

impl TensorInfo {
    /// The number of elements: the product of the shape, 1 for a scalar.
    #[must_use]
    pub fn elements(&self) -> u64 {
        // The reader has checked that the product fits.
        self.shape.iter().product()
    }
}
