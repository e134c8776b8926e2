//! Wraps an Optimum-style graph in the inputs and outputs of a tree-ready one.

use std::collections::BTreeMap;

use super::editor::{GraphEditor, input, int};
use super::optimum::{ATTENTION_MASK, OptimumInterface, past_name, present_name};
use crate::layout::{ATTN_BIAS, INPUT_IDS, KvPart, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS};
use crate::schema::{AttributeValue, Dim, Element, ValueInfo};

/// Values of the original graph whose names the layout uses otherwise: tokens `[1, rows]`, positions `[1, rows]`, and logits.
pub(super) const TOKENS: &str = "upcycle/tokens";
const POSITIONS: &str = "upcycle/positions";
const INNER_LOGITS: &str = "upcycle/logits";

/// Operators that compute each row by itself.
const PER_ROW: [&str; 7] = ["Cast", "Mul", "Div", "Add", "Tanh", "Identity", "Clip"];
/// Matrix products.
const MATMULS: [&str; 4] = ["MatMul", "Gemm", "MatMulNBits", "MatMulBnb4"];

/// Values of the graph that are computed from the inputs of the layout.
#[derive(Debug)]
pub(super) struct TreeInterface {
    interface: OptimumInterface,
    /// The number of rows of the pass and of the past, `[1]` each.
    rows: String,
    past: String,
    /// The mask in `f32`, `[1, 1, rows, past + rows]`.
    bias: String,
    half_bias: Option<String>,
    /// The size of a group, and the mask for the scores of grouped heads, `[group * rows, past + rows]`.
    grouped_bias: Option<(i64, String)>,
    /// The number of rows of past and pass, `[2]`.
    lengths: Option<String>,
    /// Tables of rotary embeddings, and the ones of twice the length that stand in for them.
    longer_tables: BTreeMap<String, String>,
    /// New rows of expanded layers, `[rows, kv_heads, head_dim]`.
    pub(super) new: BTreeMap<(usize, &'static str), String>,
}

impl TreeInterface {
    /// Frees the names of the layout, and computes mask and positions.
    pub(super) fn new(editor: &mut GraphEditor, interface: &OptimumInterface) -> Self {
        editor.rename_uses(INPUT_IDS, TOKENS);
        editor.rename_uses(POSITION_IDS, POSITIONS);
        editor.rename(LOGITS, INNER_LOGITS);
        let batch = editor.int64s(&[1, -1]);
        editor.node_to(("", "Reshape"), &[INPUT_IDS, &batch], &[TOKENS], &[]);
        editor.node_to(("", "Reshape"), &[POSITION_IDS, &batch], &[POSITIONS], &[]);
        let rows = editor.node("Shape", &[INPUT_IDS], &[]);
        let past = editor.node("Shape", &[PAST_BIAS], &[]);
        let ones = editor.int64s(&[1, 1]);
        let extent = editor.concat(&[&ones, &rows, &past], 0);
        let seen = editor.reshape(PAST_BIAS, &[1, 1, 1, -1]);
        let seen = editor.node("Expand", &[&seen, &extent], &[]);
        let extent = editor.concat(&[&ones, &rows, &rows], 0);
        let new = editor.node("Reshape", &[ATTN_BIAS, &extent], &[]);
        let bias = editor.concat(&[&seen, &new], 3);
        Self {
            interface: interface.clone(),
            rows,
            past,
            bias,
            half_bias: None,
            grouped_bias: None,
            lengths: None,
            longer_tables: BTreeMap::new(),
            new: BTreeMap::new(),
        }
    }

    /// The mask, `[1, 1, rows, past + rows]`.
    pub(super) fn bias(&mut self, editor: &mut GraphEditor, element: Element) -> String {
        if element == Element::Float {
            return self.bias.clone();
        }
        let half = self.half_bias.get_or_insert_with(|| editor.cast(&self.bias, Element::Float, element));
        half.clone()
    }

    /// Positions, `[1, rows]`.
    pub(super) fn positions(&self) -> &'static str {
        POSITIONS
    }

    /// A table of twice the length, `[2 * positions, width]`. Its second half is never read.
    pub(super) fn longer_table(&mut self, editor: &mut GraphEditor, table: &str) -> String {
        let longer = self.longer_tables.entry(table.to_owned());
        longer.or_insert_with(|| editor.concat(&[table, table], 0)).clone()
    }

