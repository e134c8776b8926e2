//! The masks of layers whose attention is in plain operators.

use std::collections::{BTreeMap, BTreeSet};

use super::editor::{GraphEditor, int, used_values};
use super::interface::{TOKENS, TreeInterface};
use super::optimum::OptimumInterface;
use crate::schema::{Element, Node};

/// An `Add` or `Where` that applies a mask to scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaskInput {
    /// The index of the node.
    node: usize,
    /// The index of the input with scores.
    scores: usize,
    /// The index of the input with the mask.
    mask: usize,
    element: Element,
}

/// The masks of a graph.
#[derive(Debug)]
pub(super) struct Masks {
    pub(super) sites: Vec<MaskInput>,
    /// Why they cannot be replaced.
    pub(super) unsupported_reason: Option<String>,
}

/// Operators whose result does not depend on the numbers in their input.
const SHAPE_OPERATORS: [&str; 2] = ["Shape", "Size"];
/// Comparisons that order rows. (`Equal` is only used for shapes.)
const COMPARISONS: [&str; 4] = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual"];

/// Finds the masks of all layers but the `fused` ones, whose attention is one operator.
pub(super) fn find(editor: &GraphEditor, interface: &OptimumInterface, fused: usize) -> Masks {
    let mut found = Masks { sites: Vec::new(), unsupported_reason: None };
    let wanted = interface.layers.saturating_sub(fused);
    if wanted == 0 {
        return found;
    }
    let data = depending_on(editor, |name| name == TOKENS || interface.is_past(name));
    // A mask depends on an input, at least on its shape.
    let inputs: BTreeSet<&str> =
        editor.graph.inputs.iter().map(|input| &*input.name).chain([TOKENS]).collect();
    let variable = reachable_from(editor, &inputs);
    let producers = editor.producers();
    for softmax in editor.graph.nodes.iter().filter(|node| node.operator == "Softmax") {
        let mut masks = Vec::new();
        let mut name = softmax.inputs.first().map_or("", |input| &**input);
        // Bounded by the number of nodes, in case of a cycle.
        for _ in 0..editor.graph.nodes.len() {
            let Some(&index) = producers.get(name) else { break };
            let node = &editor.graph.nodes[index];
            let Some((scores, mask)) = operands(node, &data) else { break };
            if let Some(mask) = mask.filter(|&mask| variable.contains(&*node.inputs[mask])) {
                masks.push(MaskInput { node: index, scores, mask, element: interface.cache });
            }
            name = &node.inputs[scores];
        }
        if let [site] = &mut masks[..] {
            let node = &editor.graph.nodes[site.node];
            if found.unsupported_reason.is_none() {
                found.unsupported_reason = check_comparisons(editor, &node.inputs[site.mask]).err();
            }
            // The mask of a `Where` is its condition, so the type is that of its other branch.
            let typed = if node.operator == "Where" { 3 - site.scores } else { site.mask };
            site.element = element_of(editor, &node.inputs[typed]).unwrap_or(site.element);
            found.sites.push(*site);
        } else if masks.len() > 1 {
            found.unsupported_reason.get_or_insert(format!(
                "before `{}`, {} values are added to scores, and it is unclear which one is the mask",
                softmax.name,
                masks.len()
            ));
        }
    }
    let sites = found.sites.len();
    if sites != wanted {
        found
            .unsupported_reason
            .get_or_insert(format!("expected a mask before the softmax of {wanted} layers, found {sites}"));
    }
    found
}

