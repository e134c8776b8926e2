//! Files and options that cannot be used: each gives an error that names the thing, what was expected, what was found.

mod support;

use std::io::Write;

use support::formats;
use support::{Tiny, chain, last_logits, options, write};
use upcycle_candle::{Device, LoadError, Model, Options, Products, Weights};
use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{GgmlType, GgufError, HyperparameterError, Value};

fn tiny() -> Tiny {
    Tiny::new([GgmlType::F32, GgmlType::F32])
}

fn refusal(writer: &GgufWriter, weights: Weights) -> LoadError {
    match Model::load(write(writer).path(), &options(Products::Candle, weights)) {
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
    let sizes = tiny.metadata().into_iter().map(|(key, value)| (format!("llama.{key}"), value.into()));
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
    for (key, value) in tiny.metadata() {
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
    for weights in [Weights::File, Weights::F32] {
        let file = tiny().write();
        let mut seen = Vec::new();
        let model = Model::load_with_progress(
            file.path(),
            &options(Products::Candle, weights),
            &mut |done, total| {
                seen.push((done, total));
            },
        );
        let model = model.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!((model.vocab(), model.max_context(), model.threads()), (96, 160, Some(2)));
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

    let whole = tiny().writer().to_bytes().expect("a sound model");
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
    let found = refusal(&with_metadata(&[("general.architecture", "gpt2".into())]), Weights::File);
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
        match refusal(&with_metadata(&[(key, value.clone())]), Weights::File) {
            LoadError::Checkpoint(CheckpointError::Model(HyperparameterError::Metadata {
                key: named,
                ..
            })) if key == named || key.ends_with("head_count") => {}
            other => panic!("{key} = {value:?}: {other:?}"),
        }
    }
    let wrong_type = refusal(&with_metadata(&[("llama.block_count", "two".into())]), Weights::File);
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
        match refusal(&writer, Weights::File) {
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
        match refusal(&writer, Weights::File) {
            LoadError::Checkpoint(CheckpointError::Model(HyperparameterError::Shape {
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
        let writer = tiny().tensor(tiny().writer(), name, GgmlType::F32, &[64]);
        match refusal(&writer, Weights::File) {
            LoadError::Checkpoint(CheckpointError::UnknownTensor { tensor, .. }) => assert_eq!(tensor, name),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn types_that_candle_lacks_or_cannot_pair_are_refused() {
    let writer = GgufWriter::new();
    let writer = tiny()
        .metadata()
        .into_iter()
        .fold(writer, |writer, (key, value)| writer.metadata(format!("llama.{key}"), value));
    let writer = writer
        .metadata("general.architecture", "llama")
        .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)
        .tensor("token_embd.weight", GgmlType::Iq4Nl, &[64, 96], vec![0; 64 * 96 / 32 * 18])
        .tensor("output_norm.weight", GgmlType::F32, &[64], vec![0; 4 * 64]);
    for weights in [Weights::File, Weights::F32] {
        match refusal(&writer, weights) {
            LoadError::Type { tensor, found, .. } => {
                assert_eq!((tensor.as_str(), found), ("token_embd.weight", GgmlType::Iq4Nl));
            }
            other => panic!("{other:?}"),
        }
    }

    let mut odd = Tiny::new([GgmlType::Q4_1, GgmlType::Q4_1]);
    (odd.width, odd.heads, odd.kv_heads) = (96, 3, 3);
    assert!(matches!(refusal(&odd.writer(), Weights::File), LoadError::OddBlocks { .. }));
    odd.load(&options(Products::Candle, Weights::F32));
}

#[test]
fn a_vector_that_is_not_finite_is_refused() {
    let writer = with_tensors(|name, dtype, shape| {
        (name != "blk.1.ffn_norm.weight").then(|| (name.to_owned(), dtype, shape))
    });
    let mut bytes = vec![0; 4 * 63];
    bytes.extend(f32::NAN.to_le_bytes());
    let writer = writer.tensor("blk.1.ffn_norm.weight", GgmlType::F32, &[64], bytes);
    match refusal(&writer, Weights::File) {
        LoadError::Checkpoint(CheckpointError::NotFinite { tensor }) => {
            assert_eq!(tensor, "blk.1.ffn_norm.weight");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_are_refused_by_name() {
    for bad in ["device = 'abacus'", "weights = 'f16'", "threads = 0", "batch = 3"] {
        assert!(toml::from_str::<Options>(bad).is_err(), "{bad}");
    }
    assert_eq!(toml::from_str::<Options>("").ok(), Some(Options::default()));
    assert_eq!(
        toml::from_str::<Options>("weights = 'f32'\nkernels = 'candle'\nthreads = 2").ok(),
        Some(options(Products::Candle, Weights::F32))
    );
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_refused_and_one_that_is_removed_is_not() {
    for products in [Products::Own, Products::Candle] {
        let load = |change: &dyn Fn(&std::path::Path)| {
            let file = write(&with_metadata(&[]));
            let mut changed = false;
            Model::load_with_progress(file.path(), &options(products, Weights::File), &mut |_, _| {
                if !std::mem::replace(&mut changed, true) {
                    change(file.path());
                }
            })
            .map(|_| ())
        };
        let appended = load(&|path| {
            std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
        });
        assert!(
            matches!(appended, Err(LoadError::Checkpoint(CheckpointError::Changed { .. }))),
            "{products:?}: {appended:?}"
        );
        let replaced = load(&|path| {
            let other = path.with_extension("other");
            std::fs::write(&other, b"something else").unwrap();
            std::fs::rename(&other, path).unwrap();
        });
        assert!(replaced.is_ok(), "{products:?}: the file that was opened is still there: {replaced:?}");
    }
}

/// On the workspace's kernels nothing is mapped, so that a part that is gone is an error. (With candle's products it ends the
/// process: docs/models.md.)
#[test]
fn a_file_that_is_shortened_while_it_is_read_is_refused_and_later_does_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let gguf = folder.path().join("model.gguf");
    std::fs::copy(tiny().write().path(), &gguf).expect("to copy");
    formats::write(&tiny(), folder.path(), false);
    let safetensors = folder.path().join("model.safetensors");
    for (path, weights) in [(&gguf, Weights::File), (&gguf, Weights::F32), (&safetensors, Weights::File)] {
        let whole = std::fs::read(path).expect("to read");
        let shorten = |len| std::fs::write(path, &whole[..len]).expect("to write");
        let options = options(Products::Own, weights);
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

#[test]
fn a_device_that_is_not_built_in_is_named_with_its_feature() {
    for (device, name, built) in
        [(Device::Cuda, "cuda", cfg!(feature = "cuda")), (Device::Metal, "metal", cfg!(feature = "metal"))]
    {
        let mut options = Options::default();
        options.device = device;
        match Model::load(tiny().write().path(), &options) {
            Ok(_) if built => {}
            Err(LoadError::Device { device, .. }) if built => assert_eq!(device, name),
            Err(error @ LoadError::NoDevice { .. }) if !built => {
                let text = error.to_string();
                assert!(text.contains(&format!("`device` is \"{name}\"")), "{text}");
                assert!(text.contains(&format!("`candle-{name}`")), "{text}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn the_kernels_run_on_no_other_device() {
    let options = options(Products::Own, Weights::File);
    let loaded = Model::load_on(tiny().write().path(), &options, candle_core::Device::Cpu, &mut |_, _| ());
    assert!(matches!(loaded, Err(LoadError::Kernels { reason }) if reason.contains("on the CPU alone")));
}
