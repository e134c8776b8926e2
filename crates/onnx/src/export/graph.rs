//! A graph as it grows: nodes, constants, inputs and outputs.

use std::collections::BTreeMap;

use crate::schema::{
    Attribute, Dimension, Element, Extent, Graph, Kind, MICROSOFT, Node, Shape, Tensor, TensorKind, ValueInfo,
};

/// A graph being built. Values go by their names; each node's first output has the node's name.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    graph: Graph,
    constants: BTreeMap<Vec<i64>, String>,
    scalars: BTreeMap<u32, String>,
    indices: BTreeMap<i64, String>,
}

/// An attribute of a node.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
}

/// A dimension of an input or output.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extents<'a> {
    Size(usize),
    Name(&'a str),
}

impl Builder {
    /// Adds a node with one output, which is returned.
    pub(crate) fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[(&str, Value)],
    ) -> String {
        self.nodes(operator, name, (inputs, &[name]), attributes);
        name.to_owned()
    }

    /// Adds a node with these inputs and outputs.
    pub(crate) fn nodes(
        &mut self,
        operator: &str,
        name: &str,
        (inputs, outputs): (&[&str], &[&str]),
        attributes: &[(&str, Value)],
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let domain = if operator == "MatMulNBits" { MICROSOFT } else { "" };
        self.graph.nodes.push(Node {
            inputs: owned(inputs),
            outputs: owned(outputs),
            name: name.to_owned(),
            operator: operator.to_owned(),
            attributes: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            domain: domain.to_owned(),
            ..Node::default()
        });
    }

    /// The name of a constant vector of whole numbers.
    pub(crate) fn whole(&mut self, values: &[i64]) -> String {
        if let Some(name) = self.constants.get(values) {
            return name.clone();
        }
        let name = format!("whole.{}", self.constants.len());
        self.constants.insert(values.to_vec(), name.clone());
        self.initializer(Tensor::whole(&name, values));
        name
    }

    /// The name of a constant whole number without dimensions.
    pub(crate) fn index(&mut self, value: i64) -> String {
        if let Some(name) = self.indices.get(&value) {
            return name.clone();
        }
        let name = format!("index.{}", self.indices.len());
        self.indices.insert(value, name.clone());
        self.initializer(Tensor { dims: Vec::new(), ..Tensor::whole(&name, &[value]) });
        name
    }

    /// The name of a constant number.
    pub(crate) fn scalar(&mut self, value: f32) -> String {
        if let Some(name) = self.scalars.get(&value.to_bits()) {
            return name.clone();
        }
        let name = format!("number.{}", self.scalars.len());
        self.scalars.insert(value.to_bits(), name.clone());
        self.initializer(Tensor::number(&name, value));
        name
    }

    /// Adds a constant.
    pub(crate) fn initializer(&mut self, tensor: Tensor) {
        self.graph.initializers.push(tensor);
    }

    /// Reshapes; -1 stands for what is left over.
    pub(crate) fn reshape(&mut self, name: &str, input: &str, shape: &[i64]) -> String {
        let shape = self.whole(shape);
        self.node("Reshape", name, &[input, &shape], &[])
    }

    /// Transposes.
    pub(crate) fn transpose(&mut self, name: &str, input: &str, order: &[i64]) -> String {
        self.node("Transpose", name, &[input], &[("perm", Value::Ints(order.to_vec()))])
    }

    /// Adds an input.
    pub(crate) fn input(&mut self, name: &str, element: Element, shape: &[Extents<'_>]) {
        self.graph.inputs.push(info(name, element, shape));
    }

    /// Makes a value an output.
    pub(crate) fn output(&mut self, name: &str, element: Element, shape: &[Extents<'_>]) {
        self.graph.outputs.push(info(name, element, shape));
    }

    /// The graph.
    pub(crate) fn finish(mut self, name: &str) -> Graph {
        name.clone_into(&mut self.graph.name);
        self.graph
    }
}

fn attribute(name: &str, value: &Value) -> Attribute {
    let mut attribute = Attribute { name: name.to_owned(), ..Attribute::default() };
    match value {
        Value::Int(int) => (attribute.int, attribute.kind) = (*int, Attribute::INT),
        Value::Float(float) => (attribute.float, attribute.kind) = (*float, Attribute::FLOAT),
        Value::Ints(ints) => (attribute.ints, attribute.kind) = (ints.clone(), Attribute::INTS),
    }
    attribute
}

fn info(name: &str, element: Element, shape: &[Extents<'_>]) -> ValueInfo {
    let dims = shape.iter().map(|extent| Dimension {
        extent: Some(match *extent {
            Extents::Size(size) => Extent::Value(size as i64),
            Extents::Name(name) => Extent::Name(name.to_owned()),
        }),
    });
    let shape = Some(Shape { dims: dims.collect() });
    let tensor = Some(TensorKind { element: element.into(), shape });
    ValueInfo { name: name.to_owned(), kind: Some(Kind { tensor, ..Kind::default() }) }
}
