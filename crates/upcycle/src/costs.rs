//! What passes cost here: timed once when a model is first loaded, and kept in the user's cache.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use upcycle_checkpoint::gguf::{Gguf, Value};
use upcycle_core::cost::{Timing, time_prompt_ranking};
use upcycle_core::{CostCurve, SystemClock, Verifier};

use crate::engine::{CONFIG_FILE, GRAPH_FILE, model_folder};
use crate::{Config, DrafterError, Raw};

/// The passes that are timed: what a CPU can afford. More rows are only extrapolated, until a budget dares to try them.
const ROWS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// Tokens cached meanwhile: few, since reading them costs too. Costs over more are learned while decoding.
const CONTEXT: usize = 32;
const SWEEPS: usize = 5;
/// How long it may take in all.
const LIMIT: Duration = Duration::from_secs(1);

/// Where cost curves are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostCache {
    folder: Option<PathBuf>,
}

impl CostCache {
    /// In the user's cache folder (`$XDG_CACHE_HOME/upcycle/costs` on Linux), or nowhere if there is none.
    #[must_use]
    pub fn of_user() -> Self {
        let base = etcetera::choose_base_strategy().ok();
        Self { folder: base.map(|base| base.cache_dir().join("upcycle").join("costs")) }
    }

    /// Nowhere: what is timed is not kept.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { folder: None }
    }

    /// In this folder, which is made when a curve is first kept.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// The curve for `key` and `verifier`: the kept one, or one timed now and kept. Timing ends after the pass that is at
    /// hand when a second is over, so that a slow model has fewer sizes; eight passes over a prompt's rows follow. None if
    /// there is not one size, or passes fail, which the first answer will tell better; a cache that cannot be read or
    /// written is said and passed over.
    pub fn curve(&self, key: &str, verifier: &mut dyn Verifier) -> Option<CostCurve> {
        let path = self.folder.as_ref().map(|folder| folder.join(file_name(key)));
        if let Some(curve) = path.as_deref().and_then(|path| kept(path, key)) {
            return Some(curve);
        }
        let start = Instant::now();
        let timing = Timing { contexts: &[CONTEXT], rows: &ROWS, sweeps: SWEEPS };
        let timed = timing.run(verifier, &SystemClock::default(), &mut || start.elapsed() >= LIMIT);
        let curve = CostCurve::of(key.to_owned(), &timed.ok()?).ok()?;
        let share = time_prompt_ranking(verifier, &SystemClock::default()).ok()?;
        let curve = curve.with_prompt_ranking_overhead(share).ok()?;
        tracing::info!(seconds = start.elapsed().as_secs_f64(), key, "timed what passes cost here");
        if let Some(path) = path
            && let Err(error) = keep(&path, &curve)
        {
            tracing::warn!(path = %path.display(), %error, "the costs of passes are not kept");
        }
        Some(curve)
    }
}

/// What a cost curve holds for: the model, what computes it and with which options, and the processor with the GPUs beside it.
pub(crate) fn cost_key(model: &str, config: &Config, verifier: &dyn Verifier) -> String {
    let threads = verifier.threads().map_or_else(|| "?".to_owned(), |threads| threads.to_string());
    let options = toml::to_string(&Raw::from(config).backend).unwrap_or_default();
    format!(
        "{model} | {} {} {:016x} | {threads} threads | {}",
        config.backend().name,
        verifier.engine(),
        hash(&options),
        processor()
    )
}

/// What a model costs depends on the shapes and types of its tensors, not on their values. Of a model in several files the first
/// may hold no tensor at all: there its metadata, with the type of its weights, counts too.
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

/// The same of a folder: its graph, whose file beside the weights has their shapes and types, or its configuration and the
/// sizes of its files of safetensors.
pub(crate) fn folder_key(path: &Path) -> String {
    // It has been loaded; if it went away since, its costs are those of no model.
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

/// The name of this machine's processor, as far as the system tells, and those of NVIDIA's GPUs as far as their driver does.
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

/// What a text of lines `name : value` says first under a name that begins so.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let value = line.split_once(':')?.1.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// The costs in a file that the configuration names, if they hold for `key`; those of something else are said and passed
/// over.
pub(crate) fn named(path: &Path, key: &str) -> Result<Option<CostCurve>, DrafterError> {
    let read = || Ok(CostCurve::parse(&fs::read_to_string(path)?)?);
    let curve = read().map_err(|source| DrafterError::Costs { path: path.to_owned(), source })?;
    if curve.key() == key {
        return Ok(Some(curve));
    }
    tracing::warn!(path = %path.display(), found = curve.key(), expected = key, "costs of something else: not used");
    Ok(None)
}

/// Reads a curve that was kept; one for another key, or a damaged one, is said and passed over.
fn kept(path: &Path, key: &str) -> Option<CostCurve> {
    let text = fs::read_to_string(path).ok()?;
    match CostCurve::parse(&text) {
        Ok(curve) if curve.key() == key => Some(curve),
        Ok(curve) => {
            tracing::warn!(path = %path.display(), found = curve.key(), expected = key, "costs of something else: timing anew");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "damaged costs: timing anew");
            None
        }
    }
}

fn keep(path: &Path, curve: &CostCurve) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Whole or not at all, whoever else writes it.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(curve.to_toml().as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// A file name for a key; the key itself stands in the file.
fn file_name(key: &str) -> String {
    format!("{:016x}.toml", hash(key))
}

/// FNV-1a (Fowler, Noll and Vo): enough to tell a handful of keys apart, and the same on every machine.
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
        let key = cost_key("model", &Config::try_from(Raw::default()).unwrap(), &verifier);
        let first = cache.curve(&key, &mut verifier).unwrap();
        // A second timing would not give the same to the last bit.
        assert_eq!(cache.curve(&key, &mut verifier).unwrap(), first);
        assert_ne!(cache.curve("another key", &mut verifier).unwrap(), first);
    }

    #[test]
    fn a_curve_of_something_else_or_a_damaged_one_is_timed_anew() {
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
    fn a_first_file_without_tensors_tells_models_apart() {
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
    fn a_cache_that_cannot_be_written_is_passed_over() {
        let mut verifier = NaiveVerifier::new(32, 1);
        let cache = CostCache::at("/dev/null/costs");
        assert!(cache.curve("key", &mut verifier).is_some());
    }
}