/// The index of the input with scores, and of one that may be a mask, of a node before the softmax. `None` if the node computes
/// scores in another way.
fn operands(node: &Node, data: &BTreeSet<&str>) -> Option<(usize, Option<usize>)> {
    let is_data = |index: usize| node.inputs.get(index).is_some_and(|input| data.contains(&**input));
    match (&*node.operator, node.inputs.len()) {
        ("Cast" | "Identity", 1) => Some((0, None)),
        ("Add", 2) => match (is_data(0), is_data(1)) {
            (true, false) => Some((0, Some(1))),
            (false, true) => Some((1, Some(0))),
            _ => None,
        },
        ("Where", 3) if !is_data(0) => match (is_data(1), is_data(2)) {
            (true, false) => Some((1, Some(0))),
            (false, true) => Some((2, Some(0))),
            _ => None,
        },
        _ => None,
    }
}

/// The values whose numbers depend on the numbers of sources. Nodes must be in topological order.
pub(super) fn depending_on(editor: &GraphEditor, is_source: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    for node in &editor.graph.nodes {
        let depends = used_values(node).iter().any(|name| is_source(name) || all.contains(name));
        if depends && !SHAPE_OPERATORS.contains(&&*node.operator) {
            all.extend(node.outputs.iter().map(|output| &**output));
        }
    }
    all
}

/// The values that depend on sources, if only on their shapes.
fn reachable_from<'a>(editor: &'a GraphEditor, sources: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    for node in &editor.graph.nodes {
        if used_values(node).iter().any(|name| sources.contains(name) || all.contains(name)) {
            all.extend(node.outputs.iter().map(|output| &**output));
        }
    }
    all
}

/// Checks that the computation of a mask compares at most once: a causal mask compares rows with columns. A window would take
/// another comparison.
///
/// # Errors
/// The reason for [`Masks::unsupported_reason`].
pub(super) fn check_comparisons(editor: &GraphEditor, mask: &str) -> Result<(), String> {
    let producers = editor.producers();
    let (mut seen, mut stack, mut compared) = (BTreeSet::new(), vec![mask], Vec::new());
    while let Some(name) = stack.pop() {
        let Some(&index) = producers.get(name) else { continue };
        if !seen.insert(index) {
            continue;
        }
        let node = &editor.graph.nodes[index];
        if COMPARISONS.contains(&&*node.operator) {
            compared.push(format!("`{}`", node.name));
        }
        stack.extend(used_values(node));
    }
    // `Trilu` takes no comparison.
    if compared.len() <= 1 {
        return Ok(());
    }
    compared.sort();
    Err(format!(
        "the mask `{mask}` takes {} comparisons ({}), and a causal one takes one: it may have a window",
        compared.len(),
        compared.join(", ")
    ))
}

/// The type of a value, if it follows from the nodes before it.
pub(super) fn element_of(editor: &GraphEditor, name: &str) -> Option<Element> {
    let producers = editor.producers();
    let tensors: BTreeMap<&str, i32> =
        editor.graph.initializers.iter().map(|tensor| (&*tensor.name, tensor.element)).collect();
    let mut name = name;
    // Bounded by the number of nodes, in case of a cycle.
    for _ in 0..=editor.graph.nodes.len() {
        if let Some(&element) = tensors.get(name) {
            return Element::try_from(element).ok();
        }
        let node = &editor.graph.nodes[*producers.get(name)?];
        let element = match &*node.operator {
            "Cast" => int(node, "to").and_then(|to| i32::try_from(to).ok()),
            "Constant" => {
                node.attributes.iter().find_map(|attribute| Some(attribute.tensor.as_ref()?.element))
            }
            "And" | "Or" | "Not" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => {
                Some(Element::Bool.into())
            }
            _ => None,
        };
        if let Some(element) = element {
            return Element::try_from(element).ok();
        }
        name = node.inputs.get(usize::from(node.operator == "Where"))?;
    }
    None
}

/// Replaces a mask of the graph by the tree's.
pub(super) fn replace(editor: &mut GraphEditor, tree: &mut TreeInterface, site: &MaskInput) {
    let bias = tree.bias(editor, site.element);
    let node = &mut editor.graph.nodes[site.node];
    let scores = node.inputs[site.scores].clone();
    "Add".clone_into(&mut node.operator);
    node.inputs = vec![scores, bias];
}
