//! Files and options that cannot be used: each gives an error that names the thing, what was expected, what was found.

mod support;

use std::io::Write;

use support::quantize::quantized;
use support::{chain, last_logits, options};
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{GgmlType, GgufError, Value};
use upcycle_checkpoint::{CheckpointError, HyperparameterError};
use upcycle_cpu::{LoadError, Model, Options, WeightStorage};
use upcycle_testkit::tiny::{Format, Tiny, write};

fn tiny() -> Tiny {
    Tiny::default()
}

fn refusal(writer: &GgufWriter, weights: WeightStorage) -> LoadError {
    match Model::load(write(writer).path(), &options(weights)) {
        Ok(_) => panic!("the model was loaded"),
        Err(error) => {
            println!("{}", chain(&error));
            error
        }
    }
}

/// The tiny model with other metadata: those given replace their like, and are added where there are none.
fn with_metadata(changes: &[(&str, Value)]) -> GgufWriter {
    let tiny = tiny();
    let base: [(&str, Value); 3] = [
        ("general.architecture", "llama".into()),
        ("llama.attention.layer_norm_rms_epsilon", 1e-5_f32.into()),
        ("llama.rope.freq_base", 10_000.0_f32.into()),
    ];
    let sizes = tiny.sizes().into_iter().map(|(key, value)| (format!("llama.{key}"), value.into()));
    let mut entries: Vec<(String, Value)> =
        base.map(|(key, value)| (key.to_owned(), value)).into_iter().chain(sizes).collect();
    for (key, value) in changes {
        entries.retain(|(other, _)| other != key);
        entries.push(((*key).to_owned(), value.clone()));
    }
    let writer =
        entries.into_iter().fold(GgufWriter::new(), |writer, (key, value)| writer.metadata(key, value));
    tiny.tensors()
        .iter()
        .fold(writer, |writer, (name, dtype, shape)| tiny.tensor(writer, name, *dtype, shape))
}

/// The tiny model, each tensor as `change` has it: another name, type or shape, or none at all.
fn with_tensors(
    change: impl Fn(&str, GgmlType, Vec<usize>) -> Option<(String, GgmlType, Vec<usize>)>,
) -> GgufWriter {
    let tiny = tiny();
    let empty = Tiny { layers: 0, ..tiny.clone() };
    let mut writer = GgufWriter::new()
        .metadata("general.architecture", "llama")
        .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    for (key, value) in tiny.sizes() {
        writer = writer.metadata(format!("llama.{key}"), value);
    }
    for (name, dtype, shape) in tiny.tensors() {
        if let Some((name, dtype, shape)) = change(&name, dtype, shape) {
            writer = empty.tensor(writer, &name, dtype, &shape);
        }
    }
    writer
}

#[test]
fn a_sound_model_is_loaded_and_progress_reaches_the_end() {
    for weights in [WeightStorage::File, WeightStorage::F32] {
        let file = tiny().save(Format::Gguf);
        let mut seen = Vec::new();
        let model = Model::load_with_progress(file.path(), &options(weights), &mut |done, total| {
            seen.push((done, total));
        });
        let model = model.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!((model.vocab(), model.max_context(), model.threads()), (96, 160, 2));
        let total = seen[0].1;
        assert_eq!((seen[0].0, seen.last()), (0, Some(&(total, total))));
        assert!(seen.is_sorted() && seen.len() == tiny().tensors().len() + 1, "{seen:?}");
    }
}

#[test]
fn files_that_are_not_there_empty_or_cut_short() {
    let load = |path: &std::path::Path| Model::load(path, &Options::default());
    assert!(matches!(
        load("no-such-model.gguf".as_ref()),
        Err(LoadError::Checkpoint(CheckpointError::File { .. }))
    ));

    let whole = tiny().writer(None).to_bytes().expect("a sound model");
    for len in [0, 3, 8, 100, whole.len() / 2, whole.len() - 1] {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&whole[..len]).expect("to write");
        let found = load(file.path());
        assert!(
            matches!(
                found,
                Err(LoadError::Checkpoint(CheckpointError::Gguf { .. })
                    | LoadError::Checkpoint(CheckpointError::File { .. }))
            ),
            "{len} of {} bytes: {found:?}",
            whole.len()
        );
    }
}

#[test]
fn an_unknown_architecture_lists_the_known_ones() {
    let found = refusal(&with_metadata(&[("general.architecture", "gpt2".into())]), WeightStorage::File);
    assert_eq!(
        found.to_string(),
        "`general.architecture`: expected one of [llama, qwen2, qwen3], found `gpt2`"
    );
}

