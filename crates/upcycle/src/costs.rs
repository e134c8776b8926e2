//! The costs of passes on this machine: timed once when a model is first loaded, and kept in the user's cache.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use upcycle_checkpoint::gguf::{Gguf, Value};
use upcycle_core::budget::Contradiction;
use upcycle_core::cost::{MachineLoad, TimingPlan, disturbance, time_prompt_ranking};
use upcycle_core::{AutoBudget, Clock, CostCurve, CostError, SystemClock, Verifier, file};

use crate::config::Config;
use crate::load_meter::LoadMeter;
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

/// Curves that could not be kept in a folder, for the rest of the process.
static UNKEPT: Mutex<Vec<CostCurve>> = Mutex::new(Vec::new());

/// The folder that keeps cost curves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostCache {
    folder: Option<PathBuf>,
    enabled: bool,
}

impl CostCache {
    /// The user's cache folder (`$XDG_CACHE_HOME/upcycle/costs` on Linux). Without one, curves are kept until the process ends.
    #[must_use]
    pub fn user_cache() -> Self {
        let base = etcetera::choose_base_strategy().ok();
        Self { folder: base.map(|base| base.cache_dir().join("upcycle").join("costs")), enabled: true }
    }

    /// No cache: nothing is kept.
    #[must_use]
    pub fn disabled() -> Self {
        Self { folder: None, enabled: false }
    }

    /// A cache in this folder, which is created when a curve is first kept. If it cannot be written, curves are kept until the
    /// process ends.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), enabled: true }
    }

    /// The curve for `key` and `verifier`: from the cache, or timed now and kept in the cache.
    ///
    /// Timing stops after a second, so a slow model gets fewer sizes. Eight more passes then time the ranking of prompt rows. Costs
    /// that were timed while other programs kept the machine busy are returned, but not kept.
    /// `None` if a pass fails; decoding then reports the error. A cache that cannot be read or written is logged and ignored.
    pub fn curve(&self, key: &str, verifier: &mut dyn Verifier) -> Option<CostCurve> {
        let processors = verifier.threads().unwrap_or(1);
        self.curve_by(key, verifier, &SystemClock::default(), &mut || LoadMeter::start(processors))
    }

    fn curve_by(
        &self,
        key: &str,
        verifier: &mut dyn Verifier,
        clock: &dyn Clock,
        meter: &mut dyn FnMut() -> LoadMeter,
    ) -> Option<CostCurve> {
        if let Some(curve) = self.kept(key) {
            return Some(curve);
        }
        tracing::info!(key, "timing what passes cost here");
        let (start, meter) = (Instant::now(), meter());
        let timing = TimingPlan { contexts: &[CONTEXT], rows: &ROWS, repetitions: SWEEPS };
        let timed = timing.run(verifier, clock, &mut || start.elapsed() >= LIMIT).ok()?;
        let share = time_prompt_ranking(verifier, clock).ok()?;
        let disturbance = disturbance(&timed, meter.load());
        let curve = CostCurve::from_timings(key.to_owned(), &timed).ok()?;
        let curve = curve.with_prompt_ranking_overhead(share).ok()?;
        let seconds = start.elapsed().as_secs_f64();
        match disturbance {
            None => {
                tracing::info!(seconds, key, "timed what passes cost here");
                self.keep(curve.clone());
            }
            Some(disturbance) => {
                tracing::info!(seconds, key, %disturbance, "timed passes on a busy machine; the costs are not kept");
            }
        }
        Some(curve)
    }

    /// Whether [`curve`](Self::curve) has the costs for `key`, and need not time passes.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.kept(key).is_some()
    }

    /// Compares the kept costs with the times of the passes that a budget was used for. `load` is the machine's during these. If
    /// they contradict each other, the kept costs are removed, so that passes are timed again the next time.
    ///
    /// Slower passes on a busy machine contradict nothing. Costs from another source, such as a cost file, are not touched.
    pub fn review(&self, budget: &AutoBudget, load: MachineLoad) {
        let (Some(saved), Some(Contradiction { rows, saved: kept, measured })) =
            (budget.saved(), budget.contradiction())
        else {
            return;
        };
        let busy = load.disturbance().is_some();
        if (busy && measured > kept) || self.kept(saved.key()).as_ref() != Some(saved) {
            return;
        }
        tracing::info!(
            rows,
            kept,
            measured,
            "passes do not take the kept time; they are timed again the next time"
        );
        unkept().retain(|curve| curve.key() != saved.key());
        if let Some(path) = self.path(saved.key())
            && let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove costs that do not hold");
        }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(file_name(key)))
    }

    fn kept(&self, key: &str) -> Option<CostCurve> {
        if !self.enabled {
            return None;
        }
        let in_folder = self.path(key).and_then(|path| kept(&path, key));
        in_folder.or_else(|| unkept().iter().find(|curve| curve.key() == key).cloned())
    }

    fn keep(&self, curve: CostCurve) {
        if !self.enabled {
            return;
        }
        let kept = match self.path(curve.key()) {
            Some(path) => keep(&path, &curve).map_err(|error| format!("{}: {error}", path.display())),
            None => Err("no home folder; set HOME or XDG_CACHE_HOME".to_owned()),
        };
        let Err(reason) = kept else { return };
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            tracing::warn!(
                "cannot keep the costs of passes, so each start times them for a second: {reason}"
            );
        });
        unkept().push(curve);
    }
}

