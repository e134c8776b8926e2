//! The costs of passes on this machine: timed once when a model is first loaded, and kept in the user's cache.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use upcycle_checkpoint::gguf::{Gguf, Value};
use upcycle_core::cost::{TimingPlan, time_prompt_ranking};
use upcycle_core::{CostCurve, CostError, SystemClock, Verifier};

use crate::config::Config;
use crate::model_files::{CONFIG_FILE, GRAPH_FILE, model_folder};

/// Rows of the passes to time. They are few, so that timing is quick on a CPU. The cost of larger passes is extrapolated until a
/// budget tries them.
const ROWS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// Tokens in the cache while timing. They are few, since their prefill takes time too. Costs at longer contexts are learned while
/// decoding.
const CONTEXT: usize = 32;
const SWEEPS: usize = 5;
/// The most time that timing may take.
const LIMIT: Duration = Duration::from_secs(1);

/// The folder that keeps cost curves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostCache {
    folder: Option<PathBuf>,
}

impl CostCache {
    /// The user's cache folder (`$XDG_CACHE_HOME/upcycle/costs` on Linux). Without one, nothing is kept.
    #[must_use]
    pub fn user_cache() -> Self {
        let base = etcetera::choose_base_strategy().ok();
        Self { folder: base.map(|base| base.cache_dir().join("upcycle").join("costs")) }
    }

    /// No cache: nothing is kept.
    #[must_use]
    pub fn disabled() -> Self {
        Self { folder: None }
    }

    /// A cache in this folder, which is created when a curve is first kept.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// The curve for `key` and `verifier`: from the cache, or timed now and kept in the cache.
    ///
    /// Timing stops after a second, so a slow model gets fewer sizes. Eight more passes then time the ranking of prompt rows.
    /// `None` if a pass fails; decoding then reports the error. A cache that cannot be read or written is logged and ignored.
    pub fn curve(&self, key: &str, verifier: &mut dyn Verifier) -> Option<CostCurve> {
        let path = self.folder.as_ref().map(|folder| folder.join(file_name(key)));
        if let Some(curve) = path.as_deref().and_then(|path| kept(path, key)) {
            return Some(curve);
        }
        let start = Instant::now();
        let timing = TimingPlan { contexts: &[CONTEXT], rows: &ROWS, repetitions: SWEEPS };
        let timed = timing.run(verifier, &SystemClock::default(), &mut || start.elapsed() >= LIMIT);
        let curve = CostCurve::from_timings(key.to_owned(), &timed.ok()?).ok()?;
        let share = time_prompt_ranking(verifier, &SystemClock::default()).ok()?;
        let curve = curve.with_prompt_ranking_overhead(share).ok()?;
        tracing::info!(seconds = start.elapsed().as_secs_f64(), key, "measured forward-pass times");
        if let Some(path) = path
            && let Err(error) = keep(&path, &curve)
        {
            tracing::warn!(path = %path.display(), %error, "cannot write the cost cache");
        }
        Some(curve)
    }
}

/// Why a cost file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostFileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is not a cost curve.
    #[error(transparent)]
    Curve(#[from] CostError),
}

/// What a cost curve is valid for: the model, the backend with its options, the processor and its GPUs.
pub(crate) fn cost_key(model: &str, config: &Config, verifier: &dyn Verifier) -> String {
    let threads = verifier.threads().map_or_else(|| "?".to_owned(), |threads| threads.to_string());
    let name = &config.backend().name;
    let options = config.backend().options(name).and_then(|options| toml::to_string(options.table()).ok());
    format!(
        "{model} | {name} {} {:016x} | {threads} threads | {}",
        verifier.engine(),
        hash(options.unwrap_or_default()),
        processor()
    )
}

/// The part of a key for a GGUF file: the shapes and types of its tensors, which determine the cost of a pass. For a model in
/// several files, the first may have no tensors, so its metadata counts too.
pub(crate) fn model_key(gguf: &Gguf) -> String {
    let mut text = String::new();
    for tensor in gguf.tensors() {
        let _ = write!(text, "{} {:?} {:?};", tensor.name, tensor.dtype, tensor.shape);
    }
    if gguf.get("split.count").is_some() {
        let alone = |(_, value): &(&str, &Value)| !matches!(value, Value::Array(_));
        for (key, value) in gguf.metadata().filter(alone) {
            let _ = write!(text, "{key} {value:?};");
        }
    }
    format!("{} tensors, {} bytes, {:016x}", gguf.tensors().len(), gguf.file_len(), hash(&text))
}

