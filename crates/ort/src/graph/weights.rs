//! Checks of a graph's weights: that their bytes exist, and that small ones are finite.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use upcycle_onnx::schema::{Element, Graph, Tensor};

use crate::error::LoadError;

/// The longest vector whose elements are checked. Norms and biases are shorter. A matrix product that rounds activations to eight
/// bits turns a NaN from a norm into a finite value, so nothing after it would show the fault.
const MAX_CHECKED: usize = 1 << 16;

/// Checks that the bytes of all weights exist, and that small vectors are finite. A scalar may be infinite, because masks use
/// such constants.
pub(super) fn check(folder: &Path, graph: &Graph) -> Result<(), LoadError> {
    let mut inner = Vec::new();
    inner_tensors(graph, &mut inner);
    for tensor in inner {
        if let Some(external) = ExternalData::from_tensor(folder, tensor)? {
            external.check(tensor)?;
        }
    }
    for tensor in &graph.initializers {
        let external = ExternalData::from_tensor(folder, tensor)?;
        if let Some(external) = &external {
            external.check(tensor)?;
        }
        if let &[len] = &tensor.dims[..]
            && let Some(len) = usize::try_from(len).ok().filter(|len| (2..=MAX_CHECKED).contains(len))
            && !is_finite(tensor, external.as_ref(), len)?
        {
            return Err(LoadError::NotFinite { tensor: tensor.name.clone() });
        }
    }
    Ok(())
}

/// The tensors in the attributes of nodes, and the weights of the graphs in them.
fn inner_tensors<'a>(graph: &'a Graph, found: &mut Vec<&'a Tensor>) {
    for attribute in graph.nodes.iter().flat_map(|node| &node.attributes) {
        found.extend(attribute.tensor.iter().chain(&attribute.tensors));
        // As deep as the protobuf, whose depth its reader limits.
        for graph in attribute.graph.iter().chain(&attribute.graphs) {
            found.extend(&graph.initializers);
            inner_tensors(graph, found);
        }
    }
}

/// Where a weight lies outside of the graph.
struct ExternalData {
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl ExternalData {
    /// None for a weight within the graph.
    ///
    /// # Errors
    /// [`LoadError::ExternalPath`] for a file that the folder does not contain.
    fn from_tensor(folder: &Path, tensor: &Tensor) -> Result<Option<Self>, LoadError> {
        if tensor.location != Tensor::EXTERNAL {
            return Ok(None);
        }
        let value =
            |key: &str| tensor.external.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
        let number = |key: &str| value(key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        let location = Path::new(value("location").unwrap_or_default());
        // Otherwise a graph could read any file of the machine.
        if !location.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            let (tensor, location) = (tensor.name.clone(), location.to_owned());
            return Err(LoadError::ExternalPath { tensor, location });
        }
        let path = folder.join(location);
        Ok(Some(Self { path, offset: number("offset"), length: number("length") }))
    }

    fn check(&self, tensor: &Tensor) -> Result<(), LoadError> {
        let Self { path, offset, length } = self;
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
        if found.is_some_and(|bytes| offset.checked_add(*length).is_some_and(|end| end <= bytes)) {
            return Ok(());
        }
        let (tensor, path) = (tensor.name.clone(), path.clone());
        Err(LoadError::ExternalData { tensor, path, offset: *offset, length: *length, found })
    }

    /// The first `len` bytes of the weight, or fewer if it is shorter.
    fn read(&self, len: usize) -> Result<Vec<u8>, LoadError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut bytes = Vec::new();
            file.take(len as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| LoadError::File { path: self.path.clone(), source })
    }
}

/// Whether all of `len` elements are finite. True for types that are not floats.
fn is_finite(tensor: &Tensor, external: Option<&ExternalData>, len: usize) -> Result<bool, LoadError> {
    let size = match Element::try_from(tensor.element) {
        Ok(Element::Float) => 4,
        Ok(Element::Float16) => 2,
        _ => return Ok(true),
    };
    let read = external.map(|external| external.read(size * len)).transpose()?;
    let bytes = read.as_ref().unwrap_or(&tensor.raw);
    let half = |bits: u16| bits & 0x7c00 != 0x7c00;
    Ok(match size {
        4 => {
            let raw = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
            raw.chain(tensor.floats.iter().copied()).all(f32::is_finite)
        }
        _ => {
            let raw = bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
            raw.chain(tensor.small.iter().map(|&bits| bits as u16)).all(half)
        }
    })
}
