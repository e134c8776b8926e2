//! Attention in plain operators: where its mask is.

use std::collections::{BTreeMap, BTreeSet};

use super::edit::{Edit, int, taken};
use super::wiring::{TOKENS, Wiring};
use super::{Interface, past_name};
use crate::layout::Part;
use crate::schema::{Element, Node};

/// A sum, or a choice, of scores and a mask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masked {
    /// The node's place.
    node: usize,
    /// Which of its inputs are scores.
    scores: usize,
    /// Which of its inputs is the mask.
    mask: usize,
    element: Element,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) sites: Vec<Masked>,
    /// What about them rules out trees.
    pub(super) obstacle: Option<String>,
}

/// Operators whose result says nothing of the numbers that they are given.
const SHAPES: [&str; 2] = ["Shape", "Size"];
/// Comparisons that say whether a row comes before another. (`Equal` is used for shapes alone.)
const COMPARISONS: [&str; 4] = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual"];

/// The masks of the layers that have attention in plain operators: all but `fused`.
pub(super) fn find(edit: &Edit, interface: &Interface, fused: usize) -> Found {
    let mut found = Found { sites: Vec::new(), obstacle: None };
    let wanted = interface.layers.saturating_sub(fused);
    if wanted == 0 {
        return found;
    }
    let moving = depending(edit, |name| name == TOKENS || is_past(interface, name));
    // A mask depends on some input, if only on its shape.
    let inputs: BTreeSet<&str> = edit.graph.inputs.iter().map(|input| &*input.name).chain([TOKENS]).collect();
    let variable = reached(edit, &inputs);
    let producers = edit.producers();
    for softmax in edit.graph.nodes.iter().filter(|node| node.operator == "Softmax") {
        let mut masks = Vec::new();
        let mut name = softmax.inputs.first().map_or("", |input| &**input);
        // As many as there are nodes: a circle ends.
        for _ in 0..edit.graph.nodes.len() {
            let Some(&place) = producers.get(name) else { break };
            let node = &edit.graph.nodes[place];
            let Some((scores, mask)) = operands(node, &moving) else { break };
            if let Some(mask) = mask.filter(|&mask| variable.contains(&*node.inputs[mask])) {
                masks.push(Masked { node: place, scores, mask, element: interface.cache });
            }
            name = &node.inputs[scores];
        }
        if let [masked] = &mut masks[..] {
            let node = &edit.graph.nodes[masked.node];
            if found.obstacle.is_none() {
                found.obstacle = comparisons(edit, &node.inputs[masked.mask]).err();
            }
            // A choice has the mask as its condition.
            let typed = if node.operator == "Where" { 3 - masked.scores } else { masked.mask };
            masked.element = element_of(edit, &node.inputs[typed]).unwrap_or(masked.element);
            found.sites.push(*masked);
        } else if masks.len() > 1 {
            found.obstacle.get_or_insert(format!(
                "before `{}` {} things are added to scores, and which of them is the mask cannot be told",
                softmax.name,
                masks.len()
            ));
        }
    }
    let sites = found.sites.len();
    if sites != wanted {
        found.obstacle.get_or_insert(format!(
            "masks were looked for in {wanted} layers, before the softmax of their attention, and {sites} found"
        ));
    }
    found
}

/// Whether a value is the past of a layer.
pub(super) fn is_past(interface: &Interface, name: &str) -> bool {
    (0..interface.layers).any(|layer| Part::ALL.iter().any(|&part| past_name(part, layer) == name))
}

/// Which input of a node before the softmax are scores, and which is a mask, if there is one. None where scores end.
fn operands(node: &Node, moving: &BTreeSet<&str>) -> Option<(usize, Option<usize>)> {
    let moves = |place: usize| node.inputs.get(place).is_some_and(|input| moving.contains(&**input));
    match (&*node.operator, node.inputs.len()) {
        ("Cast" | "Identity", 1) => Some((0, None)),
        ("Add", 2) => match (moves(0), moves(1)) {
            (true, false) => Some((0, Some(1))),
            (false, true) => Some((1, Some(0))),
            _ => None,
        },
        ("Where", 3) if !moves(0) => match (moves(1), moves(2)) {
            (true, false) => Some((1, Some(0))),
            (false, true) => Some((2, Some(0))),
            _ => None,
        },
        _ => None,
    }
}

/// The values whose numbers depend on those of values that `is_source` names. Nodes stand in order.
pub(super) fn depending(edit: &Edit, is_source: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    for node in &edit.graph.nodes {
        let depends = taken(node).iter().any(|name| is_source(name) || all.contains(name));
        if depends && !SHAPES.contains(&&*node.operator) {
            all.extend(node.outputs.iter().map(|output| &**output));
        }
    }
    all
}

/// The values that depend on sources in any way.
fn reached<'a>(edit: &'a Edit, sources: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    for node in &edit.graph.nodes {
        if taken(node).iter().any(|name| sources.contains(name) || all.contains(name)) {
            all.extend(node.outputs.iter().map(|output| &**output));
        }
    }
    all
}

/// Sees that what makes a mask compares once: rows with columns. A window takes another comparison.
pub(super) fn comparisons(edit: &Edit, mask: &str) -> Result<(), String> {
    let producers = edit.producers();
    let (mut seen, mut stack, mut compared) = (BTreeSet::new(), vec![mask], Vec::new());
    while let Some(name) = stack.pop() {
        let Some(&place) = producers.get(name) else { continue };
        if !seen.insert(place) {
            continue;
        }
        let node = &edit.graph.nodes[place];
        if COMPARISONS.contains(&&*node.operator) {
            compared.push(format!("`{}`", node.name));
        }
        stack.extend(taken(node));
    }
    // A triangle is made without any.
    if compared.len() <= 1 {
        return Ok(());
    }
    compared.sort();
    Err(format!(
        "the mask `{mask}` is made by {} comparisons ({}), and causality takes one: it may have a window",
        compared.len(),
        compared.join(", ")
    ))
}

/// The type of a value, as far as the nodes before it tell.
pub(super) fn element_of(edit: &Edit, name: &str) -> Option<Element> {
    let producers = edit.producers();
    let tensors: BTreeMap<&str, i32> =
        edit.graph.initializers.iter().map(|tensor| (&*tensor.name, tensor.element)).collect();
    let mut name = name;
    // As many as there are nodes: a circle ends.
    for _ in 0..=edit.graph.nodes.len() {
        if let Some(&element) = tensors.get(name) {
            return Element::try_from(element).ok();
        }
        let node = &edit.graph.nodes[*producers.get(name)?];
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

/// Puts the tree's mask in the place of the graph's own.
pub(super) fn replace(edit: &mut Edit, wiring: &mut Wiring, site: &Masked) {
    let bias = wiring.bias(edit, site.element);
    let node = &mut edit.graph.nodes[site.node];
    let scores = node.inputs[site.scores].clone();
    "Add".clone_into(&mut node.operator);
    node.inputs = vec![scores, bias];
}