/// The part of a key for a folder: its graph, which has the shapes and types of the weights. Without a graph: its configuration
/// and the sizes of its safetensors files.
pub(crate) fn folder_key(path: &Path) -> String {
    let folder = model_folder(path).unwrap_or(path);
    let graph = folder.join(GRAPH_FILE);
    if graph.exists() {
        let graph = fs::read(graph).unwrap_or_default();
        return format!("graph, {} bytes, {:016x}", graph.len(), hash(&graph));
    }
    let config = fs::read(folder.join(CONFIG_FILE)).unwrap_or_default();
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let weights = files.filter(|file| file.path().extension().is_some_and(|end| end == "safetensors"));
    let bytes: u64 = weights.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    format!("safetensors, {bytes} bytes, {:016x}", hash(&config))
}

/// The names of this machine's processor and NVIDIA GPUs, if system and driver report them.
fn processor() -> String {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let described = folders.filter_map(|folder| fs::read_to_string(folder.path().join("information")).ok());
    let mut gpus: Vec<String> = described.filter_map(|text| field(&text, "Model")).collect();
    gpus.sort_unstable();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = ["model name", "Processor", "CPU part"].iter().find_map(|name| field(&info, name));
    let named = named.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    [vec![named], gpus].concat().join(", ")
}

/// The first value in lines of `name : value` whose name begins with `name`.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let value = line.split_once(':')?.1.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// The costs in a file, if they are valid for `key`; others are logged and ignored.
pub(crate) fn named(path: &Path, key: &str) -> Result<Option<CostCurve>, CostFileError> {
    let curve = CostCurve::parse(&fs::read_to_string(path)?)?;
    if curve.key() == key {
        return Ok(Some(curve));
    }
    tracing::warn!(path = %path.display(), found = curve.key(), expected = key, "this cost file was measured for something else; ignored");
    Ok(None)
}

/// Reads a kept curve; one for another key, or a damaged one, is logged and ignored.
fn kept(path: &Path, key: &str) -> Option<CostCurve> {
    let text = fs::read_to_string(path).ok()?;
    match CostCurve::parse(&text) {
        Ok(curve) if curve.key() == key => Some(curve),
        Ok(curve) => {
            tracing::warn!(path = %path.display(), found = curve.key(), expected = key, "this cost cache was measured for something else; measuring again");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "invalid cost cache; measuring again");
            None
        }
    }
}

fn keep(path: &Path, curve: &CostCurve) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Readers and other writers never see half a file.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(curve.to_toml().as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// A file name for a key. The file also contains the key.
fn file_name(key: &str) -> String {
    format!("{:016x}.toml", hash(key))
}

/// FNV-1a (Fowler, Noll and Vo): the same on every machine, and enough to distinguish a few keys.
fn hash(bytes: impl AsRef<[u8]>) -> u64 {
    let fold = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.as_ref().iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

#[cfg(test)]
mod tests {
    use upcycle_checkpoint::gguf::write::GgufWriter;
    use upcycle_testkit::NaiveVerifier;

    use super::*;

    #[test]
    fn a_curve_is_timed_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CostCache::at(folder.path().join("new"));
        let mut verifier = NaiveVerifier::new(32, 1);
        let key = cost_key("model", &Config::default(), &verifier);
        let first = cache.curve(&key, &mut verifier).unwrap();
        // A second timing would not give the same numbers.
        assert_eq!(cache.curve(&key, &mut verifier).unwrap(), first);
        assert_ne!(cache.curve("another key", &mut verifier).unwrap(), first);
    }

    #[test]
    fn a_curve_of_something_else_or_a_damaged_one_is_timed_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CostCache::at(folder.path());
        let mut verifier = NaiveVerifier::new(32, 1);
        let path = folder.path().join(file_name("key"));
        for text in ["not a curve", "key = \"other\"\n[[context]]\ntokens = 1\nrows = [1]\nseconds = [1.0]\n"]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(cache.curve("key", &mut verifier).unwrap().key(), "key");
            assert_eq!(CostCurve::parse(&fs::read_to_string(&path).unwrap()).unwrap().key(), "key");
        }
    }

    #[test]
    fn a_first_file_without_tensors_is_keyed_by_its_metadata() {
        let key = |file_type: u32, split: bool| {
            let mut writer = GgufWriter::new().metadata("general.file_type", file_type);
            if split {
                writer = writer.metadata("split.count", 2_u16);
            }
            let mut file = tempfile::NamedTempFile::new().unwrap();
            writer.write_to(&mut file).unwrap();
            model_key(&Gguf::open_first(file.path()).unwrap())
        };
        assert_ne!(key(3, true), key(7, true));
        assert_eq!(key(3, true), key(3, true));
        // Of one file, the tensors alone.
        assert_eq!(key(3, false), key(7, false));
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        let text = "Model: \t\t NVIDIA H200\nIRQ:   1\nempty:  \n";
        assert_eq!(field(text, "Model").as_deref(), Some("NVIDIA H200"));
        assert_eq!((field(text, "empty"), field(text, "other")), (None, None));
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_ignored() {
        let mut verifier = NaiveVerifier::new(32, 1);
        let cache = CostCache::at("/dev/null/costs");
        assert!(cache.curve("key", &mut verifier).is_some());
    }
}
