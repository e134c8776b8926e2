//! What an export leaves behind: a whole folder, or nothing.

use std::fs;
use std::path::Path;

use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::Gguf;
use upcycle_onnx::export::{ExportError, Options, Weights, export};
use upcycle_onnx::layout::{DATA_FILE, MODEL_FILE};
use upcycle_onnx::schema::{Message, Model, Tensor};
use upcycle_testkit::real_model;
use upcycle_text::{ChatTemplate, Message as Turn, Specials, Tokenizer};

fn options(weights: Weights, block: usize) -> Options {
    let mut options = Options::default();
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
fn the_folder_is_whole_and_its_text_layer_is_the_models_own() -> Result<(), Box<dyn std::error::Error>> {
    let parent = tempfile::tempdir()?;
    let to = parent.path().join("below/exported");
    let mut seen = Vec::new();
    let exported =
        export(&real_model(), &to, options(Weights::Int4, 32), &mut |done, total| seen.push((done, total)))?;
    assert_eq!(exported.architecture, "llama");
    assert!(seen.is_sorted() && seen.last().is_some_and(|(done, total)| done == total), "{seen:?}");
    assert_eq!(names(&parent.path().join("below")), ["exported"], "nothing else is left");
    let expected = [MODEL_FILE, DATA_FILE, "tokenizer.json", "tokenizer_config.json", "upcycle.toml"];
    assert_eq!(names(&to), expected);

    // Every weight lies in the data file, apart from the others and at a page of its own.
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
    let (own, read) = (Tokenizer::from_gguf(&gguf)?, Tokenizer::from_file(to.join("tokenizer.json"))?);
    assert_eq!(own.fingerprint(), read.fingerprint());
    assert_eq!((own.bos(), own.add_bos(), own.eos_ids()), (read.bos(), read.add_bos(), read.eos_ids()));
    let template = ChatTemplate::from_gguf(&gguf)?.ok_or("no template")?;
    let again = ChatTemplate::from_folder(&to, read.template_tokens())?.ok_or("no template")?;
    for text in ["Hello", "  naïve café\n\n1234 <|im_end|> x", "def f(x):\n\treturn x\u{1f980}"] {
        let turns = [Turn::user(text)];
        assert_eq!(template.render(&turns, true)?, again.render(&turns, true)?);
        for specials in [Specials::Parse, Specials::Plain] {
            let tokens = own.encode(text, specials)?;
            assert_eq!(tokens, read.encode(text, specials)?, "{text:?}");
            assert_eq!(own.decode(&tokens)?, read.decode(&tokens)?);
        }
    }
    Ok(())
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let parent = tempfile::tempdir().expect("a folder");
    let to = parent.path().join("exported");
    let mut quiet = |_, _| ();
    for (block, weights) in [(0, Weights::Int4), (24, Weights::Int4), (512, Weights::Int8)] {
        let error = export(&real_model(), &to, options(weights, block), &mut quiet).unwrap_err();
        assert!(matches!(error, ExportError::Option { option: "block", .. }), "{error}");
    }
    // 576 is no multiple of 128.
    let error = export(&real_model(), &to, options(Weights::Int8, 128), &mut quiet).unwrap_err();
    assert!(matches!(error, ExportError::Block { width: 576, block: 128, .. }), "{error}");
    assert!(names(parent.path()).is_empty(), "{:?}", names(parent.path()));

    fs::create_dir(&to).expect("to make");
    let error = export(&real_model(), &to, Options::default(), &mut quiet).unwrap_err();
    assert!(matches!(error, ExportError::Exists { .. }), "{error}");
    let error =
        export(&to.join("no.gguf"), &parent.path().join("x"), Options::default(), &mut quiet).unwrap_err();
    assert!(matches!(error, ExportError::Checkpoint(CheckpointError::File { .. })), "{error}");
    assert_eq!(names(parent.path()), ["exported"]);
}
