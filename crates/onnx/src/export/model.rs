//! Builds the graph of a model of the Llama family.

use upcycle_checkpoint::Hyperparameters;

use super::error::ExportError;
use super::graph_builder::GraphBuilder;
use super::options::WeightType;
use super::rotary::{self, DIVISORS, interleaved};
use super::writer::{Matrix, TensorRows, Writer};
use crate::layout::{ATTN_BIAS, INPUT_IDS, KvPart, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS};
use crate::schema::Dim::{Name, Size};
use crate::schema::{AttributeValue, Element};

// Dimensions that differ from pass to pass.
const ROWS: &str = "rows";
const PAST: &str = "past";
const OUTPUTS: &str = "outputs";

/// Values that all layers use.
struct Shared {
    /// Cosines and sines, `[context, pairs]`.
    cosines: String,
    sines: String,
    /// Positions, `[1, rows]`.
    positions: String,
    /// The mask of grouped heads, `[group * rows, past + rows]`.
    bias: String,
    /// The mask of layers with a sliding window.
    window_bias: Option<String>,
    /// The number of rows of past and pass, `[2]`.
    lengths: String,
    /// The factor of attention scores.
    scale: String,
}

/// Builds the whole graph. Calls `done` with the bytes of weights written.
///
/// # Errors
/// A tensor is missing, has another shape or is unused, or the weights cannot be written.
pub(crate) fn build(
    writer: &mut Writer,
    model: &Hyperparameters,
    done: &mut dyn FnMut(u64),
) -> Result<(), ExportError> {
    declare(writer, model);
    let shared = shared(writer, model)?;
    let embedding = [TensorRows { tensor: "token_embd.weight".to_owned(), rows: model.vocab }];
    let embedding = Matrix { name: "embedding", parts: &embedding, width: model.hidden_size };
    let tied = writer.tensors.tied;
    let table = writer.write_dense(embedding)?;
    let mut stream = writer.graph.node("Gather", "stream", &[&table, INPUT_IDS], &[]);
    for layer in 0..model.layers {
        done(writer.data.len());
        stream = attention(writer, model, &shared, layer, &stream)?;
        stream = feed_forward(writer, model, layer, &stream)?;
    }
    let wanted = writer.graph.node("Gather", "wanted", &[&stream, OUTPUT_ROWS], &[]);
    let normal = norm(
        writer,
        model,
        &Norm { name: "output_norm", weight: "output_norm.weight", input: &wanted, len: model.hidden_size },
    )?;
    let unquantized = matches!(writer.options.weights, WeightType::F32 | WeightType::F16);
    if tied && unquantized {
        writer.gemm(LOGITS, &normal, &table);
    } else {
        let name = if tied { "token_embd.weight" } else { "output.weight" };
        let head = [TensorRows { tensor: name.to_owned(), rows: model.vocab }];
        let matrix = |name| Matrix { name, parts: &head, width: model.hidden_size };
        if unquantized {
            writer.write_matmul(matrix(LOGITS), &normal)?;
        } else {
            let scores = writer.write_lm_head(matrix("head"), &normal)?;
            let nan = nan_rows(&mut writer.graph, &normal);
            writer.graph.node("Add", LOGITS, &[&scores, &nan], &[]);
        }
    }
    Ok(writer.tensors.check_all_read()?)
}

/// A column `[n, 1]` with NaN for each row of `input` that is not finite, and 0 for the others. `MatMulNBits` rounds activations to
/// integers and turns a NaN into a finite value, so it must be added to the logits.
fn nan_rows(graph: &mut GraphBuilder, input: &str) -> String {
    let zero = graph.scalar(0.0);
    let zeros = graph.node("Mul", "zeros", &[input, &zero], &[]);
    let axis = graph.int64s(&[1]);
    graph.node("ReduceSum", "nan_rows", &[&zeros, &axis], &[("keepdims", AttributeValue::Int(1))])
}

/// Declares inputs and outputs.
fn declare(writer: &mut Writer, model: &Hyperparameters) {
    let graph = &mut writer.graph;
    graph.input(INPUT_IDS, Element::Int64, &[Name(ROWS)]);
    graph.input(POSITION_IDS, Element::Int64, &[Name(ROWS)]);
    graph.input(ATTN_BIAS, Element::Float, &[Name(ROWS), Name(ROWS)]);
    graph.input(PAST_BIAS, Element::Float, &[Name(PAST)]);
    graph.input(OUTPUT_ROWS, Element::Int64, &[Name(OUTPUTS)]);
    graph.output(LOGITS, Element::Float, &[Name(OUTPUTS), Size(model.vocab)]);
    for layer in 0..model.layers {
        for part in KvPart::ALL {
            let row = [Size(model.kv_heads), Size(model.head_dim)];
            graph.input(&part.past_name(layer), Element::Float, &[Name(PAST), row[0], row[1]]);
            graph.output(&part.new_name(layer), Element::Float, &[Name(ROWS), row[0], row[1]]);
        }
    }
}

