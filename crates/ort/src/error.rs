//! Errors of the library, of a graph and of loading a model.

use std::io;
use std::path::PathBuf;

use upcycle_checkpoint::trial::TrialError;
use upcycle_onnx::rewrite::RewriteError;
use upcycle_onnx::schema::DecodeError;

/// The oldest supported version of ONNX Runtime.
pub const NEEDED: &str = "1.24";
/// The command that fetches it.
pub const SETUP: &str = "./scripts/setup-ort.sh";

/// Why ONNX Runtime cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// It was not found.
    #[error(
        "cannot find ONNX Runtime {NEEDED} or newer (tried {tried}); run `{SETUP}`, or set backend.ort.library or \
         ORT_DYLIB_PATH to the library"
    )]
    NotFound {
        /// The places searched, as a list.
        tried: String,
    },
    /// The named file does not exist or is not ONNX Runtime.
    #[error(
        "cannot use {path} as ONNX Runtime: {reason}; expected version {NEEDED} or newer: run `{SETUP}`",
        path = path.display()
    )]
    Unusable {
        /// The library.
        path: PathBuf,
        /// The loader's message.
        reason: String,
    },
    /// It is too old.
    #[error(
        "{path} is ONNX Runtime {found}; expected version {NEEDED} or newer: run `{SETUP}`",
        path = path.display()
    )]
    TooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// The process has loaded another one.
    #[error(
        "this process has loaded ONNX Runtime from {loaded} and can load only one; use that one, or another process for {asked}",
        loaded = loaded.display(), asked = asked.display()
    )]
    Another {
        /// The loaded library.
        loaded: PathBuf,
        /// The requested library.
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
    /// The file did not pass its trial in a child process.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// The program answers no trials.
    #[error(
        "backend.ort.isolate needs a program that can be its own child; call upcycle::try_loads_in_child first in `main`, or set \
         backend.ort.isolate = false"
    )]
    NotIsolated,
    /// The file cannot be read.
    #[error("cannot read the model {path}: {source}; check that the path is right and readable", path = path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is a GGUF file.
    #[error(
        "{path} is a GGUF file, but ONNX Runtime reads ONNX graphs; export it first: `upcycle export {path} --to DIR`, \
         then set `model.path` to DIR",
        path = path.display()
    )]
    Gguf {
        /// The file.
        path: PathBuf,
    },
    /// The file exceeds the limit of a protobuf, which is 2 GiB.
    #[error(
        "{path} has {bytes} bytes, but a protobuf holds less than 2 GiB; export the model with its weights in a separate file",
        path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file is not a protobuf of an ONNX model.
    #[error("{path} is not an ONNX model; expected a protobuf with a graph{hint}", path = path.display())]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What it seems to be instead, and what to do; empty if that is not known.
        hint: &'static str,
        /// The reader's error, if it is not a protobuf at all.
        #[source]
        source: Option<DecodeError>,
    },
    /// The file of a weight is missing or too short.
    #[error(
        "tensor `{tensor}` should be {length} bytes at byte {offset} of {path}, but that file {found}; fetch or export the model \
         again, with all files of its folder",
        path = path.display(),
        found = found.map_or("does not exist".to_owned(), |bytes| format!("has only {bytes} bytes"))
    )]
    ExternalData {
        /// The tensor.
        tensor: String,
        /// The file.
        path: PathBuf,
        /// The offset of the tensor.
        offset: u64,
        /// The length of the tensor.
        length: u64,
        /// The length of the file, if it exists.
        found: Option<u64>,
    },
    /// The functions that the graph defines use themselves, or stand for too many nodes.
    #[error(
        "the functions of {path} stand for more than {limit} nodes; export the model again without functions, and use no graphs \
         of unknown origin",
        path = path.display()
    )]
    Functions {
        /// The file.
        path: PathBuf,
        /// The most nodes.
        limit: u64,
    },
    /// A weight is in a file outside of the graph's folder.
    #[error(
        "tensor `{tensor}` lies in {location:?}, outside of the graph's folder; expected a file in that folder: export the model \
         again, and use no graphs of unknown origin"
    )]
    ExternalPath {
        /// The tensor.
        tensor: String,
        /// The file that the graph names.
        location: PathBuf,
    },
    /// The weights of a norm or a bias contain a NaN or an infinity.
    #[error(
        "tensor `{tensor}` contains a value that is not finite; the file is damaged: fetch or export the model again"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
    /// The graph cannot score trees.
    #[error("cannot run the graph {path}", path = path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: GraphError,
    },
    /// A file beside the graph cannot be read, or is not JSON.
    #[error("cannot use {path}: {reason}; fetch or export the model again, with all files of its folder", path = path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The library lacks a provider.
    #[error(
        "backend.ort.providers asks for `{provider}`, which this ONNX Runtime ({library}) lacks: it has {available}; \
         {advice}, or set backend.ort.fallback = true to skip it",
        library = library.display()
    )]
    ProviderAbsent {
        /// The provider.
        provider: &'static str,
        /// The library.
        library: PathBuf,
        /// The providers of the library, as a list.
        available: String,
        /// How to get a library with this provider.
        advice: &'static str,
    },
    /// A provider failed to start.
    #[error(
        "the provider `{provider}` failed to start: {reason}; check its driver and libraries, or set backend.ort.fallback = \
         true to skip it"
    )]
    ProviderFailed {
        /// The provider.
        provider: &'static str,
        /// ONNX Runtime's message.
        reason: String,
    },
    /// The provider's memory cannot be allocated or used.
    #[error(
        "cannot use the memory of the provider `{provider}`: {reason}; check that the device has free memory and that the \
         libraries of provider and runtime belong together"
    )]
    Device {
        /// The provider.
        provider: &'static str,
        /// ONNX Runtime's message.
        reason: String,
    },
    /// The provider takes no options, or the option contains a zero byte.
    #[error(
        "the provider `{provider}` does not take the option `{key}`; remove it from `[backend.ort.{provider}]`"
    )]
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
        /// ONNX Runtime's message.
        reason: String,
    },
}

