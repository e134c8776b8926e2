//! The interface of a tree-ready graph around the inside of a standard export.

use std::collections::BTreeMap;

use super::edit::{Edit, Value, input, int};
use super::{ATTENTION_MASK, Interface, past_name, present_name};
use crate::layout::{ATTN_BIAS, INPUT_IDS, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS, Part};
use crate::schema::{Dimension, Element, Extent, Kind, Shape, TensorKind, ValueInfo};

/// What stands inside for inputs and an output whose names the layout takes: tokens `[1, rows]`, positions `[1, rows]`, and
/// logits as they come.
pub(super) const TOKENS: &str = "upcycle/tokens";
const POSITIONS: &str = "upcycle/positions";
const INNER_LOGITS: &str = "upcycle/logits";

/// The domain of operators that turn one row's hidden state into one row of logits, wherever the row stands.
const PER_ROW: [&str; 7] = ["Cast", "Mul", "Div", "Add", "Tanh", "Identity", "Clip"];
const PRODUCTS: [&str; 4] = ["MatMul", "Gemm", "MatMulNBits", "MatMulBnb4"];

/// Values that stand for inputs of the layout inside the graph.
#[derive(Debug)]
pub(super) struct Wiring {
    interface: Interface,
    /// How many rows the pass and the past have, `[1]` each.
    rows: String,
    past: String,
    /// The mask in `f32`, `[1, 1, rows, past + rows]`.
    bias: String,
    half_bias: Option<String>,
    /// The mask as scores of grouped heads take it, `[group * rows, past + rows]`, and how long past and pass are, `[2]`.
    grouped_bias: Option<(i64, String)>,
    lengths: Option<String>,
    /// New rows that were found on the way, `[rows, kv_heads, head]`.
    pub(super) new: BTreeMap<(usize, &'static str), String>,
}

impl Wiring {
    /// Frees the names of the layout, and makes mask and positions.
    pub(super) fn new(edit: &mut Edit, interface: &Interface) -> Self {
        edit.rename_uses(INPUT_IDS, TOKENS);
        edit.rename_uses(POSITION_IDS, POSITIONS);
        edit.rename(LOGITS, INNER_LOGITS);
        let batch = edit.whole(&[1, -1]);
        edit.node_to(("", "Reshape"), &[INPUT_IDS, &batch], &[TOKENS], &[]);
        edit.node_to(("", "Reshape"), &[POSITION_IDS, &batch], &[POSITIONS], &[]);
        let rows = edit.node("Shape", &[INPUT_IDS], &[]);
        let past = edit.node("Shape", &[PAST_BIAS], &[]);
        let ones = edit.whole(&[1, 1]);
        let extent = edit.concat(&[&ones, &rows, &past], 0);
        let seen = edit.reshape(PAST_BIAS, &[1, 1, 1, -1]);
        let seen = edit.node("Expand", &[&seen, &extent], &[]);
        let extent = edit.concat(&[&ones, &rows, &rows], 0);
        let new = edit.node("Reshape", &[ATTN_BIAS, &extent], &[]);
        let bias = edit.concat(&[&seen, &new], 3);
        Self {
            interface: interface.clone(),
            rows,
            past,
            bias,
            half_bias: None,
            grouped_bias: None,
            lengths: None,
            new: BTreeMap::new(),
        }
    }

    /// The mask, `[1, 1, rows, past + rows]`.
    pub(super) fn bias(&mut self, edit: &mut Edit, element: Element) -> String {
        if element == Element::Float {
            return self.bias.clone();
        }
        let half = self.half_bias.get_or_insert_with(|| edit.cast(&self.bias, Element::Float, element));
        half.clone()
    }

    /// Positions, `[1, rows]`.
    pub(super) fn positions(&self) -> &'static str {
        POSITIONS
    }

    /// How many rows past and pass have, `[2]`.
    pub(super) fn lengths(&mut self, edit: &mut Edit) -> String {
        let lengths = self.lengths.get_or_insert_with(|| edit.concat(&[&self.past, &self.rows], 0));
        lengths.clone()
    }

