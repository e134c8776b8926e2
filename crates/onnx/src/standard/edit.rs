//! A graph being changed: nodes are added anywhere, and put in order at the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::schema::{Attribute, Element, Graph, Node, Tensor};

/// A graph being changed. Nodes keep their places until [`finish`](Self::finish); new ones stand behind them.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) graph: Graph,
    constants: BTreeMap<Vec<i64>, String>,
    values: usize,
}

/// An attribute of a new node.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(i64),
    Ints(Vec<i64>),
    /// A tensor of one element of this type.
    One(i64),
}

impl Edit {
    pub(super) fn new(graph: Graph) -> Self {
        Self { graph, constants: BTreeMap::new(), values: 0 }
    }

    /// A name that no other value has.
    fn fresh(&mut self) -> String {
        self.values += 1;
        format!("upcycle/{}", self.values)
    }

    /// Adds a node of ONNX's own with one output, which is returned.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> String {
        let output = self.fresh();
        self.node_to(("", operator), inputs, &[&output], attributes);
        output
    }

    /// Adds a node with these outputs.
    pub(super) fn node_to(
        &mut self,
        (domain, operator): (&str, &str),
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Value)],
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.graph.nodes.push(Node {
            inputs: owned(inputs),
            outputs: owned(outputs),
            name: format!("upcycle/{operator}/{}", outputs.first().copied().unwrap_or_default()),
            operator: operator.to_owned(),
            attributes: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            domain: domain.to_owned(),
            ..Node::default()
        });
    }

    /// Several fresh names.
    pub(super) fn names<const N: usize>(&mut self) -> [String; N] {
        std::array::from_fn(|_| self.fresh())
    }

    /// The name of a constant vector of whole numbers.
    pub(super) fn whole(&mut self, values: &[i64]) -> String {
        if let Some(name) = self.constants.get(values) {
            return name.clone();
        }
        let name = self.fresh();
        self.constants.insert(values.to_vec(), name.clone());
        self.graph.initializers.push(Tensor::whole(&name, values));
        name
    }

    /// The name of a constant number.
    pub(super) fn number(&mut self, value: f32) -> String {
        let name = self.fresh();
        self.graph.initializers.push(Tensor::number(&name, value));
        name
    }

    pub(super) fn reshape(&mut self, input: &str, shape: &[i64]) -> String {
        let shape = self.whole(shape);
        self.node("Reshape", &[input, &shape], &[])
    }

    pub(super) fn transpose(&mut self, input: &str, order: &[i64]) -> String {
        self.node("Transpose", &[input], &[("perm", Value::Ints(order.to_vec()))])
    }

    pub(super) fn concat(&mut self, inputs: &[&str], axis: i64) -> String {
        self.node("Concat", inputs, &[("axis", Value::Int(axis))])
    }

    /// `input`, of type `from`, as `to`.
    pub(super) fn cast(&mut self, input: &str, from: Element, to: Element) -> String {
        if from == to {
            return input.to_owned();
        }
        self.node("Cast", &[input], &[("to", Value::Int(i64::from(i32::from(to))))])
    }

    /// Where each value is made: its node's place.
    pub(super) fn producers(&self) -> BTreeMap<&str, usize> {
        let nodes = self.graph.nodes.iter().enumerate();
        nodes.flat_map(|(place, node)| node.outputs.iter().map(move |output| (&**output, place))).collect()
    }

    /// Has all nodes that take `from`, those within subgraphs too, take `to`.
    pub(super) fn rename_uses(&mut self, from: &str, to: &str) {
        rename_uses(&mut self.graph, from, to);
    }

    /// Renames a value where it is made and where it is taken.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        rename_uses(&mut self.graph, from, to);
        for output in self.graph.nodes.iter_mut().flat_map(|node| &mut node.outputs) {
            if output == from {
                to.clone_into(output);
            }
        }
    }

    /// The graph: what its outputs need, each node behind those whose outputs it takes.
    pub(super) fn finish(self) -> Graph {
        let producers = self.producers();
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        let mut needed: BTreeSet<String> = BTreeSet::new();
        // Depth first, without recursion: a node is listed when all that it takes is.
        let mut stack: Vec<(usize, bool)> = Vec::new();
        let outputs = self.graph.outputs.iter().rev().map(|output| &*output.name);
        stack.extend(outputs.filter_map(|name| producers.get(name)).map(|&place| (place, false)));
        needed.extend(self.graph.outputs.iter().map(|output| output.name.clone()));
        while let Some((place, done)) = stack.pop() {
            if done {
                order.push(place);
                continue;
            }
            if !seen.insert(place) {
                continue;
            }
            stack.push((place, true));
            for input in taken(&self.graph.nodes[place]) {
                stack.extend(producers.get(input).map(|&place| (place, false)));
                needed.insert(input.to_owned());
            }
        }
        let mut nodes: Vec<Option<Node>> = self.graph.nodes.into_iter().map(Some).collect();
        let nodes = order.into_iter().filter_map(|place| nodes[place].take()).collect();
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

/// The values that a node takes, those that its subgraphs take from outside (or make themselves) among them.
pub(super) fn taken(node: &Node) -> Vec<&str> {
    let mut all: Vec<&str> =
        node.inputs.iter().map(|input| &**input).filter(|input| !input.is_empty()).collect();
    for inner in node.attributes.iter().flat_map(|attribute| attribute.graph.iter().chain(&attribute.graphs))
    {
        all.extend(inner.nodes.iter().flat_map(taken));
        all.extend(inner.outputs.iter().map(|output| &*output.name));
    }
    all
}

fn attribute(name: &str, value: &Value) -> Attribute {
    let mut attribute = Attribute { name: name.to_owned(), ..Attribute::default() };
    match value {
        Value::Int(int) => (attribute.int, attribute.kind) = (*int, Attribute::INT),
        Value::Ints(ints) => (attribute.ints, attribute.kind) = (ints.clone(), Attribute::INTS),
        Value::One(one) => {
            attribute.tensor = Some(Tensor::whole("", &[*one]));
            attribute.kind = Attribute::TENSOR;
        }
    }
    attribute
}

/// A whole-number attribute of a node.
pub(super) fn int(node: &Node, name: &str) -> Option<i64> {
    node.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.int)
}

/// An attribute of a node that is a number with a fraction.
pub(super) fn float(node: &Node, name: &str) -> Option<f32> {
    node.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.float)
}

/// An input of a node, if it is wired.
pub(super) fn input(node: &Node, place: usize) -> Option<&str> {
    node.inputs.get(place).map(|name| &**name).filter(|name| !name.is_empty())
}
