//! Expands `GroupQueryAttention` into plain operators over past and new rows apart.

use super::editor::{GraphEditor, float, input, int};
use super::fused_attention::{COSINES, FusedAttention, Operator, SINES};
use super::interface::TreeInterface;
use super::optimum::{OptimumInterface, past_name};
use crate::layout::KvPart;
use crate::schema::{AttributeValue, Element, MICROSOFT};

// Inputs of the operator.
const KEYS: usize = 1;
const PAST_VALUES: usize = 4;
/// The first input that the expansion does not support.
const UNSUPPORTED_INPUTS: usize = 11;

/// Attributes that the expansion supports only if they are zero.
const UNSUPPORTED_ATTRIBUTES: [&str; 3] = ["smooth_softmax", "qk_output", "kv_cache_bit_width"];

/// Expands the operator if it only attends and applies rotary embeddings, in `f32`. Returns whether it did.
///
/// As in our own graphs, scores over past and new rows are computed apart and concatenated before the softmax, so that the
/// runtime reads the past in place.
pub(super) fn expand(
    editor: &mut GraphEditor,
    tree: &mut TreeInterface,
    interface: &OptimumInterface,
    site: &FusedAttention,
) -> bool {
    let node = &editor.graph.nodes[site.node];
    let (Some(layer), Some(output)) = (site.layer, node.outputs.first().cloned()) else { return false };
    let heads = int(node, "num_heads").and_then(|heads| usize::try_from(heads).ok()).unwrap_or(0);
    let OptimumInterface { kv_heads, head_dim, cache, .. } = *interface;
    let more = (UNSUPPORTED_INPUTS..node.inputs.len()).any(|index| input(node, index).is_some());
    let unsupported =
        UNSUPPORTED_ATTRIBUTES.iter().any(|name| int(node, name).is_some_and(|value| value != 0))
            || float(node, "softcap").is_some_and(|cap| cap != 0.0)
            || node
                .attributes
                .iter()
                .any(|attribute| attribute.name.ends_with("_quant_type") && attribute.string != b"NONE");
    let own = input(node, PAST_VALUES) == Some(&past_name(KvPart::Value, layer));
    let grouped =
        heads > 0 && heads.is_multiple_of(kv_heads) && int(node, "kv_num_heads") == Some(kv_heads as i64);
    if site.operator != Operator::GroupQuery
        || cache != Element::Float
        || more
        || unsupported
        || !own
        || !grouped
    {
        return false;
    }
    let rotates = site.rotates(editor);
    let node = editor.graph.nodes[site.node].clone();
    let tables = [COSINES, SINES].map(|index| input(&node, index).map(str::to_owned));
    let (cosines, sines) = match tables {
        [Some(cosines), Some(sines)] if rotates => (cosines, sines),
        _ if !rotates => Default::default(),
        _ => return false,
    };
    let scale = float(&node, "scale").filter(|&scale| scale != 0.0);
    let scale = scale.unwrap_or_else(|| 1.0 / (head_dim as f32).sqrt());

    // `[1, rows, heads * head_dim]` each.
    let widths = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim].map(|width| width as i64);
    let [mut q, mut k, v] = if input(&node, KEYS).is_some() {
        [0, 1, 2].map(|index| node.inputs[index].clone())
    } else {
        let parts = editor.unique_names();
        let sizes = editor.int64s(&widths);
        let [q, k, v] = &parts;
        let last = [("axis", AttributeValue::Int(-1))];
        editor.node_to(("", "Split"), &[&node.inputs[0], &sizes], &[q, k, v], &last);
        parts
    };
    if rotates {
        let interleaved = int(&node, "rotary_interleaved").unwrap_or(0);
        for (rows, heads) in [(&mut q, heads), (&mut k, kv_heads)] {
            let [rotated] = editor.unique_names();
            // The width of the tables says how much of a head rotates.
            let attributes = [
                ("interleaved", AttributeValue::Int(interleaved)),
                ("num_heads", AttributeValue::Int(heads as i64)),
            ];
            let inputs = [&**rows, tree.positions(), &cosines, &sines];
            editor.node_to((MICROSOFT, "RotaryEmbedding"), &inputs, &[&rotated], &attributes);
            *rows = rotated;
        }
    }

    let (group, kv_heads, head_dim) = ((heads / kv_heads) as i64, kv_heads as i64, head_dim as i64);
    let k = editor.reshape(&k, &[-1, kv_heads, head_dim]);
    let v = editor.reshape(&v, &[-1, kv_heads, head_dim]);
    tree.new.insert((layer, KvPart::Key.name()), k.clone());
    tree.new.insert((layer, KvPart::Value.name()), v.clone());
    // Group the heads that share keys: [kv_heads, group * rows, head].
    let q = editor.reshape(&q, &[-1, kv_heads, group, head_dim]);
    let q = editor.transpose(&q, &[1, 2, 0, 3]);
    let q = editor.reshape(&q, &[kv_heads, -1, head_dim]);
    let scale = editor.scalar(scale);
    let q = editor.node("Mul", &[&q, &scale], &[]);
    let bias = tree.grouped_bias(editor, group);
    let scores = |editor: &mut GraphEditor, keys: &str| {
        let columns = editor.transpose(keys, &[1, 2, 0]);
        editor.node("MatMul", &[&q, &columns], &[])
    };
    let past = scores(editor, &KvPart::Key.past_name(layer));
    let new = scores(editor, &k);
    let all = editor.concat(&[&past, &new], 2);
    let all = editor.node("Add", &[&all, &bias], &[]);
    let weights = editor.node("Softmax", &[&all], &[("axis", AttributeValue::Int(-1))]);
    let halves = editor.unique_names();
    let [past, new] = &halves;
    let lengths = tree.lengths(editor);
    editor.node_to(("", "Split"), &[&weights, &lengths], &[past, new], &[("axis", AttributeValue::Int(2))]);
    let mixed = |editor: &mut GraphEditor, weights: &str, values: &str| {
        let rows = editor.transpose(values, &[1, 0, 2]);
        editor.node("MatMul", &[weights, &rows], &[])
    };
    let past = mixed(editor, past, &KvPart::Value.past_name(layer));
    let new = mixed(editor, new, &v);
    let all = editor.node("Add", &[&past, &new], &[]);
    let all = editor.reshape(&all, &[kv_heads, group, -1, head_dim]);
    let all = editor.transpose(&all, &[2, 0, 1, 3]);
    let shape = editor.int64s(&[1, -1, kv_heads * group * head_dim]);
    editor.node_to(("", "Reshape"), &[&all, &shape], &[&output], &[]);
    // Nothing uses the operator any more; `finish` drops it.
    editor.graph.nodes[site.node].outputs.clear();
    true
}
