//! A matrix in a file, so that a new process can start with the rows that an earlier one learned.
//!
//! The file is little-endian and at most 60 + vocab * (4 + 5 * k) bytes long:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | the magic `UPCYMTRX` |
//! | 4 x 4 | u32 version (2; version 1 had no probabilities), vocab, k, number of rows |
//! | 32 | the fingerprint of the tokenizer |
//! | rows x (4 + 5 * k) | each row that is not empty, by ascending token: u32 token; k entries of u32, each candidate plus 1, or 0 if empty; k probabilities of u8, all 0 if unknown |
//! | 4 | the CRC-32 of all bytes before it |

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::file;
use crate::matrix::{AdjacencyMatrix, MatrixError};

/// Identifies the tokenizer that a snapshot belongs to: a hash of its vocabulary. In another vocabulary, the same ids stand
/// for other text.
pub type Fingerprint = [u8; 32];

const MAGIC: &[u8; 8] = b"UPCYMTRX";
const VERSION: u32 = 2;
const HEADER: usize = 8 + 4 * 4 + 32;
const CHECKSUM: usize = 4;

/// The bytes of a row of `k` candidates.
fn row_bytes(k: usize) -> usize {
    4 + k * (4 + 1)
}

/// Why a snapshot was not saved or not loaded. No part of it is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The operating system refused.
    #[error("cannot {action} the snapshot {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// Another kind of file.
    #[error("{} is not a matrix snapshot: it does not start with UPCYMTRX", path.display())]
    NotASnapshot {
        /// The file.
        path: PathBuf,
    },
    /// Written by another version of this program.
    #[error("{} has snapshot version {found}, and this program reads version {VERSION}; delete it and create it again", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Shorter or longer than its header says.
    #[error("{} has {found} bytes, but its header says {expected}; it was truncated or extended, so delete it", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// The length by its header.
        expected: u64,
        /// The length of the file.
        found: u64,
    },
    /// The checksum is wrong, or a value is out of range although the checksum is right.
    #[error("{} is damaged: {what}; delete it and create it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A snapshot for another model or another k.
    #[error("{} is for another {what}: expected {expected}, found {found}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs: vocabulary size, k, or tokenizer fingerprint.
        what: &'static str,
        /// The value expected.
        expected: String,
        /// The value in the file.
        found: String,
    },
    /// A matrix of this size cannot be created.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
}

impl AdjacencyMatrix {
    /// Writes the matrix to `path`.
    ///
    /// A reader always finds the complete old file or the complete new one, even if several processes save there or one is
    /// killed: see [`file::replace`]. A killed process may leave its temporary file, named `.upcycle` and six more characters.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]. An existing file is then unchanged.
    pub fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<(), SnapshotError> {
        file::replace(path, &self.encode(fingerprint)).map_err(|source| SnapshotError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a matrix of `vocab` x `k` for the tokenizer with `fingerprint` from `path`.
    ///
    /// # Errors
    /// [`SnapshotError`] names what differs.
    pub fn load(
        path: &Path,
        vocab: usize,
        k: usize,
        fingerprint: &Fingerprint,
    ) -> Result<Self, SnapshotError> {
        let mut matrix = Self::new(vocab, k)?;
        let io = |source| SnapshotError::Io { action: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // Reads at most one byte more than the largest valid snapshot has, so a very long file takes no memory.
        let max_bytes = HEADER + vocab * row_bytes(k) + CHECKSUM;
        let mut bytes = Vec::new();
        file.take(max_bytes as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        matrix.decode(path, &bytes, fingerprint)?;
        Ok(matrix)
    }

    fn encode(&self, fingerprint: &Fingerprint) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.filled_rows() * row_bytes(self.k()) + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        for number in [VERSION, self.vocab() as u32, self.k() as u32, self.filled_rows() as u32] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(fingerprint);
        for token in self.tokens() {
            bytes.extend_from_slice(&token.to_le_bytes());
            for entry in self.entries(token) {
                bytes.extend_from_slice(&entry.to_le_bytes());
            }
            bytes.extend_from_slice(self.probabilities(token));
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(&mut self, path: &Path, bytes: &[u8], fingerprint: &Fingerprint) -> Result<(), SnapshotError> {
        let path = || path.to_owned();
        if !bytes.starts_with(MAGIC) {
            return Err(SnapshotError::NotASnapshot { path: path() });
        }
        let length =
            |expected: u64| SnapshotError::Length { path: path(), expected, found: bytes.len() as u64 };
        if bytes.len() < HEADER + CHECKSUM {
            return Err(length((HEADER + CHECKSUM) as u64));
        }
        let [version, vocab, k, rows] = [8, 12, 16, 20].map(|at| number(bytes, at));
        if version != VERSION {
            return Err(SnapshotError::Version { path: path(), found: version });
        }
        let mismatch = |what, expected: String, found: String| {
            Err(SnapshotError::Mismatch { path: path(), what, expected, found })
        };
        if vocab as usize != self.vocab() {
            return mismatch("vocabulary size", self.vocab().to_string(), vocab.to_string());
        }
        if k as usize != self.k() {
            return mismatch("k", self.k().to_string(), k.to_string());
        }
        let width = row_bytes(self.k());
        let expected = (HEADER + CHECKSUM) as u64 + u64::from(rows) * width as u64;
        if bytes.len() as u64 != expected {
            return Err(length(expected));
        }
        let damaged = |what| Err(SnapshotError::Damaged { path: path(), what });
        let body = bytes.len() - CHECKSUM;
        if crc32fast::hash(&bytes[..body]) != number(bytes, body) {
            return damaged("its checksum does not match its contents");
        }
        if &bytes[24..HEADER] != fingerprint {
            return mismatch("tokenizer", hex(fingerprint), hex(&bytes[24..HEADER]));
        }
        let mut candidates = Vec::with_capacity(self.k());
        let mut last = None;
        for row in bytes[HEADER..body].chunks_exact(width) {
            let token = number(row, 0);
            candidates.clear();
            let (entries, probabilities) = row[4..].split_at(4 * self.k());
            let entries = entries.as_chunks::<4>().0;
            candidates.extend(entries.iter().map_while(|entry| u32::from_le_bytes(*entry).checked_sub(1)));
            let in_vocab = |token: u32| (token as usize) < self.vocab();
            let in_order = last < Some(token) && in_vocab(token);
            // Empty entries come last, and an empty row is not written.
            let gapless = entries[candidates.len()..].iter().all(|entry| *entry == [0; 4])
                && probabilities[candidates.len()..].iter().all(|&probability| probability == 0);
            if !in_order || !gapless || candidates.is_empty() || !candidates.iter().copied().all(in_vocab) {
                return damaged("a row does not belong to this vocabulary");
            }
            last = Some(token);
            self.update(token, &candidates);
            self.restore_probabilities(token, probabilities);
        }
        Ok(())
    }
}

/// The little-endian u32 at byte `offset`; the caller has checked that it is there.
fn number(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