/// Why a graph cannot score trees.
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
        /// The ones that exist, as a list.
        found: String,
    },
    /// The layout has no such input or output.
    #[error("the {kind} `{name}` is not part of {layout}; write a graph with `upcycle export`")]
    Unknown {
        /// `input` or `output`.
        kind: &'static str,
        /// The layout.
        layout: &'static str,
        /// Its name.
        name: String,
    },
    /// The graph is a standard export that cannot be rewritten.
    #[error(
        "this is a standard export, and it cannot be rewritten; write a graph with `upcycle export` instead"
    )]
    Standard(#[source] RewriteError),
    /// The graph is a standard export, and its folder does not state what the graph leaves out.
    #[error(
        "the graph is a standard export and does not state {what}: expected {expected} in the same folder, found {found}"
    )]
    Unstated {
        /// What is missing.
        what: &'static str,
        /// Where it is expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The graph has no cached keys and values.
    #[error(
        "the graph has no outputs for keys and values (it has {found}); write one that has them with `upcycle export`"
    )]
    NoCache {
        /// The outputs, as a list.
        found: String,
    },
    /// A dimension is fixed but has to vary, or varies but has to be fixed.
    #[error("`{name}` has the shape {found}; expected {expected}")]
    Shape {
        /// The input or output.
        name: String,
        /// What is expected.
        expected: String,
        /// Its shape.
        found: String,
    },
    /// The elements have the wrong type.
    #[error("`{name}` holds {found}; expected {expected}")]
    Element {
        /// The input or output.
        name: String,
        /// What is expected.
        expected: String,
        /// Its type.
        found: String,
    },
    /// A metadata key is missing or wrong.
    #[error(
        "metadata key `{key}`: expected {expected}, found {found}; write the graph again with `upcycle export`"
    )]
    Metadata {
        /// The key.
        key: &'static str,
        /// What is expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}
