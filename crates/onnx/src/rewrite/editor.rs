//! Edits a graph.

use std::collections::{BTreeMap, BTreeSet};

use crate::schema::{Attribute, AttributeValue, Element, Graph, Node, Tensor};

/// A graph under edit. New nodes are appended; [`finish`](Self::finish) sorts them.
#[derive(Debug)]
pub(super) struct GraphEditor {
    pub(super) graph: Graph,
    constants: BTreeMap<Vec<i64>, String>,
    values: usize,
}

impl GraphEditor {
    pub(super) fn new(graph: Graph) -> Self {
        Self { graph, constants: BTreeMap::new(), values: 0 }
    }

    /// A new unique name.
    fn unique_name(&mut self) -> String {
        self.values += 1;
        format!("upcycle/{}", self.values)
    }

    /// Adds a node of the default domain with one output, and returns the output's name.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, AttributeValue)],
    ) -> String {
        let output = self.unique_name();
        self.node_to(("", operator), inputs, &[&output], attributes);
        output
    }

    /// Adds a node of any domain with these outputs.
    pub(super) fn node_to(
        &mut self,
        (domain, operator): (&str, &str),
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, AttributeValue)],
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.graph.nodes.push(Node {
            inputs: owned(inputs),
            outputs: owned(outputs),
            name: format!("upcycle/{operator}/{}", outputs.first().copied().unwrap_or_default()),
            operator: operator.to_owned(),
            attributes: attributes.iter().map(|(name, value)| Attribute::new(name, value)).collect(),
            domain: domain.to_owned(),
            ..Node::default()
        });
    }

    /// Several unique names.
    pub(super) fn unique_names<const N: usize>(&mut self) -> [String; N] {
        std::array::from_fn(|_| self.unique_name())
    }

    /// The name of a constant int64 vector.
    pub(super) fn int64s(&mut self, values: &[i64]) -> String {
        if let Some(name) = self.constants.get(values) {
            return name.clone();
        }
        let name = self.unique_name();
        self.constants.insert(values.to_vec(), name.clone());
        self.graph.initializers.push(Tensor::int64(&name, values));
        name
    }

    /// The name of a constant `f32`.
    pub(super) fn scalar(&mut self, value: f32) -> String {
        let name = self.unique_name();
        self.graph.initializers.push(Tensor::scalar(&name, value));
        name
    }

    pub(super) fn reshape(&mut self, input: &str, shape: &[i64]) -> String {
        let shape = self.int64s(shape);
        self.node("Reshape", &[input, &shape], &[])
    }

    pub(super) fn transpose(&mut self, input: &str, order: &[i64]) -> String {
        self.node("Transpose", &[input], &[("perm", AttributeValue::Ints(order.to_vec()))])
    }

    pub(super) fn concat(&mut self, inputs: &[&str], axis: i64) -> String {
        self.node("Concat", inputs, &[("axis", AttributeValue::Int(axis))])
    }

    /// Casts `input` unless the types are equal.
    pub(super) fn cast(&mut self, input: &str, from: Element, to: Element) -> String {
        if from == to {
            return input.to_owned();
        }
        self.node("Cast", &[input], &[("to", AttributeValue::Int(i64::from(i32::from(to))))])
    }

    /// The index of the node that computes each value.
    pub(super) fn producers(&self) -> BTreeMap<&str, usize> {
        let nodes = self.graph.nodes.iter().enumerate();
        nodes.flat_map(|(index, node)| node.outputs.iter().map(move |output| (&**output, index))).collect()
    }

    /// Makes all nodes that take `from` take `to`, in subgraphs too.
    pub(super) fn rename_uses(&mut self, from: &str, to: &str) {
        rename_uses(&mut self.graph, from, to);
    }

    /// Renames a value everywhere.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        rename_uses(&mut self.graph, from, to);
        for output in self.graph.nodes.iter_mut().flat_map(|node| &mut node.outputs) {
            if output == from {
                to.clone_into(output);
            }
        }
    }

    /// The graph in topological order, without what its outputs do not need.
    pub(super) fn finish(self) -> Graph {
        let producers = self.producers();
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        let mut needed: BTreeSet<String> = BTreeSet::new();
        // An iterative depth-first search: a node is listed after all of its inputs.
        let mut stack: Vec<(usize, bool)> = Vec::new();
        let outputs = self.graph.outputs.iter().rev().map(|output| &*output.name);
        stack.extend(outputs.filter_map(|name| producers.get(name)).map(|&index| (index, false)));
        needed.extend(self.graph.outputs.iter().map(|output| output.name.clone()));
        while let Some((index, done)) = stack.pop() {
            if done {
                order.push(index);
                continue;
            }
            if !seen.insert(index) {
                continue;
            }
            stack.push((index, true));
            for input in used_values(&self.graph.nodes[index]) {
                stack.extend(producers.get(input).map(|&index| (index, false)));
                needed.insert(input.to_owned());
            }
        }
        let mut nodes: Vec<Option<Node>> = self.graph.nodes.into_iter().map(Some).collect();
        let nodes = order.into_iter().filter_map(|index| nodes[index].take()).collect();
        let mut initializers = self.graph.initializers;
        initializers.retain(|tensor| needed.contains(&tensor.name));
        Graph { nodes, initializers, ..self.graph }
    }
}

fn rename_uses(graph: &mut Graph, from: &str, to: &str) {
    for node in &mut graph.nodes {
        for input in node.inputs.iter_mut().filter(|input| *input == from) {
            to.clone_into(input);
        }
        for attribute in &mut node.attributes {
            for inner in attribute.graph.iter_mut().chain(&mut attribute.graphs) {
                rename_uses(inner, from, to);
                for output in inner.outputs.iter_mut().filter(|output| output.name == from) {
                    to.clone_into(&mut output.name);
                }
            }
        }
    }
}

/// The values that a node uses, including those that its subgraphs use or compute.
pub(super) fn used_values(node: &Node) -> Vec<&str> {
    let mut all: Vec<&str> =
        node.inputs.iter().map(|input| &**input).filter(|input| !input.is_empty()).collect();
    for inner in node.attributes.iter().flat_map(|attribute| attribute.graph.iter().chain(&attribute.graphs))
    {
        all.extend(inner.nodes.iter().flat_map(used_values));
        all.extend(inner.outputs.iter().map(|output| &*output.name));
    }
    all
}

/// An integer attribute of a node.
pub(super) fn int(node: &Node, name: &str) -> Option<i64> {
    node.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.int)
}

/// A floating-point attribute of a node.
pub(super) fn float(node: &Node, name: &str) -> Option<f32> {
    node.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.float)
}

/// An input of a node, if it is connected.
pub(super) fn input(node: &Node, index: usize) -> Option<&str> {
    node.inputs.get(index).map(|name| &**name).filter(|name| !name.is_empty())
}
