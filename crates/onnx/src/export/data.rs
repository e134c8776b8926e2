//! The file of weights beside a graph, written front to back.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crate::layout::DATA_FILE;
use crate::schema::{Element, Entry, Tensor};

/// Where a tensor may start: a page, so that a runtime can map it.
const ALIGNMENT: u64 = 4096;

/// The file being written.
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

    /// Begins a tensor.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let gap = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write(&vec![0; gap as usize])?;
        self.start = self.written;
        Ok(())
    }

    /// Goes on with it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends it: what stands in the graph for it.
    pub(crate) fn end(&self, name: &str, element: Element, dims: &[usize]) -> Tensor {
        let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
        let length = self.written - self.start;
        debug_assert_eq!(length, (dims.iter().product::<usize>() * element.bytes()) as u64, "{name}");
        Tensor {
            dims: dims.iter().map(|&dimension| dimension as i64).collect(),
            element: element.into(),
            name: name.to_owned(),
            external: vec![
                entry("location", DATA_FILE.to_owned()),
                entry("offset", self.start.to_string()),
                entry("length", length.to_string()),
            ],
            location: Tensor::EXTERNAL,
            ..Tensor::default()
        }
    }

    /// Writes what is still held back.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The bytes of numbers.
pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