    /// The mask of scores `[kv_heads, group * rows, past + rows]`, `[group * rows, past + rows]`: that of a row is that of
    /// every head of its group.
    pub(super) fn grouped_bias(&mut self, edit: &mut Edit, group: i64) -> String {
        if let Some((_, bias)) = self.grouped_bias.as_ref().filter(|(known, _)| *known == group) {
            return bias.clone();
        }
        let repeats = edit.whole(&[group, 1]);
        let new = edit.node("Tile", &[ATTN_BIAS, &repeats], &[]);
        let group_size = edit.whole(&[group]);
        let height = edit.node("Mul", &[&self.rows, &group_size], &[]);
        let extent = edit.concat(&[&height, &self.past], 0);
        let past = edit.node("Expand", &[PAST_BIAS, &extent], &[]);
        let bias = edit.concat(&[&past, &new], 1);
        self.grouped_bias = Some((group, bias.clone()));
        bias
    }

    /// Makes what the inside takes, and the outputs. `counted` says that rows are counted by the `attention_mask`, which then
    /// has the row that stands in for an empty past as well.
    pub(super) fn finish(mut self, edit: &mut Edit, counted: bool) {
        self.attention_mask(edit, counted);
        self.caches(edit);
        self.logits(edit);
        let Interface { layers, kv_heads, head, vocab, .. } = self.interface;
        let row = |rows| [Err(rows), Ok(kv_heads), Ok(head)];
        let mut inputs: Vec<ValueInfo> = [INPUT_IDS, POSITION_IDS]
            .map(|name| info(name, Element::Int64, &[Err("rows")]))
            .into_iter()
            .chain([info(ATTN_BIAS, Element::Float, &[Err("rows"), Err("rows")])])
            .chain([info(PAST_BIAS, Element::Float, &[Err("past")])])
            .chain([info(OUTPUT_ROWS, Element::Int64, &[Err("outputs")])])
            .collect();
        let mut outputs = vec![info(LOGITS, Element::Float, &[Err("outputs"), Ok(vocab)])];
        for (layer, part) in (0..layers).flat_map(|layer| Part::ALL.map(|part| (layer, part))) {
            inputs.push(info(&part.past_name(layer), Element::Float, &row("past")));
            outputs.push(info(&part.new_name(layer), Element::Float, &row("rows")));
        }
        (edit.graph.inputs, edit.graph.outputs) = (inputs, outputs);
    }

    /// `attention_mask`, int64 `[1, past + rows]`: which columns count at all.
    fn attention_mask(&self, edit: &mut Edit, counted: bool) {
        if counted {
            let total = edit.node("Add", &[&self.past, &self.rows], &[]);
            let one = edit.whole(&[1]);
            let shape = edit.concat(&[&one, &total], 0);
            edit.node_to(("", "ConstantOfShape"), &[&shape], &[ATTENTION_MASK], &[("value", Value::One(1))]);
            return;
        }
        let below = edit.number(-1.0);
        let masked = edit.node("Less", &[PAST_BIAS, &below], &[]);
        let counts = edit.node("Not", &[&masked], &[]);
        let counts = edit.node("Cast", &[&counts], &[("to", Value::Int(7))]);
        let new = edit.node("ConstantOfShape", &[&self.rows], &[("value", Value::One(1))]);
        let all = edit.concat(&[&counts, &new], 0);
        let batch = edit.whole(&[1, -1]);
        edit.node_to(("", "Reshape"), &[&all, &batch], &[ATTENTION_MASK], &[]);
    }

    /// Keys and values as the inside takes them, head by head, and its new rows as the layout has them.
    fn caches(&mut self, edit: &mut Edit) {
        let Interface { layers, kv_heads, head, cache, .. } = self.interface;
        let (kv_heads, head) = (kv_heads as i64, head as i64);
        for (layer, part) in (0..layers).flat_map(|layer| Part::ALL.map(|part| (layer, part))) {
            let past = past_name(part, layer);
            let rows = edit.cast(&part.past_name(layer), Element::Float, cache);
            let heads = edit.transpose(&rows, &[1, 0, 2]);
            let shape = edit.whole(&[1, kv_heads, -1, head]);
            edit.node_to(("", "Reshape"), &[&heads, &shape], &[&past], &[]);
            let new = match self.new.remove(&(layer, part.name())) {
                Some(new) => new,
                None => {
                    let new = self.new_rows(edit, (layer, part));
                    let rows = edit.transpose(&new, &[0, 2, 1, 3]);
                    edit.reshape(&rows, &[-1, kv_heads, head])
                }
            };
            let to = i64::from(i32::from(Element::Float));
            edit.node_to(("", "Cast"), &[&new], &[&part.new_name(layer)], &[("to", Value::Int(to))]);
        }
    }

