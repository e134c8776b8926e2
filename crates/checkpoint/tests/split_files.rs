//! Split models.

use std::fs;
use std::path::{Path, PathBuf};

use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{GgmlType, Gguf, GgufError, SplitFiles};

fn model() -> GgufWriter {
    let writer = GgufWriter::new().metadata("general.architecture", "llama");
    (0..7_u8).fold(writer, |writer, at| writer.tensor(format!("t{at}"), GgmlType::F32, &[2], [at; 8]))
}

fn save(writer: &GgufWriter, path: &Path) {
    fs::write(path, writer.to_bytes().expect("valid")).expect("to write");
}

/// The model in `count` files of a temporary folder.
fn parts(count: u16) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let name = |number| folder.path().join(format!("tiny-{number:05}-of-{count:05}.gguf"));
    let paths: Vec<PathBuf> = (1..=count).map(name).collect();
    for (writer, path) in model().split(count).iter().zip(&paths) {
        save(writer, path);
    }
    (folder, paths)
}

#[test]
fn parts_together_equal_the_whole_model() {
    for count in [1, 2, 3, 7, 9] {
        let (_folder, paths) = parts(count);
        let whole = Gguf::read(&mut std::io::Cursor::new(model().to_bytes().expect("valid"))).expect("valid");
        let parts = SplitFiles::open(&paths[0]).expect("all parts exist");
        let tensors = |tensors: &mut dyn Iterator<Item = &upcycle_checkpoint::gguf::TensorInfo>| {
            tensors.map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect::<Vec<_>>()
        };
        assert_eq!(tensors(&mut parts.tensors()), tensors(&mut whole.tensors().iter()), "{count}");
        assert_eq!(parts.first().string("general.architecture").expect("in the first part"), "llama");
        assert!(parts.files().map(|(path, _)| path).eq(&paths));
        for (path, gguf) in parts.files() {
            for tensor in gguf.tensors() {
                let bytes = &fs::read(path).expect("a part")[tensor.offset as usize..][..8];
                assert_eq!(tensor.name, format!("t{}", bytes[0]), "an offset counts within its part");
            }
        }
    }
}

#[test]
fn a_part_is_refused_where_a_whole_model_is_expected() {
    let (_folder, paths) = parts(3);
    assert!(matches!(Gguf::open(&paths[0]), Err(GgufError::Split { count: 3 })));
    assert!(Gguf::open_first(&paths[0]).is_ok());
    for open in
        [|path: &Path| Gguf::open_first(path).map(drop), |path: &Path| SplitFiles::open(path).map(drop)]
    {
        assert!(matches!(open(&paths[2]), Err(GgufError::NotFirstPart { number: 3, count: 3 })));
    }
}

#[test]
fn missing_corrupted_and_wrong_parts_are_refused() {
    let (folder, paths) = parts(3);
    let refused = || SplitFiles::open(&paths[0]).expect_err("an invalid part");
    let third = fs::read(&paths[2]).expect("written");
    save(&model().split(4)[2], &paths[2]);
    assert!(matches!(refused(), GgufError::OtherPart { number: 3, count: 3, .. }));
    save(&model(), &paths[2]);
    assert!(matches!(refused(), GgufError::OtherPart { .. }), "a whole model");
    fs::write(&paths[2], &third[..third.len() - 1]).expect("to write");
    let error = refused();
    assert!(
        matches!(&error, GgufError::Part { source, .. } if matches!(**source, GgufError::TensorOutOfFile { .. }))
    );
    fs::remove_file(&paths[2]).expect("it is there");
    let error = refused();
    assert!(error.to_string().contains("tiny-00003-of-00003.gguf, one of 3 parts"), "{error}");
    assert!(matches!(&error, GgufError::Part { source, .. } if matches!(**source, GgufError::Open { .. })));
    let renamed = folder.path().join("renamed.gguf");
    fs::rename(&paths[0], &renamed).expect("to rename");
    assert!(matches!(SplitFiles::open(&renamed), Err(GgufError::PartName { count: 3, .. })));
}
