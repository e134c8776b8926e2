//! Standard exports score what the original graphs do.

use std::fs;

use serde_json::Value;
use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, Support, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError,
};
use upcycle_onnx::layout::MODEL_FILE;
use upcycle_onnx::schema::{Attribute, Message, Model as Onnx};
use upcycle_ort::{Memory, OrtVerifier};

use super::{FLOAT, TREES, WINDOW, changed, copied, fixture, loaded};
use crate::support::{load, step, tree, verifier};

/// Tokens, and the logits after each of them, `[tokens, vocab]`, from the graph before the rewriting.
fn noted(name: &str) -> (Vec<u32>, Vec<Vec<f32>>) {
    let text = fs::read_to_string(fixture(name).join("expected.json")).expect("the logits");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let list = |key: &str| json[key].as_array().expect("a list").clone();
    let tokens = list("tokens").iter().map(|token| token.as_u64().expect("a token") as u32).collect();
    let row = |row: &Value| -> Vec<f32> {
        row.as_array().expect("a row").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
    };
    (tokens, list("logits").iter().map(row).collect())
}

/// The largest difference between two rows.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Scores a tree. Returns the logits of all rows.
fn score(verifier: &mut OrtVerifier, seq: SeqId, tree: &DraftTree) -> Result<Vec<Vec<f32>>, VerifyError> {
    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], &mut TopK::new(1))?;
    tree.nodes().map(|node| Ok(verifier.logits(Row { input: 0, node: node.index() })?.to_vec())).collect()
}

/// The logits after each token, scored in chunks of `chunk`.
fn read(verifier: &mut OrtVerifier, tokens: &[u32], chunk: usize) -> Result<Vec<Vec<f32>>, VerifyError> {
    let seq = verifier.open()?;
    let mut all = Vec::new();
    for part in tokens.chunks(chunk) {
        let tree = DraftTree::chain(part);
        all.extend(score(verifier, seq, &tree)?);
        let path: Vec<NodeId> = tree.nodes().collect();
        verifier.commit(&[Commit { seq, path: &path }])?;
    }
    verifier.close(seq);
    Ok(all)
}

#[test]
fn logits_are_those_of_the_original_graph() -> Result<(), VerifyError> {
    for (name, tolerance) in TREES {
        let (_folder, model) = loaded(name);
        let mut verifier = verifier(&model, Memory::Host);
        let (tokens, noted) = noted(name);
        for chunk in [tokens.len(), 1, 7] {
            let read = read(&mut verifier, &tokens, chunk)?;
            let worst = read.iter().zip(&noted).map(|(read, noted)| apart(read, noted)).fold(0.0, f32::max);
            println!("{name}, {chunk} at a time: {worst:.1e}");
            assert!(read.len() == noted.len() && worst <= tolerance, "{name}, {chunk}: {worst}");
        }
    }
    Ok(())
}

/// A tree of siblings with children, repeated tokens and a long branch.
fn bushy() -> DraftTree {
    let mut tree = DraftTree::new();
    tree.reset(11, TreeLimits::UNBOUNDED);
    let mut nodes = vec![NodeId::ROOT];
    for (parent, token) in
        [(0, 12), (0, 13), (0, 14), (1, 12), (1, 15), (2, 12), (5, 40), (6, 11), (8, 30), (4, 41)]
    {
        nodes.push(tree.push(nodes[parent], token, None).expect("there is room"));
    }
    tree
}

#[test]
fn a_row_of_a_tree_equals_its_path_token_by_token() -> Result<(), VerifyError> {
    let tree = bushy();
    for (name, tolerance) in TREES.into_iter().filter(|&(name, _)| name != WINDOW) {
        let (_folder, model) = loaded(name);
        let mut verifier = verifier(&model, Memory::Host);
        let prefix = &noted(name).0;
        let mut worst = 0.0_f32;
        // Without a prefix, too.
        for prefix in [&prefix[..], &[]] {
            let seq = verifier.open()?;
            if !prefix.is_empty() {
                let chain = DraftTree::chain(prefix);
                score(&mut verifier, seq, &chain)?;
                let path: Vec<NodeId> = chain.nodes().collect();
                verifier.commit(&[Commit { seq, path: &path }])?;
            }
            let rows = score(&mut verifier, seq, &tree)?;
            verifier.close(seq);
            for node in tree.nodes() {
                let mut path = vec![tree.tokens()[node.index()]];
                let mut at = node.index();
                while at > 0 {
                    at = tree.parents()[at] as usize;
                    path.insert(0, tree.tokens()[at]);
                }
                let whole: Vec<u32> = prefix.iter().copied().chain(path).collect();
                let alone = read(&mut verifier, &whole, 1)?;
                worst = worst.max(apart(&rows[node.index()], alone.last().expect("a row")));
            }
        }
        println!("{name}: {worst:.1e}");
        assert!(worst <= tolerance, "{name}: {worst}");
    }
    Ok(())
}

#[test]
fn a_window_in_plain_operators_leaves_only_chains_with_a_reason() -> Result<(), VerifyError> {
    let (_folder, model) = loaded(WINDOW);
    let mut verifier = verifier(&model, Memory::Host);
    let reason = verifier.limits().support.reason().expect("no trees").to_owned();
    assert!(matches!(verifier.limits().support, Support::Chain { .. }));
    assert!(reason.contains("Greater") && reason.contains("window"), "{reason}");
    let seq = verifier.open()?;
    let refused =
        verifier.forward(&[TreeInput { seq, tree: &bushy(), rows: RowSelection::All }], &mut TopK::new(1));
    assert!(refused.is_err());
    Ok(())
}

