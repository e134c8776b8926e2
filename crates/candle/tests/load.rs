//! Loading: progress, devices, types, options, files that change.

mod support;

use std::io::Write;

use support::{chain, load, quantize::quantized};
use upcycle_candle::{CandleVerifier, Device, LoadError, Model, Options, WeightStorage};
use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_testkit::tiny::{Format, Tiny, logits, write};

#[test]
fn progress_reaches_the_end() {
    for format in [Format::Gguf, Format::Folder] {
        let mut seen = Vec::new();
        let saved = Tiny::default().save(format);
        let loaded = Model::load_with_progress(saved.path(), &Options::default(), &mut |done, total| {
            seen.push((done, total));
        });
        let model = loaded.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!((model.vocab(), model.max_context()), (96, 160));
        let total = seen[0].1;
        assert_eq!((seen[0].0, seen.last()), (0, Some(&(total, total))));
        assert!(seen.is_sorted() && seen.len() == Tiny::default().tensors().len() + 1, "{seen:?}");
    }
}

#[test]
fn a_type_that_candle_lacks_is_refused() {
    let writer = Tiny::default().writer(Some("token_embd.weight")).tensor(
        "token_embd.weight",
        GgmlType::Iq4Nl,
        &[64, 96],
        vec![0; 64 * 96 / 32 * 18],
    );
    for weights in [WeightStorage::File, WeightStorage::F32] {
        let mut options = Options::default();
        options.weights = weights;
        match Model::load(write(&writer).path(), &options) {
            Err(LoadError::Type { tensor, found, .. }) => {
                assert_eq!((tensor.as_str(), found), ("token_embd.weight", GgmlType::Iq4Nl));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// candle multiplies such blocks in pairs.
#[test]
fn rows_with_an_odd_number_of_blocks_are_widened() {
    let odd = Tiny { width: 96, heads: 3, kv_heads: 3, ..quantized(GgmlType::Q4_1, GgmlType::Q4_1) };
    let [file, f32] = [WeightStorage::File, WeightStorage::F32].map(|weights| {
        let mut verifier = CandleVerifier::new(load(&odd, Format::Gguf, weights));
        logits(&mut verifier, &[5, 40, 17]).expect("a sound model")
    });
    // The matrix with an even number of blocks still rounds activations.
    for (file, f32) in file.iter().flatten().zip(f32.iter().flatten()) {
        assert!((file - f32).abs() < 0.3, "{file} and {f32}");
    }
}

#[test]
fn options_are_refused_by_name() {
    for bad in ["device = 'abacus'", "weights = 'f16'", "threads = 2"] {
        assert!(toml::from_str::<Options>(bad).is_err(), "{bad}");
    }
    assert_eq!(toml::from_str::<Options>("").ok(), Some(Options::default()));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    for format in [Format::Gguf, Format::Folder] {
        let saved = Tiny::default().save(format);
        let file = match format {
            Format::Gguf => saved.path().to_owned(),
            _ => saved.path().join("model.safetensors"),
        };
        let mut changed = false;
        let loaded = Model::load_with_progress(saved.path(), &Options::default(), &mut |_, _| {
            if !std::mem::replace(&mut changed, true) {
                std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"x").unwrap();
            }
        });
        assert!(
            matches!(loaded, Err(LoadError::Checkpoint(CheckpointError::Changed { .. }))),
            "{format:?}: {loaded:?}"
        );
    }
}

#[test]
fn a_device_that_is_not_built_in_is_named_with_its_feature() {
    for (device, name, built) in
        [(Device::Cuda, "cuda", cfg!(feature = "cuda")), (Device::Metal, "metal", cfg!(feature = "metal"))]
    {
        let mut options = Options::default();
        options.device = device;
        match Model::load(Tiny::default().save(Format::Gguf).path(), &options) {
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
