//! Attention in one operator.

use super::edit::{Edit, input, int};
use super::plain::{comparisons, depending, element_of, is_past};
use super::wiring::Wiring;
use super::{Interface, RewriteError, past_name};
use crate::layout::Part;
use crate::schema::{Element, MICROSOFT, Node};

/// Which operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ONNX Runtime's `GroupQueryAttention`.
    Grouped,
    /// ONNX Runtime's `MultiHeadAttention`.
    MultiHead,
    /// The same over past and new rows that the graph has joined itself.
    Joined,
    /// ONNX's `Attention`.
    Attention,
}

impl Kind {
    fn of(node: &Node) -> Option<Self> {
        match (&*node.domain, &*node.operator) {
            (MICROSOFT, "GroupQueryAttention") => Some(Kind::Grouped),
            (MICROSOFT, "MultiHeadAttention") => Some(Kind::MultiHead),
            ("", "Attention") => Some(Kind::Attention),
            _ => None,
        }
    }

    /// Which input is the past keys; values are the next.
    fn past(self) -> Option<usize> {
        match self {
            Kind::Grouped => Some(3),
            Kind::MultiHead => Some(6),
            Kind::Attention => Some(4),
            Kind::Joined => None,
        }
    }

    /// Which input is the mask that is added to scores.
    fn bias(self) -> usize {
        match self {
            Kind::Grouped => 10,
            Kind::MultiHead | Kind::Joined => 5,
            Kind::Attention => 3,
        }
    }
}

/// The keys of `MultiHeadAttention`.
const KEYS: usize = 1;
/// The positions of `GroupQueryAttention`.
const POSITIONS: usize = 9;
/// The padding mask of `MultiHeadAttention`.
const PADDING: usize = 4;

/// Attention of one layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fused {
    /// The node's place.
    pub(super) node: usize,
    /// The layer, where the operator takes the past as it is.
    pub(super) layer: Option<usize>,
    pub(super) kind: Kind,
    /// The type of what it computes with.
    element: Element,
}

impl Fused {
    /// Whether it turns queries and keys itself.
    pub(super) fn turns(&self, edit: &Edit) -> bool {
        int(&edit.graph.nodes[self.node], "do_rotary").is_some_and(|on| on != 0)
    }

    /// What of it rules out trees.
    pub(super) fn obstacle(&self, edit: &Edit) -> Option<String> {
        let node = &edit.graph.nodes[self.node];
        let window = int(node, "local_window_size").filter(|&window| window > 0);
        if let Some(window) = window {
            return Some(format!(
                "`{}` attends to the last {window} rows, which it counts in the order that they stand in",
                node.name
            ));
        }
        let own = input(node, self.kind.bias())?;
        if self.kind == Kind::Grouped {
            return Some(format!("`{}` takes a bias of its own, `{own}`", node.name));
        }
        comparisons(edit, own).err()
    }
}

/// The layers whose attention is one operator.
pub(super) fn find(edit: &Edit, interface: &Interface) -> Result<Vec<Fused>, RewriteError> {
    let mut found = Vec::new();
    let site = |node, layer, kind| Fused { node, layer, kind, element: interface.cache };
    for layer in 0..interface.layers {
        let names = Part::ALL.map(|part| past_name(part, layer));
        for (place, node) in edit.graph.nodes.iter().enumerate() {
            if !node.inputs.iter().any(|input| names.contains(input)) {
                continue;
            }
            match Kind::of(node) {
                Some(kind) if kind.past().and_then(|past| input(node, past)) == Some(&names[0]) => {
                    found.push(site(place, Some(layer), kind));
                }
                // An operator of ONNX's own. What comes of it is seen where its result is taken.
                None if node.domain.is_empty() || node.domain == "ai.onnx" => {}
                _ => {
                    let (node, operator) = (node.name.clone(), node.operator.clone());
                    return Err(RewriteError::Operator { node, operator });
                }
            }
        }
    }
    let joined = depending(edit, |name| is_past(interface, name));
    for (place, node) in edit.graph.nodes.iter().enumerate() {
        let multi = Kind::of(node) == Some(Kind::MultiHead) && input(node, 6).is_none();
        if multi && input(node, KEYS).is_some_and(|keys| joined.contains(keys)) {
            found.push(site(place, None, Kind::Joined));
        }
    }
    Ok(found)
}

/// Gives attention the tree's mask and, if it turns, positions. Where it `keeps` its own mask, both are added.
pub(super) fn feed(edit: &mut Edit, wiring: &mut Wiring, site: &Fused, keeps: bool) {
    let mut bias = wiring.bias(edit, site.element);
    let slot = site.kind.bias();
    let own = input(&edit.graph.nodes[site.node], slot).filter(|_| keeps).map(str::to_owned);
    if let Some(own) = own {
        bias = if element_of(edit, &own) == Some(Element::Bool) {
            let never = edit.number(f32::NEG_INFINITY);
            let never = edit.cast(&never, Element::Float, site.element);
            edit.node("Where", &[&own, &bias, &never], &[])
        } else {
            edit.node("Add", &[&own, &bias], &[])
        };
    }
    let turns = site.turns(edit);
    let node = &mut edit.graph.nodes[site.node];
    let len = node.inputs.len().max(slot + 1);
    node.inputs.resize(len, String::new());
    node.inputs[slot] = bias;
    match site.kind {
        // The operator counts positions by rows, unless they are given. (Where there is no past it reads the first and counts on
        // from it: the row that stands in for a past is there for that too.)
        Kind::Grouped if turns => wiring.positions().clone_into(&mut node.inputs[POSITIONS]),
        Kind::Grouped => {}
        Kind::MultiHead | Kind::Joined => node.inputs[PADDING].clear(),
        Kind::Attention => node.attributes.retain(|attribute| attribute.name != "is_causal"),
    }
}
