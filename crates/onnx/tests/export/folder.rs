//! An export leaves a complete folder or nothing.

use std::fs;
use std::path::Path;

use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::Gguf;
use upcycle_onnx::export::{ExportError, ExportOptions, WeightType, export};
use upcycle_onnx::layout::{DATA_FILE, MODEL_FILE};
use upcycle_onnx::schema::{Message, Model, Tensor};
use upcycle_testkit::real_model;
use upcycle_text::{ChatTemplate, Message as Turn, Specials, Tokenizer};

fn options(weights: WeightType, block: usize) -> ExportOptions {
    let mut options = ExportOptions::default();
    (options.weights, options.block) = (weights, block);
    options
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_export_is_complete_and_keeps_tokenizer_and_template() -> Result<(), Box<dyn std::error::Error>> {
    let parent = tempfile::tempdir()?;
    let to = parent.path().join("below/exported");
    let mut seen = Vec::new();
    let result = export(&real_model(), &to, options(WeightType::Int4, 32), &mut |done, total| {
        seen.push((done, total));
    })?;
    assert_eq!(result.architecture, "llama");
    assert!(seen.is_sorted() && seen.last().is_some_and(|(done, total)| done == total), "{seen:?}");
    assert_eq!(names(&parent.path().join("below")), ["exported"], "no temporary files are left");
    let expected = [MODEL_FILE, DATA_FILE, "tokenizer.json", "tokenizer_config.json", "upcycle.toml"];
    assert_eq!(names(&to), expected);

    // Weights do not overlap in the data file, and each starts at a page.
    let model = Model::decode(&fs::read(to.join(MODEL_FILE))?[..])?;
    let bytes = fs::metadata(to.join(DATA_FILE))?.len();
    let graph = model.graph.ok_or("no graph")?;
    let number = |tensor: &Tensor, key: &str| -> u64 {
        let entry = tensor.external.iter().find(|entry| entry.key == key);
        entry.and_then(|entry| entry.value.parse().ok()).expect("a number")
    };
    let mut end = 0;
    for tensor in graph.initializers.iter().filter(|tensor| tensor.location == Tensor::EXTERNAL) {
        let (offset, length) = (number(tensor, "offset"), number(tensor, "length"));
        assert!(offset >= end && offset.is_multiple_of(4096), "{}", tensor.name);
        end = offset + length;
    }
    assert_eq!(end, bytes);

    let gguf = Gguf::open(real_model())?;
    let (source, exported) = (Tokenizer::from_gguf(&gguf)?, Tokenizer::from_file(to.join("tokenizer.json"))?);
    assert_eq!(source.fingerprint(), exported.fingerprint());
    assert_eq!(
        (source.bos(), source.add_bos(), source.eos_ids()),
        (exported.bos(), exported.add_bos(), exported.eos_ids())
    );
    let template = ChatTemplate::from_gguf(&gguf, source.template_tokens())?.ok_or("no template")?;
    let again = ChatTemplate::from_folder(&to, exported.template_tokens())?.ok_or("no template")?;
    for text in ["Hello", "  naïve café\n\n1234 <|im_end|> x", "def f(x):\n\treturn x\u{1f980}"] {
        let turns = [Turn::user(text)];
        assert_eq!(template.render(&turns, true)?, again.render(&turns, true)?);
        for specials in [Specials::Parse, Specials::Plain] {
            let tokens = source.encode(text, specials)?;
            assert_eq!(tokens, exported.encode(text, specials)?, "{text:?}");
            assert_eq!(source.decode(&tokens)?, exported.decode(&tokens)?);
        }
    }
    Ok(())
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let parent = tempfile::tempdir().expect("a folder");
    let to = parent.path().join("exported");
    let mut quiet = |_, _| ();
    for (block, weights) in [(0, WeightType::Int4), (24, WeightType::Int4), (512, WeightType::Int8)] {
        let error = export(&real_model(), &to, options(weights, block), &mut quiet).unwrap_err();
        assert!(matches!(error, ExportError::Option { option: "block", .. }), "{error}");
    }
    // 576 is not a multiple of 128.
    let error = export(&real_model(), &to, options(WeightType::Int8, 128), &mut quiet).unwrap_err();
    assert!(matches!(error, ExportError::Block { width: 576, block: 128, .. }), "{error}");
    assert!(names(parent.path()).is_empty(), "{:?}", names(parent.path()));

    fs::create_dir(&to).expect("to make");
    let error = export(&real_model(), &to, ExportOptions::default(), &mut quiet).unwrap_err();
    assert!(matches!(error, ExportError::Exists { .. }), "{error}");
    let error = export(&to.join("no.gguf"), &parent.path().join("x"), ExportOptions::default(), &mut quiet)
        .unwrap_err();
    assert!(matches!(error, ExportError::Checkpoint(CheckpointError::File { .. })), "{error}");
    assert_eq!(names(parent.path()), ["exported"]);
}
