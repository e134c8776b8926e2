//! The reader on valid, corrupted and malicious files, and on the real model.

mod made;

use std::io::Cursor;
use std::path::PathBuf;

use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Array, GgmlType, Gguf, GgufError, StringArray, Value, ValueType};

fn read(file: &[u8]) -> Result<Gguf, GgufError> {
    Gguf::read(&mut Cursor::new(file))
}

/// A file with values and tensors of many types.
fn sample() -> Vec<u8> {
    GgufWriter::new()
        .metadata("general.architecture", "llama")
        .metadata("general.alignment", 64_u32)
        .metadata("count", 7_u8)
        .metadata("negative", -3_i64)
        .metadata("large", u64::MAX)
        .metadata("ratio", 0.5_f32)
        .metadata("fine", 0.1_f64)
        .metadata("flag", true)
        .metadata("words", ["low", "", "ér"].into_iter().collect::<StringArray>())
        .metadata("types", vec![1_i32, 3, -1])
        .metadata("sizes", vec![1_u16, 3])
        .metadata("scores", vec![1.0_f32, -2.0])
        .metadata("flags", vec![true, false])
        .metadata(
            "nested",
            Value::Array(Array::Array(vec![Array::U8(vec![1]), Array::String(StringArray::new())])),
        )
        .tensor("scale", GgmlType::F32, &[], [0; 4])
        .tensor("norm", GgmlType::F32, &[3], [1; 12])
        .tensor("weight", GgmlType::Q4_1, &[64, 3], [2; 120])
        .to_bytes()
        .unwrap()
}

/// Replaces the only occurrence of `from`.
fn patched(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let found: Vec<usize> = (0..file.len()).filter(|&at| file[at..].starts_with(from)).collect();
    assert_eq!(found.len(), 1, "the pattern must be unique");
    let mut file = file.to_vec();
    file.splice(found[0]..found[0] + from.len(), to.iter().copied());
    file
}

/// An encoded string.
fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A header with these counts, followed by `rest`.
fn header(tensors: u64, entries: u64, rest: &[u8]) -> Vec<u8> {
    [b"GGUF", &3_u32.to_le_bytes()[..], &tensors.to_le_bytes(), &entries.to_le_bytes(), rest].concat()
}

#[test]
fn the_reader_returns_what_was_written() {
    let file = sample();
    let gguf = read(&file).unwrap();
    assert_eq!((gguf.version(), gguf.alignment(), gguf.file_len()), (3, 64, file.len() as u64));
    assert_eq!(gguf.metadata().len(), 14);
    assert_eq!(gguf.string("general.architecture").unwrap(), "llama");
    assert_eq!((gguf.u64("count").unwrap(), gguf.u32("count").unwrap()), (7, 7));
    assert_eq!(gguf.i64("negative").unwrap(), -3);
    assert_eq!(gguf.f32("ratio").unwrap().to_bits(), 0.5_f32.to_bits());
    assert_eq!(gguf.f32("fine").unwrap().to_bits(), 0.1_f32.to_bits());
    assert!(gguf.bool("flag").unwrap());
    assert_eq!(gguf.strings("words").unwrap().iter().collect::<Vec<_>>(), ["low", "", "ér"]);
    assert_eq!(gguf.i32s("types").unwrap(), [1, 3, -1]);
    assert_eq!(gguf.u64s("sizes").unwrap(), [1, 3]);
    assert_eq!(gguf.f32s("scores").unwrap(), [1.0, -2.0]);
    assert_eq!(gguf.get("flags"), Some(&vec![true, false].into()));

    let names: Vec<&str> = gguf.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["scale", "norm", "weight"]);
    let weight = gguf.tensor("weight").unwrap();
    assert_eq!((weight.dtype, weight.shape.as_slice()), (GgmlType::Q4_1, &[64, 3][..]));
    assert_eq!((weight.elements(), weight.bytes, weight.offset % 64), (192, 120, 0));
    assert_eq!(&file[weight.offset as usize..][..weight.bytes as usize], [2; 120]);
    assert_eq!(gguf.tensor("scale").unwrap().elements(), 1);
    assert!(gguf.get_tensor("bias").is_none());
    assert!(
        matches!(gguf.tensor("bias"), Err(GgufError::MissingTensor { tensor, count: 3 }) if tensor == "bias")
    );
}

