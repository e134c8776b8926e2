//! The graph of a model of the llama family, and its weights.

use crate::layout::{ATTN_BIAS, INPUT_IDS, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS, Part};
use crate::schema::Element;
use upcycle_checkpoint::gguf::Hyperparameters;

use crate::export::ExportError;
use crate::export::architecture::{DIVISORS, angles, interleaved};
use crate::export::graph::Extents::{Name, Size};
use crate::export::graph::{Builder, Value};
use crate::export::linear::{Matrix, Writer};

/// The graph's dimensions that differ from pass to pass.
const ROWS: &str = "rows";
const PAST: &str = "past";
const OUTPUTS: &str = "outputs";

/// What all layers share.
struct Shared {
    /// Cosines and sines by position.
    cosines: String,
    sines: String,
    /// Positions, `[1, rows]`.
    positions: String,
    /// The bias of all scores, `[group * rows, past + rows]`.
    bias: String,
    /// The same in layers with a window.
    window_bias: Option<String>,
    /// How long past and pass are, `[2]`.
    lengths: String,
    /// What scores are multiplied with.
    scale: String,
}

/// Adds the whole model.
///
/// # Errors
/// A tensor is missing, of another shape, or left over; the weights cannot be written.
pub(crate) fn build(
    writer: &mut Writer,
    model: &Hyperparameters,
    done: &mut dyn FnMut(u64),
) -> Result<(), ExportError> {
    declare(writer, model);
    let shared = shared(writer, model)?;
    let embedding = [("token_embd.weight".to_owned(), model.vocab)];
    let embedding = Matrix { name: "embedding", parts: &embedding, width: model.width };
    let tied = writer.source.tied;
    let table = writer.dense(embedding)?;
    let mut stream = writer.graph.node("Gather", "stream", &[&table, INPUT_IDS], &[]);
    for layer in 0..model.layers {
        done(writer.data.len());
        stream = attention(writer, model, &shared, (layer, &stream))?;
        stream = feed_forward(writer, model, (layer, &stream))?;
    }
    let wanted = writer.graph.node("Gather", "wanted", &[&stream, OUTPUT_ROWS], &[]);
    let normal = norm(writer, model, ("output_norm", "output_norm.weight"), (&wanted, model.width))?;
    if tied && matches!(writer.options.weights, crate::export::Weights::F32 | crate::export::Weights::F16) {
        writer.gemm(LOGITS, &normal, &table);
    } else {
        let name = if tied { "token_embd.weight" } else { "output.weight" };
        let head = [(name.to_owned(), model.vocab)];
        let matrix = |name| Matrix { name, parts: &head, width: model.width };
        if matches!(writer.options.weights, crate::export::Weights::F32 | crate::export::Weights::F16) {
            writer.product(matrix(LOGITS), &normal)?;
        } else {
            let scores = writer.head(matrix("head"), &normal)?;
            let fault = fault(&mut writer.graph, &normal);
            writer.graph.node("Add", LOGITS, &[&scores, &fault], &[]);
        }
    }
    Ok(writer.source.check_all_read()?)
}

/// A column of zeros, `[n, 1]`, with a NaN for each row of `input` that has a number that is not finite. The operator for few
/// bits rounds activations to whole numbers and loses a NaN among them.
fn fault(graph: &mut Builder, input: &str) -> String {
    let zero = graph.scalar(0.0);
    let zeros = graph.node("Mul", "zeros", &[input, &zero], &[]);
    let axis = graph.whole(&[1]);
    graph.node("ReduceSum", "fault", &[&zeros, &axis], &[("keepdims", Value::Int(1))])
}

