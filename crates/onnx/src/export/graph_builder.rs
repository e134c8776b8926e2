//! Builds a graph: nodes, constants, inputs and outputs.

use std::collections::BTreeMap;

use crate::schema::{Attribute, AttributeValue, Dim, Element, Graph, MICROSOFT, Node, Tensor, ValueInfo};

/// A graph under construction. Constants are shared. A node has the name of its first output, unless it is given outputs.
#[derive(Debug, Default)]
pub(crate) struct GraphBuilder {
    graph: Graph,
    int64_vectors: BTreeMap<Vec<i64>, String>,
    scalars: BTreeMap<u32, String>,
    int64_scalars: BTreeMap<i64, String>,
}

impl GraphBuilder {
    /// Adds a node with one output, and returns its name.
    pub(crate) fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[(&str, AttributeValue)],
    ) -> String {
        self.node_to(operator, name, inputs, &[name], attributes);
        name.to_owned()
    }

    /// Adds a node with these outputs.
    pub(crate) fn node_to(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, AttributeValue)],
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let domain = if operator == "MatMulNBits" { MICROSOFT } else { "" };
        self.graph.nodes.push(Node {
            inputs: owned(inputs),
            outputs: owned(outputs),
            name: name.to_owned(),
            operator: operator.to_owned(),
            attributes: attributes.iter().map(|(name, value)| Attribute::new(name, value)).collect(),
            domain: domain.to_owned(),
            ..Node::default()
        });
    }

    /// The name of a constant int64 vector.
    pub(crate) fn int64s(&mut self, values: &[i64]) -> String {
        if let Some(name) = self.int64_vectors.get(values) {
            return name.clone();
        }
        let name = format!("int64s.{}", self.int64_vectors.len());
        self.int64_vectors.insert(values.to_vec(), name.clone());
        self.initializer(Tensor::int64(&name, values));
        name
    }

    /// The name of a constant int64 scalar.
    pub(crate) fn int64(&mut self, value: i64) -> String {
        if let Some(name) = self.int64_scalars.get(&value) {
            return name.clone();
        }
        let name = format!("int64.{}", self.int64_scalars.len());
        self.int64_scalars.insert(value, name.clone());
        self.initializer(Tensor { dims: Vec::new(), ..Tensor::int64(&name, &[value]) });
        name
    }

    /// The name of a constant `f32` scalar.
    pub(crate) fn scalar(&mut self, value: f32) -> String {
        if let Some(name) = self.scalars.get(&value.to_bits()) {
            return name.clone();
        }
        let name = format!("scalar.{}", self.scalars.len());
        self.scalars.insert(value.to_bits(), name.clone());
        self.initializer(Tensor::scalar(&name, value));
        name
    }

    /// Adds a constant.
    pub(crate) fn initializer(&mut self, tensor: Tensor) {
        self.graph.initializers.push(tensor);
    }

    /// Adds a `Reshape`; -1 stands for the remaining size.
    pub(crate) fn reshape(&mut self, name: &str, input: &str, shape: &[i64]) -> String {
        let shape = self.int64s(shape);
        self.node("Reshape", name, &[input, &shape], &[])
    }

    /// Adds a `Transpose`.
    pub(crate) fn transpose(&mut self, name: &str, input: &str, order: &[i64]) -> String {
        self.node("Transpose", name, &[input], &[("perm", AttributeValue::Ints(order.to_vec()))])
    }

    /// Adds an input.
    pub(crate) fn input(&mut self, name: &str, element: Element, shape: &[Dim<'_>]) {
        self.graph.inputs.push(ValueInfo::tensor(name, element, shape));
    }

    /// Declares a value as an output.
    pub(crate) fn output(&mut self, name: &str, element: Element, shape: &[Dim<'_>]) {
        self.graph.outputs.push(ValueInfo::tensor(name, element, shape));
    }

    /// The graph.
    pub(crate) fn finish(mut self, name: &str) -> Graph {
        name.clone_into(&mut self.graph.name);
        self.graph
    }
}