    /// The number of rows of past and pass, `[2]`.
    pub(super) fn lengths(&mut self, editor: &mut GraphEditor) -> String {
        let lengths = self.lengths.get_or_insert_with(|| editor.concat(&[&self.past, &self.rows], 0));
        lengths.clone()
    }

    /// The mask `[group * rows, past + rows]` for scores `[kv_heads, group * rows, past + rows]`: each row's mask repeats for the
    /// heads of a group.
    pub(super) fn grouped_bias(&mut self, editor: &mut GraphEditor, group: i64) -> String {
        if let Some((_, bias)) = self.grouped_bias.as_ref().filter(|(known, _)| *known == group) {
            return bias.clone();
        }
        let repeats = editor.int64s(&[group, 1]);
        let new = editor.node("Tile", &[ATTN_BIAS, &repeats], &[]);
        let group_size = editor.int64s(&[group]);
        let height = editor.node("Mul", &[&self.rows, &group_size], &[]);
        let extent = editor.concat(&[&height, &self.past], 0);
        let past = editor.node("Expand", &[PAST_BIAS, &extent], &[]);
        let bias = editor.concat(&[&past, &new], 1);
        self.grouped_bias = Some((group, bias.clone()));
        bias
    }

    /// Computes the original inputs, and replaces inputs and outputs. With `all_rows`, the `attention_mask` counts the placeholder
    /// row too: fused operators count rows by it.
    pub(super) fn finish(mut self, editor: &mut GraphEditor, all_rows: bool) {
        self.attention_mask(editor, all_rows);
        self.caches(editor);
        self.logits(editor);
        let OptimumInterface { layers, kv_heads, head_dim, vocab, .. } = self.interface;
        let row = |rows| [Dim::Name(rows), Dim::Size(kv_heads), Dim::Size(head_dim)];
        let mut inputs: Vec<ValueInfo> = [INPUT_IDS, POSITION_IDS]
            .map(|name| ValueInfo::tensor(name, Element::Int64, &[Dim::Name("rows")]))
            .into_iter()
            .chain([ValueInfo::tensor(ATTN_BIAS, Element::Float, &[Dim::Name("rows"), Dim::Name("rows")])])
            .chain([ValueInfo::tensor(PAST_BIAS, Element::Float, &[Dim::Name("past")])])
            .chain([ValueInfo::tensor(OUTPUT_ROWS, Element::Int64, &[Dim::Name("outputs")])])
            .collect();
        let mut outputs =
            vec![ValueInfo::tensor(LOGITS, Element::Float, &[Dim::Name("outputs"), Dim::Size(vocab)])];
        for (layer, part) in (0..layers).flat_map(|layer| KvPart::ALL.map(|part| (layer, part))) {
            inputs.push(ValueInfo::tensor(&part.past_name(layer), Element::Float, &row("past")));
            outputs.push(ValueInfo::tensor(&part.new_name(layer), Element::Float, &row("rows")));
        }
        (editor.graph.inputs, editor.graph.outputs) = (inputs, outputs);
    }

    /// Computes `attention_mask`, int64 `[1, past + rows]`: 1 for rows that count.
    fn attention_mask(&self, editor: &mut GraphEditor, all_rows: bool) {
        if all_rows {
            let total = editor.node("Add", &[&self.past, &self.rows], &[]);
            let one = editor.int64s(&[1]);
            let shape = editor.concat(&[&one, &total], 0);
            editor.node_to(
                ("", "ConstantOfShape"),
                &[&shape],
                &[ATTENTION_MASK],
                &[("value", AttributeValue::Tensor(1))],
            );
            return;
        }
        let below = editor.scalar(-1.0);
        let masked = editor.node("Less", &[PAST_BIAS, &below], &[]);
        let counts = editor.node("Not", &[&masked], &[]);
        let counts = editor.node("Cast", &[&counts], &[("to", AttributeValue::Int(7))]);
        let new = editor.node("ConstantOfShape", &[&self.rows], &[("value", AttributeValue::Tensor(1))]);
        let all = editor.concat(&[&counts, &new], 0);
        let batch = editor.int64s(&[1, -1]);
        editor.node_to(("", "Reshape"), &[&all, &batch], &[ATTENTION_MASK], &[]);
    }

