//! Writes the file with a graph's weights.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crate::layout::DATA_FILE;
use crate::schema::{Element, Entry, Tensor};

/// Tensors start at a page, so that a runtime can map them.
const ALIGNMENT: u64 = 4096;

/// A data file under construction.
#[derive(Debug)]
pub(crate) struct DataFile {
    file: BufWriter<File>,
    written: u64,
    start: u64,
}

impl DataFile {
    pub(crate) fn new(file: File) -> Self {
        Self { file: BufWriter::with_capacity(1 << 20, file), written: 0, start: 0 }
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> u64 {
        self.written
    }

    /// Starts a tensor.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let gap = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write(&vec![0; gap as usize])?;
        self.start = self.written;
        Ok(())
    }

    /// Appends bytes to the tensor.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends the tensor and returns its entry for the graph.
    pub(crate) fn end(&self, name: &str, element: Element, dims: &[usize]) -> Tensor {
        let length = self.written - self.start;
        debug_assert_eq!(length, (dims.iter().product::<usize>() * element.bytes()) as u64, "{name}");
        Tensor {
            dims: dims.iter().map(|&dimension| dimension as i64).collect(),
            element: element.into(),
            name: name.to_owned(),
            external: vec![
                Entry::new("location", DATA_FILE),
                Entry::new("offset", self.start),
                Entry::new("length", length),
            ],
            location: Tensor::EXTERNAL,
            ..Tensor::default()
        }
    }

    /// Flushes buffered bytes.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The little-endian bytes of numbers.
pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
