//! Tensors that cannot be packed: a typed error that names the tensor, never a read out of bounds.

use upcycle_kernels::{Format, Isa, IsaError, KernelPath, Matrix, PackError};

fn pack(format: Format, shape: (usize, usize), bytes: &[u8]) -> Result<Matrix, PackError> {
    Matrix::pack("blk.0.w", format, shape, bytes, 2)
}

#[test]
fn shapes_and_lengths_are_checked() {
    assert!(matches!(pack(Format::Q4_0, (0, 32), &[]), Err(PackError::Empty { rows: 0, .. })));
    assert!(matches!(pack(Format::Q4_0, (4, 0), &[]), Err(PackError::Empty { cols: 0, .. })));
    let huge = [(1 << 31, 1), (1 << 16, 1 << 15), (usize::MAX, 2), (usize::MAX, usize::MAX)];
    for shape in huge {
        assert!(matches!(pack(Format::F32, shape, &[]), Err(PackError::TooLarge { .. })), "{shape:?}");
    }
    for format in Format::ALL.into_iter().filter(|format| format.block() > 1) {
        let cols = format.block() + format.block() / 2;
        assert!(matches!(pack(format, (1, cols), &[]), Err(PackError::NotWholeBlocks { .. })));
    }
    for format in Format::ALL {
        let bytes = vec![0; format.block_bytes() * 2];
        for wrong in [&bytes[1..], &[&bytes[..], &[0]].concat()] {
            let error = pack(format, (2, format.block()), wrong).unwrap_err();
            assert!(matches!(&error, PackError::Length { expected, .. } if *expected == bytes.len()));
            assert!(error.to_string().contains("blk.0.w"), "{error}");
        }
        assert!(pack(format, (2, format.block()), &bytes).is_ok());
    }
}

#[test]
fn scales_and_weights_that_are_not_finite_are_refused_with_their_row() {
    let scales: [(Format, usize, &[u8]); 10] = [
        (Format::Q4_0, 0, &[0, 0x7c]),
        (Format::Q4_1, 2, &[1, 0x7c]),
        (Format::Q5_0, 0, &[0, 0xfc]),
        (Format::Q5_1, 2, &[0, 0x7e]),
        (Format::Q8_0, 0, &[0, 0x7c]),
        (Format::Q4K, 2, &[0, 0x7c]),
        (Format::Q6K, 208, &[0, 0x7c]),
        (Format::F16, 0, &[0, 0x7c]),
        (Format::BF16, 0, &[0x80, 0x7f]),
        (Format::F32, 0, &[0, 0, 0xc0, 0x7f]),
    ];
    for (format, at, bad) in scales {
        let mut bytes = vec![0; format.block_bytes() * 40];
        bytes[format.block_bytes() * 33 + at..][..bad.len()].copy_from_slice(bad);
        let expected = PackError::NotFinite { tensor: "blk.0.w".into(), row: 33 };
        assert_eq!(pack(format, (40, format.block()), &bytes).unwrap_err(), expected, "{}", format.name());
    }
}

#[test]
fn a_path_that_is_not_there_is_refused_with_those_that_are() {
    let error = KernelPath::named("sse9").unwrap_err();
    assert!(matches!(&error, IsaError::Unknown { name, .. } if name == "sse9"));
    assert!(error.to_string().contains("portable"), "{error}");
    for isa in Isa::ALL {
        match KernelPath::named(isa.name()) {
            Ok(path) => assert_eq!(path.isa(), isa),
            Err(error) => {
                println!("{} is skipped: {error}", isa.name());
                assert!(!isa.is_available());
            }
        }
    }
}
