//! Functions that a graph defines for its own nodes.

use std::collections::HashMap;
use std::path::Path;

use upcycle_onnx::schema::{Function, Message, Model, Node};

use crate::error::LoadError;

/// The most nodes of a graph with all of its functions in place. Graphs of language models have some thousand.
const NODE_LIMIT: u64 = 1 << 20;

/// The most functions within each other: more than any model has, and safe for the stack.
const DEPTH_LIMIT: usize = 64;

/// Checks that a graph does not grow without bound when the runtime puts its functions in place. A few functions that use each
/// other can stand for more nodes than there is memory for.
///
/// # Errors
/// [`LoadError::NotOnnx`] for functions that cannot be read, [`LoadError::Functions`].
pub(super) fn check(path: &Path, model: &Model) -> Result<(), LoadError> {
    if model.functions.is_empty() {
        return Ok(());
    }
    let decoded =
        model.functions.iter().map(|bytes| Function::decode(&bytes[..])).collect::<Result<Vec<_>, _>>();
    let functions = decoded.map_err(|error| {
        let (path, hint) = (path.to_owned(), "");
        LoadError::NotOnnx { path, hint, source: Some(error) }
    })?;
    let by_name = functions.iter().map(|function| ((&*function.domain, &*function.name), function)).collect();
    let mut sizes = Sizes { by_name, known: HashMap::new(), depth: 0 };
    let nodes = model.graph.iter().flat_map(|graph| &graph.nodes);
    if sizes.of_nodes(nodes) > NODE_LIMIT {
        return Err(LoadError::Functions { path: path.to_owned(), limit: NODE_LIMIT });
    }
    Ok(())
}

struct Sizes<'a> {
    /// By domain and name.
    by_name: HashMap<(&'a str, &'a str), &'a Function>,
    /// Nodes of each function with all others in place; `None` while it is counted.
    known: HashMap<(&'a str, &'a str), Option<u64>>,
    /// Functions that are being counted.
    depth: usize,
}

impl<'a> Sizes<'a> {
    fn of_nodes(&mut self, nodes: impl IntoIterator<Item = &'a Node>) -> u64 {
        nodes.into_iter().fold(0, |sum, node| sum.saturating_add(self.of_node(node)))
    }

    fn of_node(&mut self, node: &'a Node) -> u64 {
        let mut size = self.of_function((&node.domain, &node.operator)).saturating_add(1);
        for attribute in &node.attributes {
            for graph in attribute.graph.iter().chain(&attribute.graphs) {
                size = size.saturating_add(self.of_nodes(&graph.nodes));
            }
        }
        size
    }

    /// 0 for an operator that is no function, and the largest number for a function that uses itself or lies too deep.
    fn of_function(&mut self, name: (&'a str, &'a str)) -> u64 {
        let Some(&function) = self.by_name.get(&name) else { return 0 };
        match self.known.get(&name) {
            Some(known) => known.unwrap_or(u64::MAX),
            None if self.depth == DEPTH_LIMIT => u64::MAX,
            None => {
                self.known.insert(name, None);
                self.depth += 1;
                let size = self.of_nodes(&function.nodes);
                self.depth -= 1;
                self.known.insert(name, Some(size));
                size
            }
        }
    }
}