#[test]
fn errors_of_getters_name_the_key_and_what_was_expected_and_found() {
    let gguf = read(&sample()).unwrap();
    let message = |error: GgufError| error.to_string();
    assert_eq!(
        message(gguf.string("count").unwrap_err()),
        "metadata key `count`: expected a string, found u8"
    );
    assert_eq!(message(gguf.bool("none").unwrap_err()), "metadata key `none` is missing; expected a boolean");
    assert_eq!(gguf.get_bool("none").unwrap(), None);
    assert!(matches!(gguf.get_u64("words"), Err(GgufError::WrongType { found: ValueType::Array, .. })));
    assert!(matches!(gguf.u64("negative"), Err(GgufError::OutOfRange { found, .. }) if found == "-3"));
    assert!(matches!(gguf.u32("large"), Err(GgufError::OutOfRange { .. })));
    assert!(matches!(gguf.i64("large"), Err(GgufError::OutOfRange { .. })));
    assert!(matches!(gguf.u64s("types"), Err(GgufError::OutOfRange { found, .. }) if found == "-1"));
    assert!(matches!(gguf.i32s("words"), Err(GgufError::WrongType { .. })));
    assert!(matches!(gguf.f32s("types"), Err(GgufError::WrongType { .. })));
    assert!(matches!(gguf.f32("count"), Err(GgufError::WrongType { found: ValueType::U8, .. })));
    assert!(matches!(gguf.strings("general.architecture"), Err(GgufError::WrongType { .. })));
}

#[test]
fn other_formats_and_versions_have_their_own_errors() {
    assert!(matches!(read(b""), Err(GgufError::NotGguf { found }) if found.is_empty()));
    assert!(matches!(read(b"GG"), Err(GgufError::NotGguf { .. })));
    assert!(
        matches!(read(b"PK\x03\x04 and more"), Err(GgufError::NotGguf { found }) if found == b"PK\x03\x04")
    );
    let version = |bytes: [u8; 4]| read(&[&b"GGUF"[..], &bytes, &[0; 16]].concat());
    assert!(matches!(version([1, 0, 0, 0]), Err(GgufError::Version1)));
    assert!(matches!(version([0, 0, 0, 3]), Err(GgufError::BigEndian { version: 3 })));
    assert!(matches!(version([4, 0, 0, 0]), Err(GgufError::UnsupportedVersion { found: 4 })));
    assert!(matches!(version([0; 4]), Err(GgufError::UnsupportedVersion { found: 0 })));
    assert_eq!(version([2, 0, 0, 0]).unwrap().version(), 2);
    let split = GgufWriter::new().metadata("split.count", 3_u16).to_bytes().unwrap();
    assert!(matches!(read(&split), Err(GgufError::Split { count: 3 })));
    let whole = GgufWriter::new().metadata("split.count", 1_u16).to_bytes().unwrap();
    assert!(read(&whole).is_ok());
    assert!(matches!(Gguf::open("/no/such/model.gguf"), Err(GgufError::Open { .. })));
}

