//! Graphs and folders that are refused. Each error says what was expected and what was found.

use std::fs;
use std::path::{Path, PathBuf};

use upcycle_onnx::export::WeightType;
use upcycle_onnx::layout::{DATA_FILE, MODEL_FILE};
use upcycle_onnx::schema::{Attribute, Dimension, Extent, Function, Message, Model as Onnx, Node};
use upcycle_ort::{GraphError, LibraryError, LoadError, Model, Options, Provider};

use crate::support::{Export, Folder, Tiny, chain, load, options};

fn exported() -> Folder {
    Tiny::default().export(WeightType::F32)
}

fn refusal(path: &Path) -> LoadError {
    match Model::load(path, &options()) {
        Ok(_) => panic!("the model was loaded"),
        Err(error) => {
            println!("{}", chain(&error));
            error
        }
    }
}

/// The error for the tiny model with a changed graph.
fn changed(change: impl FnOnce(&mut Onnx)) -> LoadError {
    let folder = exported();
    let path = folder.path.join(MODEL_FILE);
    let mut model = Onnx::decode(&fs::read(&path).expect("written")[..]).expect("a model");
    change(&mut model);
    fs::write(&path, model.encode_to_vec()).expect("to write");
    refusal(&folder.path)
}

fn graph_error(change: impl FnOnce(&mut Onnx)) -> GraphError {
    match changed(change) {
        LoadError::Graph { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

/// The first dimension of an input.
fn first_dimension(model: &mut Onnx, name: &str, size: i64) {
    let graph = model.graph.as_mut().expect("a graph");
    let input = graph.inputs.iter_mut().find(|input| input.name == name).expect("the input");
    let shape = input.kind.as_mut().and_then(|kind| kind.tensor.as_mut()?.shape.as_mut()).expect("a shape");
    shape.dims[0] = Dimension { extent: Some(Extent::Value(size)) };
}

#[test]
fn a_folder_and_its_graph_are_the_same_model() {
    let folder = exported();
    for path in [folder.path.clone(), folder.path.join(MODEL_FILE)] {
        let model = load(&path);
        assert_eq!((model.vocab(), model.max_context(), model.threads()), (96, 160, 2));
        assert_eq!(model.provider(), Provider::Cpu);
        assert!(model.engine().starts_with("ONNX Runtime") && model.engine().ends_with(", cpu"));
    }
}

#[test]
fn files_that_are_not_graphs_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("to write");
        path
    };
    assert!(matches!(refusal("no-such-folder".as_ref()), LoadError::File { .. }));
    assert!(matches!(refusal(folder.path()), LoadError::File { .. }));
    let gguf = refusal(&path("model.gguf", b"GGUF\x03\0\0\0"));
    assert!(matches!(gguf, LoadError::Gguf { .. }) && gguf.to_string().contains("upcycle export"));
    for bytes in [&b""[..], b"{}", b"no protobuf, but text", &[0xff; 64]] {
        assert!(matches!(refusal(&path("model.onnx", bytes)), LoadError::NotOnnx { .. }));
    }
    let whole = fs::read(exported().path.join(MODEL_FILE)).expect("written");
    for len in [1, whole.len() / 3, whole.len() - 1] {
        let error = refusal(&path("model.onnx", &whole[..len]));
        assert!(matches!(error, LoadError::NotOnnx { .. } | LoadError::Graph { .. }), "{len}: {error:?}");
    }
}

#[test]
fn a_protobuf_of_two_gibibytes_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(MODEL_FILE);
    // Sparse, so it takes no disk space.
    fs::File::create(&path).and_then(|file| file.set_len(1 << 31)).expect("to write");
    assert!(matches!(refusal(&path), LoadError::TooLarge { bytes: 2_147_483_648, .. }));
}