/// The same graph with another attribute of its attention.
fn with_attribute(name: &str, attribute: &Attribute) -> tempfile::TempDir {
    changed(name, |graph| {
        for node in graph.nodes.iter_mut().filter(|node| node.operator == "GroupQueryAttention") {
            node.attributes.retain(|other| other.name != attribute.name);
            node.attributes.push(attribute.clone());
        }
    })
}

#[test]
fn a_window_of_grouped_attention_leaves_only_chains_with_a_reason() -> Result<(), VerifyError> {
    let window =
        Attribute { name: "local_window_size".into(), int: 6, kind: Attribute::INT, ..Attribute::default() };
    let folder = with_attribute("genai-llama-fp32", &window);
    let mut verifier = verifier(&load(folder.path()), Memory::Host);
    let reason = verifier.limits().support.reason().expect("no trees").to_owned();
    assert!(reason.contains("last 6 rows") && reason.contains("GroupQueryAttention"), "{reason}");
    // It is a window: the row six back no longer counts, whatever the passes.
    let (tokens, noted) = noted("genai-llama-fp32");
    let rows = [tokens.len(), 1, 7].map(|chunk| read(&mut verifier, &tokens, chunk));
    let [whole, single, chunks] = rows;
    let (whole, single, chunks) = (whole?, single?, chunks?);
    for row in 0..tokens.len() {
        assert!(apart(&whole[row], &single[row]).max(apart(&whole[row], &chunks[row])) <= FLOAT, "row {row}");
        assert_eq!(apart(&whole[row], &noted[row]) <= FLOAT, row < 6, "row {row}");
    }
    Ok(())
}

/// An operator that gets the mask agrees with the same operator written out.
#[test]
fn a_kept_attention_operator_and_a_written_out_one_agree() -> Result<(), VerifyError> {
    let (_folder, out) = loaded("genai-llama-fp32");
    // So large that it changes nothing, but not zero, so that the operator is kept.
    let cap =
        Attribute { name: "softcap".into(), float: 1e6, kind: Attribute::FLOAT, ..Attribute::default() };
    let folder = with_attribute("genai-llama-fp32", &cap);
    let kept = load(folder.path());
    let operators = |folder: &std::path::Path| {
        let mut made = fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path());
        let made = made.find(|path| path.to_string_lossy().contains(".upcycle-")).expect("a graph");
        let model = Onnx::decode(&fs::read(made).expect("the graph")[..]).expect("a model");
        model
            .graph
            .expect("a graph")
            .nodes
            .iter()
            .filter(|node| node.operator == "GroupQueryAttention")
            .count()
    };
    assert_eq!((operators(_folder.path()), operators(folder.path())), (0, 2));
    let [mut out, mut kept] = [out, kept].map(|model| verifier(&model, Memory::Host));
    let (seq, other) = (out.open()?, kept.open()?);
    for round in 0..4 {
        let [a, b] = [score(&mut out, seq, &bushy())?, score(&mut kept, other, &bushy())?];
        let worst = a.iter().zip(&b).map(|(a, b)| apart(a, b)).fold(0.0, f32::max);
        assert!(worst <= FLOAT, "round {round}: {worst}");
        let path = [NodeId::ROOT, NodeId::new(2), NodeId::new(6), NodeId::new(8)];
        out.commit(&[Commit { seq, path: &path }])?;
        kept.commit(&[Commit { seq: other, path: &path }])?;
    }
    Ok(())
}

/// As for our own graphs: 16 n + 8 m + 4 n² for a pass, and 8 layers kv_heads head for an accepted row.
#[test]
fn copied_bytes_do_not_grow_with_the_context() -> Result<(), VerifyError> {
    for name in ["genai-llama-fp32", "genai-llama-dml-fp16", "optimum-llama"] {
        let (_folder, model) = loaded(name);
        let mut verifier = verifier(&model, Memory::Host);
        let seq = verifier.open()?;
        for context in [0, 100] {
            while verifier.committed(seq).is_some_and(|committed| committed < context) {
                let chain = DraftTree::chain(&[7; 10]);
                score(&mut verifier, seq, &chain)?;
                let path: Vec<NodeId> = chain.nodes().collect();
                verifier.commit(&[Commit { seq, path: &path }])?;
            }
            let before = verifier.copied_bytes();
            step(&mut verifier, seq, &tree())?;
            let (pass, row) = (16 * 5 + 8 * 5 + 4 * 25, 8 * 2 * 2 * 16);
            assert_eq!(verifier.copied_bytes() - before, pass + 3 * row, "{name}");
            verifier.truncate(seq, context)?;
        }
    }
    Ok(())
}

#[test]
fn a_folders_settings_name_its_graph() {
    let folder = copied("genai-llama-int4");
    fs::rename(folder.path().join(MODEL_FILE), folder.path().join("decoder.onnx")).expect("to rename");
    let settings = folder.path().join("genai_config.json");
    let text = fs::read_to_string(&settings).expect("settings").replace("model.onnx", "decoder.onnx");
    fs::write(&settings, text).expect("to write");
    let model = load(folder.path());
    assert_eq!((model.vocab(), model.max_context()), (48, 160));
}