#[test]
fn lengths_are_checked_before_allocation() {
    for length in [u64::MAX, u64::MAX / 8, 1 << 40, 100] {
        assert!(matches!(read(&header(length, 0, &[])), Err(GgufError::OutOfBytes { .. })));
        assert!(matches!(read(&header(0, length, &[])), Err(GgufError::OutOfBytes { .. })));
        let bytes = length.to_le_bytes();
        let key = [&bytes[..], b"key", &[0; 24]].concat();
        assert!(matches!(read(&header(0, 1, &key)), Err(GgufError::OutOfBytes { .. })));
        let value = [&string("k")[..], &8_u32.to_le_bytes(), &bytes, b"value"].concat();
        assert!(matches!(read(&header(0, 1, &value)), Err(GgufError::OutOfBytes { .. })));
        for element in 0..=12_u32 {
            let array =
                [&string("k")[..], &9_u32.to_le_bytes(), &element.to_le_bytes(), &bytes, &[0; 64]].concat();
            assert!(matches!(read(&header(0, 1, &array)), Err(GgufError::OutOfBytes { .. })), "{element}");
        }
        let name = [&bytes[..], b"name", &[0; 24]].concat();
        assert!(matches!(read(&header(1, 0, &name)), Err(GgufError::OutOfBytes { .. })));
    }
}