#[test]
fn weights_that_are_missing_or_cut_short_are_named_with_their_file() {
    let folder = exported();
    let data = folder.path.join(DATA_FILE);
    let len = fs::metadata(&data).expect("written").len();
    fs::File::options().write(true).open(&data).and_then(|file| file.set_len(len - 1)).expect("to cut");
    assert!(matches!(
        refusal(&folder.path),
        LoadError::ExternalData { found: Some(found), .. } if found == len - 1
    ));
    fs::remove_file(&data).expect("to remove");
    assert!(matches!(refusal(&folder.path), LoadError::ExternalData { found: None, .. }));
}

/// Otherwise a graph could read any file of the machine.
#[test]
fn weights_in_other_folders_are_refused() {
    for location in ["../secret", "/etc/hostname", "inner/../../secret"] {
        let error = changed(|model| {
            let weights = &mut model.graph.as_mut().expect("a graph").initializers;
            let tensor = weights.iter_mut().find(|tensor| !tensor.external.is_empty()).expect("outside");
            tensor.external[0].value = location.to_owned();
        });
        assert!(
            matches!(&error, LoadError::ExternalPath { location: found, .. } if found == Path::new(location))
        );
        // The same in the attribute of a node.
        let error = changed(|model| {
            let graph = model.graph.as_mut().expect("a graph");
            let outside = graph.initializers.iter().find(|tensor| !tensor.external.is_empty());
            let mut tensor = outside.expect("outside").clone();
            tensor.external[0].value = location.to_owned();
            let attribute = Attribute {
                name: "value".into(),
                kind: Attribute::TENSOR,
                tensor: Some(tensor),
                ..Attribute::default()
            };
            graph.nodes[0].attributes.push(attribute);
        });
        assert!(matches!(error, LoadError::ExternalPath { .. }));
    }
}

/// Thirty functions that each use the next one twice stand for a billion nodes, which would take all memory.
#[test]
fn functions_that_grow_without_bound_are_refused() {
    let function = |name: usize, nodes: Vec<Node>| {
        let (name, domain) = (format!("F{name}"), "local".to_owned());
        Function { name, nodes, domain }.encode_to_vec()
    };
    let uses =
        |name: usize| Node { operator: format!("F{name}"), domain: "local".to_owned(), ..Node::default() };
    let refused = |functions: Vec<Vec<u8>>| {
        let error = changed(|model| {
            model.functions = functions;
            model.graph.as_mut().expect("a graph").nodes.push(uses(0));
        });
        assert!(matches!(error, LoadError::Functions { .. }), "{error:?}");
    };
    refused((0..30).map(|at| function(at, vec![uses(at + 1), uses(at + 1)])).collect());
    refused(vec![function(0, vec![uses(1)]), function(1, vec![uses(0)])]);
    refused((0..100_000).map(|at| function(at, vec![uses(at + 1)])).collect());
}

#[test]
fn files_that_were_not_fetched_say_how_to_fetch_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(MODEL_FILE);
    for (bytes, hint) in
        [(&b"version https://git-lfs.github.com/spec/v1\n"[..], "git lfs"), (b"<html>", "resolve")]
    {
        fs::write(&path, bytes).expect("to write");
        assert!(refusal(&path).to_string().contains(hint));
    }
}

#[test]
fn a_graph_without_outputs_for_keys_and_values() {
    let error = graph_error(|model| model.graph.as_mut().expect("a graph").outputs.truncate(1));
    assert!(matches!(error, GraphError::NoCache { .. }));
    let error = graph_error(|model| {
        model.graph.as_mut().expect("a graph").outputs.pop();
    });
    assert!(matches!(error, GraphError::Missing { kind: "output", .. }));
}

#[test]
fn a_graph_with_other_names() {
    let error = graph_error(|model| model.graph.as_mut().expect("a graph").inputs[0].name = "tokens".into());
    assert!(matches!(&error, GraphError::Missing { kind: "input", name, .. } if name == "input_ids"));
    assert!(error.to_string().contains("`tokens`"));
    let error = graph_error(|model| {
        let graph = model.graph.as_mut().expect("a graph");
        let mut extra = graph.inputs[0].clone();
        extra.name = "beam".into();
        graph.inputs.push(extra);
    });
    assert!(matches!(&error, GraphError::Unknown { kind: "input", name, .. } if name == "beam"));
}