    /// Computes the original past inputs (head first), and the outputs with new rows.
    fn caches(&mut self, editor: &mut GraphEditor) {
        let OptimumInterface { layers, kv_heads, head_dim, cache, .. } = self.interface;
        let (kv_heads, head_dim) = (kv_heads as i64, head_dim as i64);
        for (layer, part) in (0..layers).flat_map(|layer| KvPart::ALL.map(|part| (layer, part))) {
            let past = past_name(part, layer);
            let rows = editor.cast(&part.past_name(layer), Element::Float, cache);
            let heads = editor.transpose(&rows, &[1, 0, 2]);
            let shape = editor.int64s(&[1, kv_heads, -1, head_dim]);
            editor.node_to(("", "Reshape"), &[&heads, &shape], &[&past], &[]);
            let new = match self.new.remove(&(layer, part.name())) {
                Some(new) => new,
                None => {
                    let new = self.new_rows(editor, (layer, part));
                    let rows = editor.transpose(&new, &[0, 2, 1, 3]);
                    editor.reshape(&rows, &[-1, kv_heads, head_dim])
                }
            };
            let to = i64::from(i32::from(Element::Float));
            editor.node_to(
                ("", "Cast"),
                &[&new],
                &[&part.new_name(layer)],
                &[("to", AttributeValue::Int(to))],
            );
        }
    }

    /// The new rows of a layer, `[1, kv_heads, rows, head_dim]`: what the graph concatenates to the past, or else the end of its output.
    fn new_rows(&self, editor: &mut GraphEditor, (layer, part): (usize, KvPart)) -> String {
        let present = present_name(part, layer);
        let joined = editor.producers().get(&*present).map(|&index| &editor.graph.nodes[index]);
        if let Some(join) = joined.filter(|node| node.operator == "Concat" && node.inputs.len() == 2) {
            let along_rows = matches!(int(join, "axis"), Some(2 | -2));
            if along_rows && join.inputs[0] == past_name(part, layer) {
                return join.inputs[1].clone();
            }
        }
        let end = editor.int64s(&[i64::MAX]);
        let axis = editor.int64s(&[2]);
        editor.node("Slice", &[&present, &self.past, &end, &axis], &[])
    }

    /// Computes the logits of the wanted rows, `[outputs, vocab]` in `f32`. If the head is a product with a constant, it only
    /// processes these rows.
    fn logits(&self, editor: &mut GraphEditor) {
        let wanted = [("axis", AttributeValue::Int(-2))];
        let rows = match self.head_input(editor) {
            Some((node, index)) => {
                let states = editor.graph.nodes[node].inputs[index].clone();
                let states = editor.node("Gather", &[&states, OUTPUT_ROWS], &wanted);
                editor.graph.nodes[node].inputs[index] = states;
                INNER_LOGITS.to_owned()
            }
            None => editor.node("Gather", &[INNER_LOGITS, OUTPUT_ROWS], &wanted),
        };
        let rows = editor.reshape(&rows, &[-1, self.interface.vocab as i64]);
        let to = i64::from(i32::from(Element::Float));
        editor.node_to(("", "Cast"), &[&rows], &[LOGITS], &[("to", AttributeValue::Int(to))]);
    }

    /// The matrix product of the head, and its input with hidden states. Nothing else may use the values between it and the logits.
    fn head_input(&self, editor: &GraphEditor) -> Option<(usize, usize)> {
        let producers = editor.producers();
        let mut name = INNER_LOGITS;
        loop {
            let uses = editor
                .graph
                .nodes
                .iter()
                .flat_map(|node| &node.inputs)
                .filter(|input| *input == name)
                .count();
            let index = *producers.get(name)?;
            let node = &editor.graph.nodes[index];
            if uses > usize::from(name != INNER_LOGITS) || node.outputs.len() != 1 {
                return None;
            }
            let variable: Vec<usize> = (0..node.inputs.len())
                .filter(|&input_index| {
                    let known =
                        |tensor: &str| editor.graph.initializers.iter().any(|known| known.name == tensor);
                    input(node, input_index).is_some_and(|input| {
                        let constant = producers.get(input).map(|&index| &editor.graph.nodes[index]);
                        !known(input) && constant.is_none_or(|node| node.operator != "Constant")
                    })
                })
                .collect();
            let [only] = variable[..] else { return None };
            if MATMULS.contains(&&*node.operator) && only == 0 {
                return Some((index, 0));
            }
            if !PER_ROW.contains(&&*node.operator) {
                return None;
            }
            name = &node.inputs[only];
        }
    }
}