#[test]
fn nesting_cannot_exhaust_the_stack() {
    let mut value = [string("k"), 9_u32.to_le_bytes().to_vec()].concat();
    for _ in 0..100_000 {
        value.extend([&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat());
    }
    assert!(matches!(read(&header(0, 1, &value)), Err(GgufError::NestedTooDeep { limit: 8, .. })));
}

#[test]
fn corrupted_metadata_are_typed_errors() {
    let entry = |key: &str, kind: u32, value: &[u8]| [&string(key)[..], &kind.to_le_bytes(), value].concat();
    let unknown = read(&header(0, 1, &entry("k", 13, &[0; 8])));
    assert!(matches!(unknown, Err(GgufError::UnknownValueType { key, found: 13 }) if key == "k"));
    assert!(matches!(
        read(&header(0, 1, &entry("k", 7, &[2]))),
        Err(GgufError::InvalidBool { found: 2, .. })
    ));
    let text = [&2_u64.to_le_bytes()[..], &[0xc3, 0x28]].concat();
    assert!(matches!(
        read(&header(0, 1, &entry("k", 8, &text))),
        Err(GgufError::InvalidUtf8 { offset: 45, .. })
    ));
    let twice = [entry("k", 0, &[1]), entry("k", 0, &[1])].concat();
    assert!(matches!(read(&header(0, 2, &twice)), Err(GgufError::DuplicateKey { .. })));
    for found in [0_u32, 3, 48, u32::MAX] {
        let file = header(0, 1, &entry("general.alignment", 4, &found.to_le_bytes()));
        assert!(matches!(read(&file), Err(GgufError::InvalidAlignment { found: f }) if f == found));
    }
    assert!(matches!(
        read(&header(0, 1, &entry("general.alignment", 0, &[32]))),
        Err(GgufError::WrongType { .. })
    ));
}

#[test]
fn a_lenient_read_leaves_out_what_it_cannot_represent_and_says_so() {
    let file = GgufWriter::new()
        .metadata("general.architecture", "llama")
        .metadata("text", "cafe!")
        .metadata("flag", true)
        .metadata("ke", 1_u8)
        .tensor("odd", GgmlType::I8, &[32], [0; 32])
        .tensor("even", GgmlType::I8, &[32], [0; 32])
        .to_bytes()
        .unwrap();
    let patches: [(&[u8], &[u8]); 4] = [
        (b"cafe!", b"caf\xe9!"),
        (b"flag\x07\0\0\0\x01", b"flag\x07\0\0\0\x07"),
        (b"ke\0\0\0\0\x01", b"\xffe\0\0\0\0\x01"),
        (b"odd\x01\0\0\0 \0\0\0\0\0\0\0\x18", b"odd\x01\0\0\0 \0\0\0\0\0\0\0\x63"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let lenient = |bytes: &[u8]| {
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        Gguf::open_lenient(path)
    };
    let (whole, faults) = lenient(&file).unwrap();
    assert_eq!((&whole, faults.len()), (&read(&file).unwrap(), 0), "a sound file is read as ever");
    let mut all = file.clone();
    for (from, to) in patches {
        let one = patched(&file, from, to);
        let (_, faults) = lenient(&one).unwrap();
        let strict = read(&one).unwrap_err().to_string();
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [strict]);
        all = patched(&all, from, to);
    }
    let (gguf, faults) = lenient(&all).unwrap();
    assert_eq!((faults.len(), gguf.metadata().len()), (4, 3));
    assert_eq!((gguf.string("text").unwrap(), gguf.bool("flag").unwrap()), ("caf\u{fffd}!", true));
    assert!(gguf.get_tensor("odd").is_none() && gguf.get_tensor("even").is_some());
    // Anything else is refused as ever.
    assert!(matches!(lenient(&all[..all.len() - 1]), Err(GgufError::TensorOutOfFile { .. })));
    assert!(matches!(lenient(b"<!doctype html>"), Err(GgufError::NotGguf { .. })));
}

#[test]
fn files_that_were_not_fetched_say_how_to_fetch_them() {
    let message = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(message(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(message(b"<!doctype html>").contains("`resolve`"));
    assert!(message(&[0; 4096]).contains("not fetched to its end"));
    assert!(message(b"").contains("empty"));
    assert!(message(b"PK\x03\x04").contains("convert"));
}

#[test]
fn corrupted_tensor_tables_are_typed_errors() {
    let tensor = |name: &str, shape: &[u64], kind: u32, offset: u64| {
        let mut entry = [&string(name)[..], &(shape.len() as u32).to_le_bytes()].concat();
        entry.extend(shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
        entry.extend(kind.to_le_bytes());
        entry.extend(offset.to_le_bytes());
        entry
    };
    // The data section has 256 bytes.
    let file = |entries: &[Vec<u8>]| {
        let mut file = header(entries.len() as u64, 0, &entries.concat());
        file.resize(file.len().next_multiple_of(32) + 256, 0);
        read(&file)
    };
    assert!(file(&[tensor("a", &[8], 0, 0), tensor("b", &[56], 0, 32)]).is_ok());
    assert!(
        matches!(file(&[tensor("a", &[8], 4, 0)]), Err(GgufError::UnknownTensorType { tensor, found: 4 }) if tensor == "a")
    );
    assert!(matches!(
        file(&[tensor("a", &[8], 999, 0)]),
        Err(GgufError::UnknownTensorType { found: 999, .. })
    ));
    assert!(matches!(
        file(&[tensor("a", &[1; 5], 0, 0)]),
        Err(GgufError::TooManyDimensions { found: 5, .. })
    ));
    assert!(matches!(file(&[tensor("a", &[8, 0], 0, 0)]), Err(GgufError::EmptyTensor { .. })));
    assert!(matches!(
        file(&[tensor("a", &[33], 2, 0)]),
        Err(GgufError::PartialBlock { row: 33, block: 32, .. })
    ));
    for shape in [[1 << 40, 1 << 40], [u64::MAX, 1], [1 << 62, 2]] {
        assert!(matches!(file(&[tensor("a", &shape, 0, 0)]), Err(GgufError::TensorTooLarge { .. })));
    }
    assert!(matches!(file(&[tensor("a", &[1 << 60], 0, 0)]), Err(GgufError::TensorOutOfFile { .. })));
    assert!(matches!(file(&[tensor("a", &[65], 0, 0)]), Err(GgufError::TensorOutOfFile { bytes: 260, .. })));
    assert!(matches!(file(&[tensor("a", &[8], 0, u64::MAX - 31)]), Err(GgufError::TensorOutOfFile { .. })));
    assert!(matches!(file(&[tensor("a", &[8], 0, 8)]), Err(GgufError::MisalignedTensor { offset: 8, .. })));
    let twice = file(&[tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)]);
    assert!(matches!(twice, Err(GgufError::DuplicateTensor { .. })));
    for (second, shape) in [(0, 8), (32, 1)] {
        let overlap = file(&[tensor("b", &[shape], 0, second), tensor("a", &[9], 0, 0)]);
        assert!(matches!(overlap, Err(GgufError::OverlappingTensors { .. })), "{second}");
    }
}

#[test]
fn the_writer_checks_what_it_writes() {
    let twice = GgufWriter::new().metadata("k", 1_u8).metadata("k", 2_u8).to_bytes();
    assert!(matches!(twice, Err(GgufError::DuplicateKey { .. })));
    let tensors = GgufWriter::new().tensor("t", GgmlType::I8, &[1], [0]).tensor("t", GgmlType::I8, &[1], [0]);
    assert!(matches!(tensors.to_bytes(), Err(GgufError::DuplicateTensor { .. })));
    let partial = GgufWriter::new().tensor("t", GgmlType::Q8_0, &[31], [0; 34]).to_bytes();
    assert!(matches!(partial, Err(GgufError::PartialBlock { .. })));
    let alignment = GgufWriter::new().metadata("general.alignment", 24_u32).to_bytes();
    assert!(matches!(alignment, Err(GgufError::InvalidAlignment { found: 24 })));
    assert!(matches!(
        GgufWriter::new().metadata("general.alignment", 32_u64).to_bytes(),
        Err(GgufError::WrongType { found: ValueType::U64, .. })
    ));
    let mut out = Vec::new();
    GgufWriter::new().metadata("k", "v").write_to(&mut out).unwrap();
    assert_eq!(read(&out).unwrap().string("k").unwrap(), "v");
}

#[test]
fn type_numbers_and_names_agree() {
    for &dtype in GgmlType::ALL {
        assert_eq!(GgmlType::from_id(dtype.id()), Some(dtype));
        assert!(dtype.block_size() > 0 && dtype.block_bytes() > 0);
    }
    assert_eq!(GgmlType::from_id(4), None);
    assert_eq!(GgmlType::Q4K.to_string(), "Q4_K");
    assert_eq!((GgmlType::Q6K.block_size(), GgmlType::Q6K.block_bytes()), (256, 210));
}

#[test]
fn reading_starts_at_position_0() {
    let mut cursor = Cursor::new(sample());
    cursor.set_position(17);
    assert!(Gguf::read(&mut cursor).is_ok());
}

#[test]
fn a_wrong_number_of_dimensions_is_refused() {
    let file = sample();
    let entry = [string("weight"), 2_u32.to_le_bytes().to_vec()].concat();
    let more = [string("weight"), 9_u32.to_le_bytes().to_vec()].concat();
    assert!(matches!(
        read(&patched(&file, &entry, &more)),
        Err(GgufError::TooManyDimensions { found: 9, .. })
    ));
}

#[test]
fn the_real_model() {
    let path = std::env::var_os("UPCYCLE_TEST_MODEL").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../.models/SmolLM2-135M-Instruct.Q4_1.gguf"
            ))
        },
        PathBuf::from,
    );
    let gguf = Gguf::open(&path).unwrap_or_else(|error| {
        panic!("{error}\nThis test needs the real model: run scripts/get-model.sh, or set UPCYCLE_TEST_MODEL")
    });
    assert_eq!((gguf.version(), gguf.tensors().len(), gguf.metadata().len()), (3, 272, 33));
    assert_eq!(gguf.string("general.architecture").unwrap(), "llama");
    assert_eq!(gguf.u32("llama.attention.head_count_kv").unwrap(), 3);
    assert_eq!(gguf.strings("tokenizer.ggml.tokens").unwrap().len(), 49_152);
    let embedding = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((embedding.dtype, embedding.shape.as_slice()), (GgmlType::Q8_0, &[576, 49_152][..]));
    assert_eq!(embedding.offset, 1_785_664_u64.next_multiple_of(32));
    let last = gguf.tensors().iter().map(|tensor| tensor.offset + tensor.bytes).max().unwrap();
    assert!(last <= gguf.file_len() && gguf.file_len() - last < 32);
}