#[test]
fn a_graph_with_a_fixed_sequence_length() {
    for (input, size) in [("input_ids", 1), ("past.1.value", 128), ("attn_bias", 4)] {
        let error = graph_error(|model| first_dimension(model, input, size));
        assert!(matches!(&error, GraphError::Shape { name, .. } if name == input), "{error}");
        assert!(error.to_string().contains(&format!("[{size}")), "{error}");
    }
}

#[test]
fn metadata_that_are_missing_or_wrong() {
    for index in 0..2 {
        let error = graph_error(|model| drop(model.metadata.remove(index)));
        assert!(matches!(&error, GraphError::Metadata { found, .. } if found == "none"));
        let error = graph_error(|model| model.metadata[index].value = "0".into());
        assert!(matches!(&error, GraphError::Metadata { found, .. } if found == "`0`"));
    }
}

#[test]
fn a_newer_operator_set_is_refused_with_its_number() {
    let error = changed(|model| model.opsets[0].version = 999);
    assert!(
        matches!(&error, LoadError::Refused { opsets, .. } if opsets.contains("ai.onnx 999")),
        "{error:?}"
    );
}

#[test]
fn an_operator_that_the_runtime_lacks() {
    let error = changed(|model| model.graph.as_mut().expect("a graph").nodes[0].operator = "Abacus".into());
    assert!(matches!(&error, LoadError::Refused { reason, .. } if reason.contains("Abacus")), "{error:?}");
}

#[test]
fn an_absent_provider_is_an_error_and_never_skipped_silently() {
    let folder = exported();
    let mut wanted = Options { providers: vec![Provider::Cuda, Provider::Cpu], ..options() };
    if upcycle_ort::providers(None).is_ok_and(|providers| providers.contains(&Provider::Cuda)) {
        println!("skipped: this library has CUDA");
        return;
    }
    let error = Model::load(&folder.path, &wanted).unwrap_err();
    assert!(matches!(error, LoadError::ProviderAbsent { provider: "cuda", .. }), "{error}");
    wanted.fallback = true;
    let model = Model::load(&folder.path, &wanted).expect("the CPU is there");
    assert_eq!(model.provider(), Provider::Cpu);
}

#[test]
fn another_library_than_the_loaded_one_is_an_error() {
    let folder = exported();
    load(&folder.path);
    let wanted = Options { library: Some("other/libonnxruntime.so".into()), ..options() };
    let error = Model::load(&folder.path, &wanted).unwrap_err();
    assert!(matches!(error, LoadError::Library(LibraryError::Another { .. })), "{error}");
}

#[test]
fn a_model_runs_at_every_optimization_level_and_switch() {
    use upcycle_ort::GraphOptimization::{All, Basic, Disable, Extended};
    let folder = exported();
    for graph_optimization in [Disable, Basic, Extended, All] {
        let wanted = Options {
            graph_optimization,
            arena: graph_optimization == All,
            inter_threads: 2.try_into().ok(),
            profiling: (graph_optimization == Basic).then(|| folder.path.join("trace")),
            ..options()
        };
        let model = Model::load(&folder.path, &wanted).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let mut verifier = upcycle_ort::OrtVerifier::new(model);
        let agreement = upcycle_core::Verifier::open(&mut verifier);
        assert!(agreement.is_ok());
    }
    let traces = fs::read_dir(&folder.path).expect("the folder").flatten();
    let trace =
        traces.map(|entry| entry.file_name()).find(|name| name.to_string_lossy().starts_with("trace"));
    assert!(trace.is_some(), "the runtime wrote its trace");
}