fn shared(writer: &mut Writer, model: &Hyperparameters) -> Result<Shared, ExportError> {
    let pairs = model.rotary_dim / 2;
    let divisors = match writer.tensors.has(DIVISORS) {
        true => Some(writer.tensors.vector(DIVISORS, pairs)?),
        false => None,
    };
    let [cosines, sines] = rotary::tables(model, divisors.as_deref())?;
    let table = [model.context, pairs];
    let cosines = writer.constant("cosines", &table, &cosines)?;
    let sines = writer.constant("sines", &table, &sines)?;

    let graph = &mut writer.graph;
    let positions = graph.reshape("positions", POSITION_IDS, &[1, -1]);
    // Scores are [kv_heads, group * rows, past + rows]: each row's mask repeats for the heads of a group.
    let group = (model.heads / model.kv_heads) as i64;
    let repeats = graph.int64s(&[group, 1]);
    let new = graph.node("Tile", "new_bias", &[ATTN_BIAS, &repeats], &[]);
    let past_length = graph.node("Shape", "past_length", &[PAST_BIAS], &[]);
    let rows = graph.node("Shape", "row_count", &[INPUT_IDS], &[]);
    let group = graph.int64s(&[group]);
    let height = graph.node("Mul", "bias_height", &[&rows, &group], &[]);
    let axis = [("axis", AttributeValue::Int(0))];
    let extent = graph.node("Concat", "bias_shape", &[&height, &past_length], &axis);
    let past = graph.node("Expand", "past_bias_rows", &[PAST_BIAS, &extent], &[]);
    let bias = graph.node("Concat", "bias", &[&past, &new], &[("axis", AttributeValue::Int(1))]);
    let lengths = graph.node("Concat", "lengths", &[&past_length, &rows], &axis);
    let window = model.window.as_ref().map(|window| window.positions);
    let window_bias = window.map(|window| {
        let hidden = outside_window(graph, window, &past_length, &repeats);
        let never = graph.scalar(f32::NEG_INFINITY);
        graph.node("Where", "window_bias", &[&hidden, &never, &bias], &[])
    });
    let scale = graph.scalar(1.0 / (model.head_dim as f32).sqrt());
    Ok(Shared { cosines, sines, positions, bias, window_bias, lengths, scale })
}

/// Whether a column is out of reach of a row that sees `window` positions, itself included: `[group * rows, past + rows]`. The
/// index of a committed row in the past is its position. (The placeholder row is masked anyway.)
fn outside_window(graph: &mut GraphBuilder, window: usize, past_length: &str, repeats: &str) -> String {
    let column = graph.reshape("position_column", POSITION_IDS, &[-1, 1]);
    let reach = graph.int64s(&[window as i64 - 1]);
    let first = graph.node("Sub", "first_seen", &[&column, &reach], &[]);
    let first = graph.node("Tile", "first_seen_rows", &[&first, repeats], &[]);
    let past = graph.node("Squeeze", "past_count", &[past_length], &[]);
    let (zero, one) = (graph.int64(0), graph.int64(1));
    let past = graph.node("Range", "past_positions", &[&zero, &past, &one], &[]);
    let all =
        graph.node("Concat", "all_positions", &[&past, POSITION_IDS], &[("axis", AttributeValue::Int(0))]);
    graph.node("Less", "outside_window", &[&all, &first], &[])
}

/// An RMS normalization of rows of `input`, `[.., len]`, with the weights of the tensor `weight`.
struct Norm<'a> {
    name: &'a str,
    weight: &'a str,
    input: &'a str,
    len: usize,
}

fn norm(writer: &mut Writer, model: &Hyperparameters, norm: &Norm<'_>) -> Result<String, ExportError> {
    let &Norm { name, weight, input, len } = norm;
    let weight = writer.vector(weight, len)?;
    let attributes = [("axis", AttributeValue::Int(-1)), ("epsilon", AttributeValue::Float(model.epsilon))];
    Ok(writer.graph.node("RMSNormalization", name, &[input, &weight], &attributes))
}