#[test]
fn metadata_that_cannot_be_are_refused_by_their_key() {
    let cases: [(&str, Value); 16] = [
        ("llama.embedding_length", 0_u32.into()),
        ("llama.block_count", 0_u32.into()),
        ("llama.context_length", 0_u32.into()),
        ("llama.feed_forward_length", 0_u32.into()),
        ("llama.attention.head_count", 0_u32.into()),
        ("llama.attention.head_count", 3_u32.into()),
        ("llama.attention.head_count_kv", 3_u32.into()),
        ("llama.attention.value_length", 8_u32.into()),
        ("llama.rope.dimension_count", 17_u32.into()),
        ("llama.rope.dimension_count", 18_u32.into()),
        ("llama.rope.freq_base", 0.0_f32.into()),
        ("llama.rope.freq_base", f32::NAN.into()),
        ("llama.rope.scaling.type", "longrope".into()),
        ("llama.rope.scaling.factor", (-2.0_f32).into()),
        ("llama.attention.layer_norm_rms_epsilon", f32::INFINITY.into()),
        ("llama.expert_count", 8_u32.into()),
    ];
    for (key, value) in cases {
        match refusal(&with_metadata(&[(key, value.clone())]), WeightStorage::File) {
            LoadError::Checkpoint(CheckpointError::Hyperparameters(HyperparameterError::Metadata {
                key: named,
                ..
            })) if key == named || key.ends_with("head_count") => {}
            other => panic!("{key} = {value:?}: {other:?}"),
        }
    }
    let wrong_type = refusal(&with_metadata(&[("llama.block_count", "two".into())]), WeightStorage::File);
    assert!(matches!(
        wrong_type,
        LoadError::Checkpoint(CheckpointError::Gguf { source: GgufError::WrongType { .. }, .. })
    ));
}

#[test]
fn missing_tensors_and_wrong_shapes_are_named() {
    for (missing, ..) in tiny().tensors() {
        let writer =
            with_tensors(|name, dtype, shape| (name != missing).then(|| (name.to_owned(), dtype, shape)));
        match refusal(&writer, WeightStorage::File) {
            LoadError::Checkpoint(CheckpointError::MissingTensor { tensor, .. })
            | LoadError::Checkpoint(CheckpointError::Gguf {
                source: GgufError::MissingTensor { tensor, .. },
                ..
            }) => {
                assert_eq!(tensor, missing);
            }
            other => panic!("{missing}: {other:?}"),
        }
        let writer = with_tensors(|name, dtype, mut shape| {
            if name == missing {
                *shape.last_mut()? += 1;
            }
            Some((name.to_owned(), dtype, shape))
        });
        match refusal(&writer, WeightStorage::File) {
            LoadError::Checkpoint(CheckpointError::Hyperparameters(HyperparameterError::Shape {
                tensor,
                expected,
                found,
            })) => {
                assert_eq!(tensor, missing);
                assert_eq!(expected.last().map(|last| last + 1), found.last().copied());
            }
            other => panic!("{missing}: {other:?}"),
        }
    }
}