/// Inputs and outputs.
fn declare(writer: &mut Writer, model: &Hyperparameters) {
    let graph = &mut writer.graph;
    graph.input(INPUT_IDS, Element::Int64, &[Name(ROWS)]);
    graph.input(POSITION_IDS, Element::Int64, &[Name(ROWS)]);
    graph.input(ATTN_BIAS, Element::Float, &[Name(ROWS), Name(ROWS)]);
    graph.input(PAST_BIAS, Element::Float, &[Name(PAST)]);
    graph.input(OUTPUT_ROWS, Element::Int64, &[Name(OUTPUTS)]);
    graph.output(LOGITS, Element::Float, &[Name(OUTPUTS), Size(model.vocab)]);
    for layer in 0..model.layers {
        for part in Part::ALL {
            let row = [Size(model.kv_heads), Size(model.head)];
            graph.input(&part.past_name(layer), Element::Float, &[Name(PAST), row[0], row[1]]);
            graph.output(&part.new_name(layer), Element::Float, &[Name(ROWS), row[0], row[1]]);
        }
    }
}

fn shared(writer: &mut Writer, model: &Hyperparameters) -> Result<Shared, ExportError> {
    let pairs = model.rotated / 2;
    let divisors = match writer.source.has(DIVISORS) {
        true => Some(writer.source.vector(DIVISORS, pairs)?),
        false => None,
    };
    let [cosines, sines] = angles(model, divisors.as_deref())?;
    let table = [model.context, pairs];
    let cosines = writer.constant("cosines", &table, &cosines)?;
    let sines = writer.constant("sines", &table, &sines)?;

    let graph = &mut writer.graph;
    let positions = graph.reshape("positions", POSITION_IDS, &[1, -1]);
    // Scores come as [kv heads, group * rows, past + rows]: the bias of a row is that of every head of its group.
    let group = (model.heads / model.kv_heads) as i64;
    let repeats = graph.whole(&[group, 1]);
    let new = graph.node("Tile", "new_bias", &[ATTN_BIAS, &repeats], &[]);
    let past_length = graph.node("Shape", "past_length", &[PAST_BIAS], &[]);
    let rows = graph.node("Shape", "row_count", &[INPUT_IDS], &[]);
    let group = graph.whole(&[group]);
    let height = graph.node("Mul", "bias_height", &[&rows, &group], &[]);
    let axis = [("axis", Value::Int(0))];
    let extent = graph.node("Concat", "bias_shape", &[&height, &past_length], &axis);
    let past = graph.node("Expand", "past_bias_rows", &[PAST_BIAS, &extent], &[]);
    let bias = graph.node("Concat", "bias", &[&past, &new], &[("axis", Value::Int(1))]);
    let lengths = graph.node("Concat", "lengths", &[&past_length, &rows], &axis);
    let window = model.window.as_ref().map(|window| window.positions);
    let window_bias = window.map(|window| windowed(graph, window, (&bias, &past_length, &repeats)));
    let scale = graph.scalar(1.0 / (model.head as f32).sqrt());
    Ok(Shared { cosines, sines, positions, bias, window_bias, lengths, scale })
}

/// The bias of layers whose rows see `window` positions, themselves included. A committed row stands at its position in the
/// past; the one that stands in for none is hidden anyway.
fn windowed(graph: &mut Builder, window: usize, (bias, past_length, repeats): (&str, &str, &str)) -> String {
    let column = graph.reshape("position_column", POSITION_IDS, &[-1, 1]);
    let reach = graph.whole(&[window as i64 - 1]);
    let first = graph.node("Sub", "first_seen", &[&column, &reach], &[]);
    let first = graph.node("Tile", "first_seen_rows", &[&first, repeats], &[]);
    let past = graph.node("Squeeze", "past_count", &[past_length], &[]);
    let (zero, one) = (graph.index(0), graph.index(1));
    let past = graph.node("Range", "past_positions", &[&zero, &past, &one], &[]);
    let all = graph.node("Concat", "all_positions", &[&past, POSITION_IDS], &[("axis", Value::Int(0))]);
    let hidden = graph.node("Less", "left_window", &[&all, &first], &[]);
    let never = graph.scalar(f32::NEG_INFINITY);
    graph.node("Where", "window_bias", &[&hidden, &never, bias], &[])
}

/// RMS normalization of rows of `input`, whose last dimension is `len`, with the weights `weight`.
fn norm(
    writer: &mut Writer,
    model: &Hyperparameters,
    (name, weight): (&str, &str),
    (input, len): (&str, usize),
) -> Result<String, ExportError> {
    let weight = writer.vector(weight, len)?;
    let attributes = [("axis", Value::Int(-1)), ("epsilon", Value::Float(model.epsilon))];
    Ok(writer.graph.node("RMSNormalization", name, &[input, &weight], &attributes))
}