    /// New rows of a layer, `[1, kv_heads, rows, head]`: what the graph joins to the past, or the end of what it gives back.
    fn new_rows(&self, edit: &mut Edit, (layer, part): (usize, Part)) -> String {
        let present = present_name(part, layer);
        let joined = edit.producers().get(&*present).map(|&place| &edit.graph.nodes[place]);
        if let Some(join) = joined.filter(|node| node.operator == "Concat" && node.inputs.len() == 2) {
            let along_rows = matches!(int(join, "axis"), Some(2 | -2));
            if along_rows && join.inputs[0] == past_name(part, layer) {
                return join.inputs[1].clone();
            }
        }
        let end = edit.whole(&[i64::MAX]);
        let axis = edit.whole(&[2]);
        edit.node("Slice", &[&present, &self.past, &end, &axis], &[])
    }

    /// Logits of the rows that are wanted, `[outputs, vocab]` in `f32`. Where the head is a product with a constant, these rows
    /// alone pass it.
    fn logits(&self, edit: &mut Edit) {
        let wanted = [("axis", Value::Int(-2))];
        let rows = match self.head_input(edit) {
            Some((node, place)) => {
                let states = edit.graph.nodes[node].inputs[place].clone();
                let states = edit.node("Gather", &[&states, OUTPUT_ROWS], &wanted);
                edit.graph.nodes[node].inputs[place] = states;
                INNER_LOGITS.to_owned()
            }
            None => edit.node("Gather", &[INNER_LOGITS, OUTPUT_ROWS], &wanted),
        };
        let rows = edit.reshape(&rows, &[-1, self.interface.vocab as i64]);
        let to = i64::from(i32::from(Element::Float));
        edit.node_to(("", "Cast"), &[&rows], &[LOGITS], &[("to", Value::Int(to))]);
    }

    /// The product that makes logits, and which of its inputs are hidden states. Nobody else takes what stands between.
    fn head_input(&self, edit: &Edit) -> Option<(usize, usize)> {
        let producers = edit.producers();
        let mut name = INNER_LOGITS;
        loop {
            let uses =
                edit.graph.nodes.iter().flat_map(|node| &node.inputs).filter(|input| *input == name).count();
            let place = *producers.get(name)?;
            let node = &edit.graph.nodes[place];
            if uses > usize::from(name != INNER_LOGITS) || node.outputs.len() != 1 {
                return None;
            }
            let moving: Vec<usize> = (0..node.inputs.len())
                .filter(|&place| {
                    let known =
                        |tensor: &str| edit.graph.initializers.iter().any(|known| known.name == tensor);
                    input(node, place).is_some_and(|input| {
                        let constant = producers.get(input).map(|&place| &edit.graph.nodes[place]);
                        !known(input) && constant.is_none_or(|node| node.operator != "Constant")
                    })
                })
                .collect();
            let [only] = moving[..] else { return None };
            if PRODUCTS.contains(&&*node.operator) && only == 0 {
                return Some((place, 0));
            }
            if !PER_ROW.contains(&&*node.operator) {
                return None;
            }
            name = &node.inputs[only];
        }
    }
}

/// An input or output; a dimension is a size, or the name of one that differs from pass to pass.
fn info(name: &str, element: Element, dims: &[Result<usize, &str>]) -> ValueInfo {
    let dims = dims.iter().map(|dimension| Dimension {
        extent: Some(match *dimension {
            Ok(size) => Extent::Value(size as i64),
            Err(name) => Extent::Name(name.to_owned()),
        }),
    });
    let shape = Some(Shape { dims: dims.collect() });
    let tensor = Some(TensorKind { element: element.into(), shape });
    ValueInfo { name: name.to_owned(), kind: Some(Kind { tensor, ..Kind::default() }) }
}