#[test]
fn a_tensor_that_would_be_ignored_is_refused() {
    for name in ["blk.0.attn_output.bias", "blk.0.attn_q_norm.weight", "blk.1.attn_q.bias"] {
        let writer = tiny().tensor(tiny().writer(None), name, GgmlType::F32, &[64]);
        match refusal(&writer, WeightStorage::File) {
            LoadError::Checkpoint(CheckpointError::UnknownTensor { tensor, .. }) => assert_eq!(tensor, name),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn types_that_the_kernels_lack_are_refused_with_the_backends_that_have_them() {
    let lacking = Tiny { embedding: GgmlType::Q8K, ..quantized(GgmlType::Q4K, GgmlType::Q6K) };
    for weights in [WeightStorage::File, WeightStorage::F32] {
        let error = refusal(&lacking.writer(None), weights);
        let text = error.to_string();
        match error {
            LoadError::Type { tensor, found, known } => {
                assert_eq!((tensor.as_str(), found), ("token_embd.weight", GgmlType::Q8K));
                assert!(known.contains("Q4_K") && !known.contains("Q8_K"), "{known}");
            }
            other => panic!("{other:?}"),
        }
        assert!(text.contains("`candle`") && text.contains("`llama-cpp`"), "{text}");
    }
}

#[test]
fn heads_that_the_kernels_lack_are_refused() {
    let narrow = Tiny { heads: 8, ..tiny() };
    assert!(matches!(refusal(&narrow.writer(None), WeightStorage::File), LoadError::HeadWidth { found: 8 }));
}

#[test]
fn a_vector_of_a_quantized_type_is_refused() {
    let writer = tiny().writer(Some("output_norm.weight"));
    let writer = writer.tensor("output_norm.weight", GgmlType::Q8_0, &[64], vec![0; 2 * 34]);
    match refusal(&writer, WeightStorage::File) {
        LoadError::Checkpoint(CheckpointError::VectorType { tensor, found }) => {
            assert_eq!((tensor.as_str(), found), ("output_norm.weight", GgmlType::Q8_0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_matrix_that_is_not_finite_is_refused() {
    let values = (0..64 * 96).map(|i: u32| if i / 64 >= 5 { f32::NAN } else { 0.0 });
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let writer = tiny().writer(Some("token_embd.weight"));
    let error =
        refusal(&writer.tensor("token_embd.weight", GgmlType::F32, &[64, 96], bytes), WeightStorage::File);
    let text = chain(&error);
    assert!(text.contains("token_embd.weight") && text.contains("row 5"), "{text}");
}

#[test]
fn a_vector_that_is_not_finite_is_refused() {
    let writer = with_tensors(|name, dtype, shape| {
        (name != "blk.1.ffn_norm.weight").then(|| (name.to_owned(), dtype, shape))
    });
    let mut bytes = vec![0; 4 * 63];
    bytes.extend(f32::NAN.to_le_bytes());
    let writer = writer.tensor("blk.1.ffn_norm.weight", GgmlType::F32, &[64], bytes);
    match refusal(&writer, WeightStorage::File) {
        LoadError::Checkpoint(CheckpointError::NotFinite { tensor }) => {
            assert_eq!(tensor, "blk.1.ffn_norm.weight");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_are_refused_by_name() {
    for bad in ["device = 'cpu'", "weights = 'f16'", "threads = 0", "batch = 3"] {
        assert!(toml::from_str::<Options>(bad).is_err(), "{bad}");
    }
    assert_eq!(toml::from_str::<Options>("").ok(), Some(Options::default()));
    assert_eq!(
        toml::from_str::<Options>("weights = 'f32'\nthreads = 2").ok(),
        Some(options(WeightStorage::F32))
    );
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_refused_and_one_that_is_replaced_is_not() {
    let load = |change: &dyn Fn(&std::path::Path)| {
        let file = write(&with_metadata(&[]));
        let mut changed = false;
        Model::load_with_progress(file.path(), &options(WeightStorage::File), &mut |_, _| {
            if !std::mem::replace(&mut changed, true) {
                change(file.path());
            }
        })
        .map(|_| ())
    };
    let appended = load(&|path| {
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
    });
    assert!(matches!(appended, Err(LoadError::Checkpoint(CheckpointError::Changed { .. }))), "{appended:?}");
    let replaced = load(&|path| {
        let other = path.with_extension("other");
        std::fs::write(&other, b"something else").unwrap();
        std::fs::rename(&other, path).unwrap();
    });
    assert!(replaced.is_ok(), "the file that was opened is still there: {replaced:?}");
}

#[test]
fn a_file_that_is_shortened_while_it_is_read_is_refused_and_later_does_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let gguf = folder.path().join("model.gguf");
    std::fs::copy(tiny().save(Format::Gguf).path(), &gguf).expect("to copy");
    tiny().write_folder(folder.path(), false);
    let safetensors = folder.path().join("model.safetensors");
    for (path, weights) in
        [(&gguf, WeightStorage::File), (&gguf, WeightStorage::F32), (&safetensors, WeightStorage::File)]
    {
        let whole = std::fs::read(path).expect("to read");
        let shorten = |len| std::fs::write(path, &whole[..len]).expect("to write");
        let options = options(weights);
        // Shortens the file after so many tensors, and makes it whole again.
        let load = |shortened: usize| {
            let mut calls = 0;
            let loaded = Model::load_with_progress(path, &options, &mut |_, _| {
                if calls == shortened {
                    shorten(100);
                }
                calls += 1;
            });
            shorten(whole.len());
            (loaded, calls)
        };
        let (first, calls) = load(usize::MAX);
        for call in 0..calls {
            let found = load(call).0;
            assert!(
                matches!(found, Err(LoadError::Checkpoint(CheckpointError::Changed { .. }))),
                "after {call} tensors: {found:?}"
            );
        }
        let later = load(usize::MAX).0.expect("a sound model");
        shorten(0);
        assert_eq!(last_logits(later), last_logits(first.expect("a sound model")));
        shorten(whole.len());
    }
}