/// Normalization, queries, keys, values, attention, output product, residual.
fn attention(
    writer: &mut Writer,
    model: &Hyperparameters,
    shared: &Shared,
    (layer, stream): (usize, &str),
) -> Result<String, ExportError> {
    let at = |part: &str| format!("layer.{layer}.{part}");
    let tensor = |part: &str| format!("blk.{layer}.{part}.weight");
    let (kv_heads, head) = (model.kv_heads as i64, model.head as i64);
    let (queries, keys) = (model.heads * model.head, model.kv_heads * model.head);

    let normal = norm(writer, model, (&at("attn_norm"), &tensor("attn_norm")), (stream, model.width))?;
    let rows = [queries, keys, keys];
    let parts: Vec<_> = ["attn_q", "attn_k", "attn_v"].map(&tensor).into_iter().zip(rows).collect();
    let matrix = Matrix { name: &at("qkv"), parts: &parts, width: model.width };
    let mut all = writer.product(matrix, &normal)?;
    if writer.source.biased {
        let mut bias = Vec::new();
        for (part, len) in ["attn_q", "attn_k", "attn_v"].into_iter().zip(rows) {
            bias.extend(writer.source.vector(&format!("blk.{layer}.{part}.bias"), len)?);
        }
        let bias = writer.constant(&at("qkv.bias"), &[queries + 2 * keys], &bias)?;
        all = writer.graph.node("Add", &at("qkv.biased"), &[&all, &bias], &[]);
    }
    let sizes = writer.graph.whole(&rows.map(|rows| rows as i64));
    let [q, k, v] = ["q", "k", "v"].map(&at);
    writer.graph.nodes("Split", &at("split"), (&[&all, &sizes], &[&q, &k, &v]), &[("axis", Value::Int(1))]);
    let q = turned(writer, model, shared, (layer, "q", &q, model.heads))?;
    let k = turned(writer, model, shared, (layer, "k", &k, model.kv_heads))?;

    let graph = &mut writer.graph;
    let k = graph.reshape(&Part::Key.new_name(layer), &k, &[-1, kv_heads, head]);
    let v = graph.reshape(&Part::Value.new_name(layer), &v, &[-1, kv_heads, head]);
    // The heads that share keys go together: [kv heads, group * rows, head].
    let q = graph.reshape(&at("q.heads"), &q, &[-1, kv_heads, model.heads as i64 / kv_heads, head]);
    let q = graph.transpose(&at("q.groups"), &q, &[1, 2, 0, 3]);
    let q = graph.reshape(&at("q.rows"), &q, &[kv_heads, -1, head]);
    let q = graph.node("Mul", &at("q.scaled"), &[&q, &shared.scale], &[]);
    // Past and new apart. The runtime multiplies with the transposed view of the past, without a copy of it.
    let scores = |graph: &mut Builder, name: &str, keys: &str| {
        let columns = graph.transpose(&at(&format!("{name}.columns")), keys, &[1, 2, 0]);
        graph.node("MatMul", &at(&format!("{name}.scores")), &[&q, &columns], &[])
    };
    let past = scores(graph, "past", &Part::Key.past_name(layer));
    let new = scores(graph, "new", &k);
    let last = [("axis", Value::Int(2))];
    let all = graph.node("Concat", &at("scores"), &[&past, &new], &last);
    let bias = shared.window_bias.as_ref().filter(|_| model.window(layer).is_some());
    let all = graph.node("Add", &at("biased"), &[&all, bias.unwrap_or(&shared.bias)], &[]);
    let shares = graph.node("Softmax", &at("shares"), &[&all], &[("axis", Value::Int(-1))]);
    let [past, new] = ["past.shares", "new.shares"].map(&at);
    let halves: (&[&str], &[&str]) = (&[&shares, &shared.lengths], &[&past, &new]);
    graph.nodes("Split", &at("shares.split"), halves, &last);
    let mixed = |graph: &mut Builder, name: &str, shares: &str, values: &str| {
        let rows = graph.transpose(&at(&format!("{name}.values")), values, &[1, 0, 2]);
        graph.node("MatMul", &at(&format!("{name}.mixed")), &[shares, &rows], &[])
    };
    let past = mixed(graph, "past", &past, &Part::Value.past_name(layer));
    let new = mixed(graph, "new", &new, &v);
    let mixed = graph.node("Add", &at("mixed"), &[&past, &new], &[]);
    let mixed =
        graph.reshape(&at("mixed.groups"), &mixed, &[kv_heads, model.heads as i64 / kv_heads, -1, head]);
    let mixed = graph.transpose(&at("mixed.heads"), &mixed, &[2, 0, 1, 3]);
    let mixed = graph.reshape(&at("mixed.rows"), &mixed, &[-1, queries as i64]);

    let part = [(tensor("attn_output"), model.width)];
    let matrix = Matrix { name: &at("attn_output"), parts: &part, width: queries };
    let out = writer.product(matrix, &mixed)?;
    Ok(writer.graph.node("Add", &at("attended"), &[stream, &out], &[]))
}