fn unkept() -> MutexGuard<'static, Vec<CostCurve>> {
    UNKEPT.lock().unwrap_or_else(PoisonError::into_inner)
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
        verifier.description(),
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
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            // A folder of another kind, as `/dev/null/costs`, has no files either.
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                tracing::warn!(path = %path.display(), %error, "cannot read the kept costs; timing again");
            }
            return None;
        }
    };
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
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    file::replace(path, curve.to_toml().as_bytes())
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use upcycle_checkpoint::gguf::write::GgufWriter;
    use upcycle_core::{Decoder, NullDrafter, Request};
    use upcycle_testkit::NaiveVerifier;

    use super::*;

    /// The curve that is kept for `key`, or timed by a clock that ticks evenly on a machine with this load.
    fn curve(cache: &CostCache, key: &str, load: MachineLoad) -> Option<CostCurve> {
        let clock = TickingClock::default();
        cache.curve_by(key, &mut NaiveVerifier::new(32, 1), &clock, &mut || LoadMeter::fixed(load))
    }

    /// Each look at it takes a little longer than the one before, so that no two timings are equal.
    #[derive(Default)]
    struct TickingClock {
        time: AtomicU64,
        step: Option<u64>,
    }

    impl Clock for TickingClock {
        fn now(&self) -> Duration {
            static LOOKS: AtomicU64 = AtomicU64::new(0);
            let step = self.step.unwrap_or_else(|| 1_000_000 + LOOKS.fetch_add(1, Ordering::Relaxed));
            Duration::from_nanos(self.time.fetch_add(step, Ordering::Relaxed))
        }
    }

    const QUIET: MachineLoad = MachineLoad { waited: Some(0.0), taken: Some(0.0) };
    const BUSY: MachineLoad = MachineLoad { waited: Some(0.5), taken: Some(2.0) };

    #[test]
    fn a_curve_is_timed_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CostCache::at(folder.path().join("new"));
        let key = cost_key("model", &Config::default(), &NaiveVerifier::new(32, 1));
        assert!(!cache.has(&key));
        let first = curve(&cache, &key, QUIET).unwrap();
        // A second timing would not give the same numbers.
        assert_eq!(curve(&cache, &key, BUSY).unwrap(), first);
        assert!(cache.has(&key));
        assert_ne!(curve(&cache, "another key", QUIET).unwrap(), first);
    }

    #[test]
    fn a_curve_of_a_busy_machine_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CostCache::at(folder.path());
        let busy = curve(&cache, "key", BUSY).unwrap();
        assert!(!cache.has("key"));
        let quiet = curve(&cache, "key", QUIET).unwrap();
        assert_ne!(quiet, busy);
        assert_eq!(curve(&cache, "key", BUSY).unwrap(), quiet);
    }

    #[test]
    fn without_a_folder_a_curve_is_timed_once_in_a_process() {
        for (cache, key) in [
            (CostCache::at("/dev/null/costs"), "unwritable"),
            (CostCache { folder: None, enabled: true }, "homeless"),
        ] {
            let first = curve(&cache, key, QUIET).unwrap();
            assert_eq!(curve(&cache, key, QUIET).unwrap(), first);
        }
        let off = CostCache::disabled();
        assert_ne!(curve(&off, "off", QUIET), curve(&off, "off", QUIET));
    }

    /// A budget that started from `saved` and saw passes that take `factor` of it.
    fn used(saved: CostCurve, factor: f64) -> AutoBudget {
        let step = Some((saved.seconds(1, CONTEXT) * factor * 1e9) as u64);
        let clock = TickingClock { step, ..TickingClock::default() };
        let decoder = Decoder::new(NaiveVerifier::new(32, 1), NullDrafter).with_clock(clock);
        let mut decoder = decoder.with_auto_budget(AutoBudget::new(Some(saved)));
        decoder.generate(&[1, 2], Request::greedy(40)).unwrap().for_each(|token| assert!(token.is_ok()));
        decoder.auto_budget().unwrap().clone()
    }

    #[test]
    fn costs_that_runs_contradict_are_timed_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CostCache::at(folder.path());
        let saved = curve(&cache, "key", QUIET).unwrap();
        cache.review(&used(saved.clone(), 1.0), QUIET);
        cache.review(&used(saved.clone(), 3.0), BUSY);
        let other = CostCurve::new("key".to_owned(), vec![(1, vec![(1, 1.0)])]).unwrap();
        cache.review(&used(other, 0.2), QUIET);
        assert!(cache.has("key"), "nothing contradicts it");
        for (factor, load) in [(3.0, QUIET), (0.3, BUSY), (0.3, QUIET)] {
            cache.keep(saved.clone());
            cache.review(&used(saved.clone(), factor), load);
            assert!(!cache.has("key"), "{factor}, {load:?}");
        }
    }

    #[test]
    fn a_curve_of_something_else_or_a_damaged_one_is_timed_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CostCache::at(folder.path());
        let path = folder.path().join(file_name("key"));
        for text in ["not a curve", "key = \"other\"\n[[context]]\ntokens = 1\nrows = [1]\nseconds = [1.0]\n"]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(curve(&cache, "key", QUIET).unwrap().key(), "key");
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
}
