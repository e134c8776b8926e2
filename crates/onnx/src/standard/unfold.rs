//! `GroupQueryAttention` in plain operators, past and new rows apart.

use super::edit::{Edit, Value, float, input, int};
use super::fused::{Fused, Kind};
use super::wiring::Wiring;
use super::{Interface, past_name};
use crate::layout::Part;
use crate::schema::{Element, MICROSOFT};

/// Inputs of the operator.
const KEYS: usize = 1;
const PAST_VALUES: usize = 4;
const COSINES: usize = 7;
const SINES: usize = 8;
/// What it takes beyond the bias are things that are not written out here.
const PLAIN: usize = 11;

/// Attributes that are not written out here, unless they are zero.
const BEYOND: [&str; 3] = ["smooth_softmax", "qk_output", "kv_cache_bit_width"];

/// Writes the operator out, if it does no more than turn and attend in `f32`; whether it was done.
///
/// As in a graph of our own: scores over past and new rows are computed apart and joined before the softmax, so that the runtime
/// reads the past where it stands.
pub(super) fn unfold(edit: &mut Edit, wiring: &mut Wiring, interface: &Interface, site: &Fused) -> bool {
    let node = &edit.graph.nodes[site.node];
    let (Some(layer), Some(output)) = (site.layer, node.outputs.first().cloned()) else { return false };
    let heads = int(node, "num_heads").and_then(|heads| usize::try_from(heads).ok()).unwrap_or(0);
    let Interface { kv_heads, head, cache, .. } = *interface;
    let more = (PLAIN..node.inputs.len()).any(|place| input(node, place).is_some());
    let beyond = BEYOND.iter().any(|name| int(node, name).is_some_and(|value| value != 0))
        || float(node, "softcap").is_some_and(|cap| cap != 0.0)
        || node
            .attributes
            .iter()
            .any(|attribute| attribute.name.ends_with("_quant_type") && attribute.string != b"NONE");
    let own = input(node, PAST_VALUES) == Some(&past_name(Part::Value, layer));
    let grouped =
        heads > 0 && heads.is_multiple_of(kv_heads) && int(node, "kv_num_heads") == Some(kv_heads as i64);
    if site.kind != Kind::Grouped || cache != Element::Float || more || beyond || !own || !grouped {
        return false;
    }
    let turns = site.turns(edit);
    let node = edit.graph.nodes[site.node].clone();
    let tables = [COSINES, SINES].map(|place| input(&node, place).map(str::to_owned));
    let (cosines, sines) = match tables {
        [Some(cosines), Some(sines)] if turns => (cosines, sines),
        _ if !turns => Default::default(),
        _ => return false,
    };
    let scale = float(&node, "scale").filter(|&scale| scale != 0.0);
    let scale = scale.unwrap_or_else(|| 1.0 / (head as f32).sqrt());

    // `[1, rows, heads * head]` each.
    let widths = [heads * head, kv_heads * head, kv_heads * head].map(|width| width as i64);
    let [mut q, mut k, v] = if input(&node, KEYS).is_some() {
        [0, 1, 2].map(|place| node.inputs[place].clone())
    } else {
        let parts = edit.names();
        let sizes = edit.whole(&widths);
        let [q, k, v] = &parts;
        let last = [("axis", Value::Int(-1))];
        edit.node_to(("", "Split"), &[&node.inputs[0], &sizes], &[q, k, v], &last);
        parts
    };
    if turns {
        let interleaved = int(&node, "rotary_interleaved").unwrap_or(0);
        for (rows, heads) in [(&mut q, heads), (&mut k, kv_heads)] {
            let [turned] = edit.names();
            // Told by the width of the tables, unless a part of the head turns.
            let attributes =
                [("interleaved", Value::Int(interleaved)), ("num_heads", Value::Int(heads as i64))];
            let inputs = [&**rows, wiring.positions(), &cosines, &sines];
            edit.node_to((MICROSOFT, "RotaryEmbedding"), &inputs, &[&turned], &attributes);
            *rows = turned;
        }
    }

    let (group, kv_heads, head) = ((heads / kv_heads) as i64, kv_heads as i64, head as i64);
    let k = edit.reshape(&k, &[-1, kv_heads, head]);
    let v = edit.reshape(&v, &[-1, kv_heads, head]);
    wiring.new.insert((layer, Part::Key.name()), k.clone());
    wiring.new.insert((layer, Part::Value.name()), v.clone());
    // The heads that share keys go together: [kv_heads, group * rows, head].
    let q = edit.reshape(&q, &[-1, kv_heads, group, head]);
    let q = edit.transpose(&q, &[1, 2, 0, 3]);
    let q = edit.reshape(&q, &[kv_heads, -1, head]);
    let scale = edit.number(scale);
    let q = edit.node("Mul", &[&q, &scale], &[]);
    let bias = wiring.grouped_bias(edit, group);
    let scores = |edit: &mut Edit, keys: &str| {
        let columns = edit.transpose(keys, &[1, 2, 0]);
        edit.node("MatMul", &[&q, &columns], &[])
    };
    let past = scores(edit, &Part::Key.past_name(layer));
    let new = scores(edit, &k);
    let all = edit.concat(&[&past, &new], 2);
    let all = edit.node("Add", &[&all, &bias], &[]);
    let shares = edit.node("Softmax", &[&all], &[("axis", Value::Int(-1))]);
    let halves = edit.names();
    let [past, new] = &halves;
    let lengths = wiring.lengths(edit);
    edit.node_to(("", "Split"), &[&shares, &lengths], &[past, new], &[("axis", Value::Int(2))]);
    let mixed = |edit: &mut Edit, shares: &str, values: &str| {
        let rows = edit.transpose(values, &[1, 0, 2]);
        edit.node("MatMul", &[shares, &rows], &[])
    };
    let past = mixed(edit, past, &Part::Value.past_name(layer));
    let new = mixed(edit, new, &v);
    let all = edit.node("Add", &[&past, &new], &[]);
    let all = edit.reshape(&all, &[kv_heads, group, -1, head]);
    let all = edit.transpose(&all, &[2, 0, 1, 3]);
    let shape = edit.whole(&[1, -1, kv_heads * group * head]);
    edit.node_to(("", "Reshape"), &[&all, &shape], &[&output], &[]);
    // The operator makes nothing any more.
    edit.graph.nodes[site.node].outputs.clear();
    true
}
