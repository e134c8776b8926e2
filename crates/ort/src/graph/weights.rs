//! Checks of a graph's weights: that their bytes exist, and that small ones are finite.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use upcycle_onnx::schema::{Element, Graph, Tensor};

use crate::error::LoadError;

/// The longest vector whose elements are checked. Norms and biases are shorter. A matrix product that rounds activations to eight
/// bits turns a NaN from a norm into a finite value, so nothing after it would show the fault.
const MAX_CHECKED: usize = 1 << 16;

/// Checks that the bytes of all weights exist, and that small vectors are finite. A scalar may be infinite, because masks use
/// such constants.
pub(super) fn check(folder: &Path, graph: &Graph) -> Result<(), LoadError> {
    for tensor in &graph.initializers {
        let external = ExternalData::from_tensor(folder, tensor);
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

/// Where a weight lies outside of the graph.
struct ExternalData {
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl ExternalData {
    fn from_tensor(folder: &Path, tensor: &Tensor) -> Option<Self> {
        if tensor.location != Tensor::EXTERNAL {
            return None;
        }
        let value =
            |key: &str| tensor.external.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
        let number = |key: &str| value(key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        let path = folder.join(value("location").unwrap_or_default());
        Some(Self { path, offset: number("offset"), length: number("length") })
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