/// The attention block of a layer with its normalization and residual.
fn attention(
    writer: &mut Writer,
    model: &Hyperparameters,
    shared: &Shared,
    layer: usize,
    stream: &str,
) -> Result<String, ExportError> {
    let at = |part: &str| format!("layer.{layer}.{part}");
    let tensor = |part: &str| format!("blk.{layer}.{part}.weight");
    let (kv_heads, head_dim) = (model.kv_heads as i64, model.head_dim as i64);
    let (queries, keys) = (model.heads * model.head_dim, model.kv_heads * model.head_dim);

    let normal = norm(
        writer,
        model,
        &Norm { name: &at("attn_norm"), weight: &tensor("attn_norm"), input: stream, len: model.hidden_size },
    )?;
    let rows = [queries, keys, keys];
    let parts = [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)];
    let parts = parts.map(|(part, rows)| TensorRows { tensor: tensor(part), rows });
    let matrix = Matrix { name: &at("qkv"), parts: &parts, width: model.hidden_size };
    let mut all = writer.write_matmul(matrix, &normal)?;
    if writer.tensors.biased {
        let mut bias = Vec::new();
        for (part, len) in ["attn_q", "attn_k", "attn_v"].into_iter().zip(rows) {
            bias.extend(writer.tensors.vector(&format!("blk.{layer}.{part}.bias"), len)?);
        }
        let bias = writer.constant(&at("qkv.bias"), &[queries + 2 * keys], &bias)?;
        all = writer.graph.node("Add", &at("qkv.biased"), &[&all, &bias], &[]);
    }
    let sizes = writer.graph.int64s(&rows.map(|rows| rows as i64));
    let [q, k, v] = ["q", "k", "v"].map(&at);
    let axis = [("axis", AttributeValue::Int(1))];
    writer.graph.node_to("Split", &at("split"), &[&all, &sizes], &[&q, &k, &v], &axis);
    let q = rotate(writer, model, shared, Projection { layer, which: "q", input: &q, heads: model.heads })?;
    let k =
        rotate(writer, model, shared, Projection { layer, which: "k", input: &k, heads: model.kv_heads })?;

    let graph = &mut writer.graph;
    let k = graph.reshape(&KvPart::Key.new_name(layer), &k, &[-1, kv_heads, head_dim]);
    let v = graph.reshape(&KvPart::Value.new_name(layer), &v, &[-1, kv_heads, head_dim]);
    // Group the heads that share keys: [kv_heads, group * rows, head_dim].
    let q = graph.reshape(&at("q.heads"), &q, &[-1, kv_heads, model.heads as i64 / kv_heads, head_dim]);
    let q = graph.transpose(&at("q.groups"), &q, &[1, 2, 0, 3]);
    let q = graph.reshape(&at("q.rows"), &q, &[kv_heads, -1, head_dim]);
    let q = graph.node("Mul", &at("q.scaled"), &[&q, &shared.scale], &[]);
    // Past and new rows apart: the runtime multiplies with a transposed view of the past, without a copy.
    let scores = |graph: &mut GraphBuilder, name: &str, keys: &str| {
        let columns = graph.transpose(&at(&format!("{name}.columns")), keys, &[1, 2, 0]);
        graph.node("MatMul", &at(&format!("{name}.scores")), &[&q, &columns], &[])
    };
    let past = scores(graph, "past", &KvPart::Key.past_name(layer));
    let new = scores(graph, "new", &k);
    let last = [("axis", AttributeValue::Int(2))];
    let all = graph.node("Concat", &at("scores"), &[&past, &new], &last);
    let bias = shared.window_bias.as_ref().filter(|_| model.window(layer).is_some());
    let all = graph.node("Add", &at("biased"), &[&all, bias.unwrap_or(&shared.bias)], &[]);
    let weights = graph.node("Softmax", &at("weights"), &[&all], &[("axis", AttributeValue::Int(-1))]);
    let [past, new] = ["past.weights", "new.weights"].map(&at);
    graph.node_to("Split", &at("weights.split"), &[&weights, &shared.lengths], &[&past, &new], &last);
    let mixed = |graph: &mut GraphBuilder, name: &str, weights: &str, values: &str| {
        let rows = graph.transpose(&at(&format!("{name}.values")), values, &[1, 0, 2]);
        graph.node("MatMul", &at(&format!("{name}.mixed")), &[weights, &rows], &[])
    };
    let past = mixed(graph, "past", &past, &KvPart::Value.past_name(layer));
    let new = mixed(graph, "new", &new, &v);
    let mixed = graph.node("Add", &at("mixed"), &[&past, &new], &[]);
    let mixed =
        graph.reshape(&at("mixed.groups"), &mixed, &[kv_heads, model.heads as i64 / kv_heads, -1, head_dim]);
    let mixed = graph.transpose(&at("mixed.heads"), &mixed, &[2, 0, 1, 3]);
    let mixed = graph.reshape(&at("mixed.rows"), &mixed, &[-1, queries as i64]);

    let part = [TensorRows { tensor: tensor("attn_output"), rows: model.hidden_size }];
    let matrix = Matrix { name: &at("attn_output"), parts: &part, width: queries };
    let out = writer.write_matmul(matrix, &mixed)?;
    Ok(writer.graph.node("Add", &at("attended"), &[stream, &out], &[]))
}

