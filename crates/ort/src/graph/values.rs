//! Types and shapes of a graph's inputs and outputs.

use upcycle_onnx::schema::{Element, Extent, Model, ValueInfo};

use crate::error::GraphError;

/// The widest plausible row of logits, keys or values.
pub(super) const MAX_WIDTH: usize = 1 << 24;

pub(super) fn has(values: &[ValueInfo], name: &str) -> bool {
    values.iter().any(|value| value.name == name)
}

pub(super) fn names(values: &[ValueInfo]) -> String {
    let shown = values.iter().take(8).map(|value| format!("`{}`", value.name));
    let more = if values.len() > 8 { format!(" and {} more", values.len() - 8) } else { String::new() };
    format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
}

pub(super) fn find<'a>(
    (layout, kind): (&'static str, &'static str),
    values: &'a [ValueInfo],
    name: &str,
) -> Result<&'a ValueInfo, GraphError> {
    values.iter().find(|value| value.name == name).ok_or_else(|| GraphError::Missing {
        kind,
        layout,
        name: name.to_owned(),
        found: names(values),
    })
}

/// The dimensions of a value. None is a dimension that varies from pass to pass.
pub(super) fn dims(value: &ValueInfo) -> Vec<Option<i64>> {
    let tensor = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let dims = shape.map(|shape| &shape.dims[..]).unwrap_or_default().iter();
    dims.map(|dimension| match dimension.extent {
        Some(Extent::Value(size)) => Some(size),
        _ => None,
    })
    .collect()
}

pub(super) fn shown(dims: &[Option<i64>]) -> String {
    let dims = dims.iter().map(|dimension| dimension.map_or("any".to_owned(), |size| size.to_string()));
    format!("[{}]", dims.collect::<Vec<_>>().join(", "))
}

/// The size of a fixed dimension of a value, which must have this rank.
pub(super) fn size(value: &ValueInfo, rank: usize, index: usize) -> Result<usize, GraphError> {
    let dims = dims(value);
    let size = dims.get(index).copied().flatten().filter(|&size| size > 0 && dims.len() == rank);
    size.and_then(|size| usize::try_from(size).ok()).filter(|&size| size <= MAX_WIDTH).ok_or_else(|| {
        GraphError::Shape {
            name: value.name.clone(),
            expected: format!("{rank} dimensions, a size for dimension {index}"),
            found: shown(&dims),
        }
    })
}

/// The element type of a value.
pub(super) fn element(value: &ValueInfo) -> Element {
    let found = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref()).map_or(0, |tensor| tensor.element);
    Element::try_from(found).unwrap_or(Element::Undefined)
}

/// Checks type and shape. None is a dimension that varies from pass to pass.
pub(super) fn check(
    value: &ValueInfo,
    expected_element: Element,
    expected: &[Option<usize>],
) -> Result<(), GraphError> {
    let found = element(value);
    if found != expected_element {
        return Err(GraphError::Element {
            name: value.name.clone(),
            expected: format!("{expected_element:?}").to_lowercase(),
            found: format!("{found:?}").to_lowercase(),
        });
    }
    let expected: Vec<Option<i64>> = expected.iter().map(|size| size.map(|size| size as i64)).collect();
    let dims = dims(value);
    if dims == expected {
        return Ok(());
    }
    Err(GraphError::Shape { name: value.name.clone(), expected: shown(&expected), found: shown(&dims) })
}

/// The operator sets of a graph, as a list.
pub(super) fn opsets(model: &Model) -> String {
    let name = |domain: &str| if domain.is_empty() { "ai.onnx" } else { domain }.to_owned();
    let sets = model.opsets.iter().map(|opset| format!("{} {}", name(&opset.domain), opset.version));
    sets.collect::<Vec<_>>().join(", ")
}
