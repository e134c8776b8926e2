//! Why a library, a graph or a model cannot be used.

use std::io;
use std::path::PathBuf;

use upcycle_onnx::schema::DecodeError;
use upcycle_onnx::standard::RewriteError;

use crate::library::{NEEDED, SETUP};

/// Why ONNX Runtime cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// It is nowhere.
    #[error(
        "ONNX Runtime {NEEDED} or newer is needed, and none was found (looked for {tried}); run `{SETUP}`, or name the \
         library in backend.ort.library or ORT_DYLIB_PATH"
    )]
    NotFound {
        /// Where it was looked for, as a list.
        tried: String,
    },
    /// It was named, and is not there or is not ONNX Runtime.
    #[error(
        "{path} cannot be used as ONNX Runtime: {reason}; {NEEDED} or newer is needed: run `{SETUP}`",
        path = path.display()
    )]
    Unusable {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// It is too old.
    #[error(
        "{path} is ONNX Runtime {found}; {NEEDED} or newer is needed: run `{SETUP}`",
        path = path.display()
    )]
    TooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// Another one is loaded already.
    #[error(
        "ONNX Runtime is loaded from {loaded} already, and a process has one only; use that, or another process for {asked}",
        loaded = loaded.display(), asked = asked.display()
    )]
    Another {
        /// The library that is loaded.
        loaded: PathBuf,
        /// The library that was asked for.
        asked: PathBuf,
    },
}

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// ONNX Runtime cannot be used.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The file cannot be read.
    #[error("cannot read the model {path}: {source}; check that the path is right and readable", path = path.display())]
    File {
        /// The path that was tried.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A GGUF file.
    #[error(
        "{path} is a GGUF file, and ONNX Runtime reads ONNX graphs; export it first: `upcycle export {path} --to DIR`, \
         then set `model.path` to DIR",
        path = path.display()
    )]
    Gguf {
        /// The file.
        path: PathBuf,
    },
    /// A file of 2 GiB or more, which no protobuf can have.
    #[error(
        "{path} has {bytes} bytes, and a protobuf holds less than 2 GiB; export the model with its weights in a file beside the \
         graph",
        path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Not a protobuf of an ONNX model.
    #[error("{path} is not an ONNX model; expected a protobuf with a graph", path = path.display())]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What the reader said, if it is no protobuf at all.
        #[source]
        source: Option<DecodeError>,
    },
    /// A weight's file is missing or too short.
    #[error(
        "tensor `{tensor}` stands in {path} at byte {offset}, {length} bytes long, and that file {found}; fetch or export the \
         model again, with all files of its folder",
        path = path.display(),
        found = found.map_or("is not there".to_owned(), |bytes| format!("has only {bytes}"))
    )]
    ExternalData {
        /// The tensor.
        tensor: String,
        /// The file.
        path: PathBuf,
        /// Where the tensor starts.
        offset: u64,
        /// Its bytes.
        length: u64,
        /// The bytes of the file, if it is there.
        found: Option<u64>,
    },
    /// A vector of weights, of a norm or a bias, with a NaN or an infinity.
    #[error(
        "tensor `{tensor}` holds a number that is not finite; the file is damaged: fetch or export the model again"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
    /// A graph that does not score trees.
    #[error("the graph {path} cannot be run", path = path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: GraphError,
    },
    /// A file beside the graph that cannot be read, or is no JSON.
    #[error("{path} cannot be used: {reason}; fetch or export the model again, with all files of its folder", path = path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A provider that the library lacks.
    #[error(
        "backend.ort.providers asks for `{provider}`, which this ONNX Runtime ({library}) lacks: it has {available}; \
         {advice}, or set backend.ort.fallback = true to go on without it",
        library = library.display()
    )]
    ProviderAbsent {
        /// The provider.
        provider: &'static str,
        /// The library.
        library: PathBuf,
        /// The providers that it has, as a list.
        available: String,
        /// Where to get one that has it.
        advice: &'static str,
    },
    /// A provider that the library has and that does not start.
    #[error(
        "the provider `{provider}` does not start: {reason}; check its driver and libraries, or set backend.ort.fallback = \
         true to go on without it"
    )]
    ProviderFailed {
        /// The provider.
        provider: &'static str,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// Memory of a provider that cannot be had, or work on it that the provider refuses.
    #[error(
        "the provider `{provider}` runs the model, and its memory cannot be worked with: {reason}; check that the device has \
         room and that the libraries of provider and runtime belong together"
    )]
    Device {
        /// The provider.
        provider: &'static str,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// An option of a provider that takes none, or with a zero byte in it.
    #[error("`{provider}.{key}`: the provider `{provider}` takes no such option here")]
    ProviderOption {
        /// The provider.
        provider: &'static str,
        /// The option.
        key: String,
    },
    /// ONNX Runtime refused the graph or an option.
    #[error("ONNX Runtime refuses {path} (operator sets: {opsets}): {reason}", path = path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The operator sets of the graph, as a list.
        opsets: String,
        /// What ONNX Runtime said.
        reason: String,
    },
}

/// Why a graph does not score trees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An input or output of the layout is missing.
    #[error("expected an {kind} `{name}` of {layout}, found {found}; write a graph with `upcycle export`")]
    Missing {
        /// `input` or `output`.
        kind: &'static str,
        /// The layout.
        layout: &'static str,
        /// Its name.
        name: String,
        /// Those that there are, as a list.
        found: String,
    },
    /// An input or output that the layout does not have.
    #[error("the {kind} `{name}` is not part of {layout}; write a graph with `upcycle export`")]
    Unknown {
        /// `input` or `output`.
        kind: &'static str,
        /// The layout.
        layout: &'static str,
        /// Its name.
        name: String,
    },
    /// A standard export that cannot be made to score anything here.
    #[error(
        "this is a standard export, and it cannot be rewritten; write a graph with `upcycle export` instead"
    )]
    Standard(#[source] RewriteError),
    /// A standard export whose folder does not say what the graph leaves out.
    #[error(
        "the graph is a standard export and does not tell {what}: expected {expected} in the same folder, found {found}"
    )]
    Unstated {
        /// What is missing.
        what: &'static str,
        /// Where it is looked for.
        expected: &'static str,
        /// What there is.
        found: String,
    },
    /// A graph without cached keys and values.
    #[error(
        "the graph has no outputs for keys and values (it has {found}), so that nothing of a pass could be kept; write one \
         with `upcycle export`"
    )]
    NoCache {
        /// The outputs that there are, as a list.
        found: String,
    },
    /// A dimension that is fixed where it has to differ from pass to pass, or the other way round.
    #[error("`{name}` has the shape {found}; expected {expected}")]
    Shape {
        /// The input or output.
        name: String,
        /// What would be right.
        expected: String,
        /// Its shape.
        found: String,
    },
    /// Another type of elements.
    #[error("`{name}` holds {found}; expected {expected}")]
    Element {
        /// The input or output.
        name: String,
        /// What would be right.
        expected: String,
        /// Its type.
        found: String,
    },
    /// A key of the metadata.
    #[error(
        "metadata key `{key}`: expected {expected}, found {found}; write the graph again with `upcycle export`"
    )]
    Metadata {
        /// The key.
        key: &'static str,
        /// What would be right.
        expected: &'static str,
        /// What there is.
        found: String,
    },
}