/// The queries (`q`) or keys (`k`) of a layer, `[rows, heads * head_dim]`.
#[derive(Clone, Copy)]
struct Projection<'a> {
    layer: usize,
    which: &'static str,
    input: &'a str,
    heads: usize,
}

/// Normalizes queries or keys, `[rows, heads * head_dim]`, if the model does that, and applies rotary embeddings:
/// `[1, rows, heads * head_dim]`.
fn rotate(
    writer: &mut Writer,
    model: &Hyperparameters,
    shared: &Shared,
    projection: Projection<'_>,
) -> Result<String, ExportError> {
    let Projection { layer, which, input, heads } = projection;
    let at = |part: &str| format!("layer.{layer}.{which}.{part}");
    let weight = format!("blk.{layer}.attn_{which}_norm.weight");
    let mut input = input.to_owned();
    if model.architecture.normalizes_heads() {
        let rows = writer.graph.reshape(&at("each"), &input, &[-1, model.head_dim as i64]);
        input = norm(
            writer,
            model,
            &Norm { name: &at("norm"), weight: &weight, input: &rows, len: model.head_dim },
        )?;
    }
    let rows = writer.graph.reshape(&at("batch"), &input, &[1, -1, (heads * model.head_dim) as i64]);
    let mut attributes = vec![
        ("num_heads", AttributeValue::Int(heads as i64)),
        ("interleaved", AttributeValue::Int(interleaved(model).into())),
    ];
    if model.rotary_dim < model.head_dim {
        attributes.push(("rotary_embedding_dim", AttributeValue::Int(model.rotary_dim as i64)));
    }
    let inputs: [&str; 4] = [&rows, &shared.cosines, &shared.sines, &shared.positions];
    Ok(writer.graph.node("RotaryEmbedding", &at("rotated"), &inputs, &attributes))
}

/// The feed-forward block of a layer (SwiGLU) with its normalization and residual.
fn feed_forward(
    writer: &mut Writer,
    model: &Hyperparameters,
    layer: usize,
    stream: &str,
) -> Result<String, ExportError> {
    let at = |part: &str| format!("layer.{layer}.{part}");
    let tensor = |part: &str| format!("blk.{layer}.{part}.weight");
    let wide = model.feed_forward;
    let normal = norm(
        writer,
        model,
        &Norm { name: &at("ffn_norm"), weight: &tensor("ffn_norm"), input: stream, len: model.hidden_size },
    )?;
    let parts = ["ffn_gate", "ffn_up"].map(|part| TensorRows { tensor: tensor(part), rows: wide });
    let matrix = Matrix { name: &at("gate_up"), parts: &parts, width: model.hidden_size };
    let both = writer.write_matmul(matrix, &normal)?;
    let sizes = writer.graph.int64s(&[wide as i64, wide as i64]);
    let [gate, up] = ["gate", "up"].map(&at);
    let axis = [("axis", AttributeValue::Int(1))];
    writer.graph.node_to("Split", &at("gate_up.split"), &[&both, &sizes], &[&gate, &up], &axis);
    let sigmoid = writer.graph.node("Sigmoid", &at("sigmoid"), &[&gate], &[]);
    let gate = writer.graph.node("Mul", &at("silu"), &[&gate, &sigmoid], &[]);
    let both = writer.graph.node("Mul", &at("gated"), &[&gate, &up], &[]);
    let part = [TensorRows { tensor: tensor("ffn_down"), rows: model.hidden_size }];
    let down = writer.write_matmul(Matrix { name: &at("down"), parts: &part, width: wide }, &both)?;
    Ok(writer.graph.node("Add", &at("stream"), &[stream, &down], &[]))
}