/// Queries or keys, `[rows, heads * head]`, normalized where the model does that, and turned by their positions:
/// `[1, rows, heads * head]`.
fn turned(
    writer: &mut Writer,
    model: &Hyperparameters,
    shared: &Shared,
    (layer, which, input, heads): (usize, &str, &str, usize),
) -> Result<String, ExportError> {
    let at = |part: &str| format!("layer.{layer}.{which}.{part}");
    let weight = format!("blk.{layer}.attn_{which}_norm.weight");
    let mut input = input.to_owned();
    if model.architecture.normalizes_heads() {
        let rows = writer.graph.reshape(&at("each"), &input, &[-1, model.head as i64]);
        input = norm(writer, model, (&at("norm"), &weight), (&rows, model.head))?;
    }
    let rows = writer.graph.reshape(&at("batch"), &input, &[1, -1, (heads * model.head) as i64]);
    let mut attributes =
        vec![("num_heads", Value::Int(heads as i64)), ("interleaved", Value::Int(interleaved(model).into()))];
    if model.rotated < model.head {
        attributes.push(("rotary_embedding_dim", Value::Int(model.rotated as i64)));
    }
    let inputs: [&str; 4] = [&rows, &shared.cosines, &shared.sines, &shared.positions];
    Ok(writer.graph.node("RotaryEmbedding", &at("turned"), &inputs, &attributes))
}

/// Normalization, gates and ups, SwiGLU, down product, residual.
fn feed_forward(
    writer: &mut Writer,
    model: &Hyperparameters,
    (layer, stream): (usize, &str),
) -> Result<String, ExportError> {
    let at = |part: &str| format!("layer.{layer}.{part}");
    let tensor = |part: &str| format!("blk.{layer}.{part}.weight");
    let wide = model.feed_forward;
    let normal = norm(writer, model, (&at("ffn_norm"), &tensor("ffn_norm")), (stream, model.width))?;
    let parts = [(tensor("ffn_gate"), wide), (tensor("ffn_up"), wide)];
    let matrix = Matrix { name: &at("gate_up"), parts: &parts, width: model.width };
    let both = writer.product(matrix, &normal)?;
    let sizes = writer.graph.whole(&[wide as i64, wide as i64]);
    let [gate, up] = ["gate", "up"].map(&at);
    let axis = [("axis", Value::Int(1))];
    writer.graph.nodes("Split", &at("gate_up.split"), (&[&both, &sizes], &[&gate, &up]), &axis);
    let sigmoid = writer.graph.node("Sigmoid", &at("sigmoid"), &[&gate], &[]);
    let gate = writer.graph.node("Mul", &at("silu"), &[&gate, &sigmoid], &[]);
    let both = writer.graph.node("Mul", &at("gated"), &[&gate, &up], &[]);
    let part = [(tensor("ffn_down"), model.width)];
    let down = writer.product(Matrix { name: &at("down"), parts: &part, width: wide }, &both)?;
    Ok(writer.graph.node("Add", &at("stream"), &[stream, &down], &[]))
}
