//! Standard exports that are refused. Each error says what was expected and what was found.

use std::fs;

use tempfile::TempDir;
use upcycle_onnx::layout::MODEL_FILE;
use upcycle_onnx::rewrite::RewriteError;
use upcycle_onnx::schema::{Dimension, Element, Extent, Graph, Message, Model as Onnx};
use upcycle_ort::{GraphError, LoadError, Model};

use super::{changed, copied};
use crate::support::{chain, options};

fn refusal(folder: &TempDir) -> LoadError {
    match Model::load(folder.path(), &options()) {
        Ok(_) => panic!("the model was loaded"),
        Err(error) => {
            println!("{}", chain(&error));
            error
        }
    }
}

fn graph_error(folder: &TempDir) -> GraphError {
    match refusal(folder) {
        LoadError::Graph { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

fn rewrite_error(name: &str, change: impl FnOnce(&mut Graph)) -> RewriteError {
    match graph_error(&changed(name, change)) {
        GraphError::Standard(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_export_without_keys_and_values() {
    let error = graph_error(&copied("optimum-llama-no-cache"));
    assert!(matches!(&error, GraphError::NoCache { found } if found == "`logits`"), "{error}");
    let error = graph_error(&changed("genai-llama-fp32", |graph| {
        graph.outputs.retain(|output| output.name != "present.1.value");
    }));
    let missing =
        matches!(&error, GraphError::Missing { kind: "output", name, .. } if name == "present.1.value");
    assert!(missing && error.to_string().contains("`present.0.key`"), "{error}");
}

#[test]
fn an_export_with_logits_of_only_the_last_row() {
    let error = graph_error(&copied("genai-llama-pruned"));
    assert!(matches!(&error, GraphError::Shape { name, .. } if name == "logits"), "{error}");
    assert!(error.to_string().contains("[any, 1, 48]"), "{error}");
}

#[test]
fn an_export_with_other_names() {
    let error = graph_error(&changed("optimum-llama", |graph| graph.inputs[0].name = "tokens".into()));
    assert!(
        matches!(&error, GraphError::Missing { kind: "input", name, .. } if name == "input_ids"),
        "{error}"
    );
    assert!(error.to_string().contains("`tokens`"), "{error}");
    let error = graph_error(&changed("optimum-llama", |graph| {
        let mut extra = graph.inputs[0].clone();
        extra.name = "use_cache_branch".into();
        graph.inputs.push(extra);
    }));
    assert!(
        matches!(&error, GraphError::Unknown { kind: "input", name, .. } if name == "use_cache_branch"),
        "{error}"
    );
}

#[test]
fn an_export_with_a_fixed_length() {
    for (name, place) in [("input_ids", 1), ("past_key_values.1.value", 2), ("attention_mask", 1)] {
        let error = graph_error(&changed("genai-llama-fp32", |graph| {
            let input = graph.inputs.iter_mut().find(|input| input.name == name).expect("the input");
            let shape =
                input.kind.as_mut().and_then(|kind| kind.tensor.as_mut()?.shape.as_mut()).expect("a shape");
            shape.dims[place] = Dimension { extent: Some(Extent::Value(32)) };
        }));
        assert!(matches!(&error, GraphError::Shape { name: found, .. } if found == name), "{error}");
        assert!(error.to_string().contains("32"), "{error}");
    }
}

#[test]
fn an_export_of_another_type() {
    let error = graph_error(&changed("genai-llama-fp32", |graph| {
        let input = graph.inputs.iter_mut().find(|input| input.name.ends_with("0.key")).expect("keys");
        input.kind.as_mut().and_then(|kind| kind.tensor.as_mut()).expect("a tensor").element =
            Element::Uint8.into();
    }));
    assert!(matches!(&error, GraphError::Element { found, .. } if found == "uint8"), "{error}");
}

#[test]
fn a_folder_that_does_not_state_the_longest_context() {
    for (name, file) in [("genai-llama-fp32", "genai_config.json"), ("optimum-llama", "config.json")] {
        let folder = copied(name);
        let path = folder.path().join(file);
        fs::write(&path, "{}").expect("to write");
        let error = graph_error(&folder);
        assert!(matches!(&error, GraphError::Unstated { found, .. } if found.contains(file)), "{error}");
        fs::write(&path, "{").expect("to write");
        assert!(matches!(refusal(&folder), LoadError::Settings { path: found, .. } if found == path));
        fs::remove_file(&path).expect("to remove");
        let error = graph_error(&folder);
        assert!(matches!(&error, GraphError::Unstated { found, .. } if found == "neither file"), "{error}");
    }
}

#[test]
fn an_export_without_its_weights() {
    let folder = copied("genai-llama-fp32");
    fs::remove_file(folder.path().join("model.onnx.data")).expect("to remove");
    assert!(matches!(refusal(&folder), LoadError::ExternalData { found: None, .. }));
    let left = fs::read_dir(folder.path()).expect("the folder").flatten();
    assert!(!left.map(|entry| entry.path()).any(|path| path.to_string_lossy().contains(".upcycle-")));
}

#[test]
fn an_export_of_a_newer_operator_set() {
    let folder = copied("optimum-qwen2");
    let path = folder.path().join(MODEL_FILE);
    let mut model = Onnx::decode(&fs::read(&path).expect("the graph")[..]).expect("a model");
    model.opsets[0].version = 999;
    fs::write(&path, model.encode_to_vec()).expect("to write");
    let error = refusal(&folder);
    assert!(matches!(&error, LoadError::Refused { opsets, .. } if opsets.contains("ai.onnx 999")), "{error}");
}

#[test]
fn a_graph_that_is_cut_short_anywhere() {
    let folder = copied("genai-llama-int4");
    let path = folder.path().join(MODEL_FILE);
    let whole = fs::read(&path).expect("the graph");
    for len in (1..whole.len()).step_by(whole.len() / 40) {
        fs::write(&path, &whole[..len]).expect("to write");
        let error = refusal(&folder);
        let typed = matches!(
            error,
            LoadError::NotOnnx { .. }
                | LoadError::Graph { .. }
                | LoadError::Refused { .. }
                | LoadError::ExternalData { .. }
        );
        assert!(typed, "{len}: {error:?}");
    }
}

#[test]
fn an_unknown_attention_operator() {
    let error = rewrite_error("genai-llama-fp32", |graph| {
        let mut nodes = graph.nodes.iter_mut();
        nodes.find(|node| node.operator == "GroupQueryAttention").expect("attention").operator =
            "PagedAttention".into();
    });
    assert!(
        matches!(&error, RewriteError::Operator { operator, .. } if operator == "PagedAttention"),
        "{error}"
    );
}

#[test]
fn positions_that_the_graph_counts_by_itself() {
    let error = rewrite_error("optimum-llama", |graph| {
        graph.inputs.retain(|input| input.name != "position_ids");
    });
    assert_eq!(error, RewriteError::Positions);
}

#[test]
fn a_mask_that_is_not_found_and_no_other_way_to_mask() {
    let error = rewrite_error("optimum-llama", |graph| {
        graph.inputs.retain(|input| input.name != "attention_mask");
        for node in graph.nodes.iter_mut().filter(|node| node.operator == "Softmax") {
            node.operator = "LogSoftmax".into();
        }
    });
    assert!(matches!(&error, RewriteError::NoMask { reason } if reason.contains("2 layers")), "{error}");
}
