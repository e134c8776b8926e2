//! The traces of the tests: one of the real model, and a large one.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use upcycle::{ConfigBuilder, CostCache, LoadedModel, PromptStyle, Registry};
use upcycle_bench::trace::{About, Learns, RecordingDrafter, Trace, collect};
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray};
use upcycle_core::{AdjacencyMatrix, Decoder, Request, Session, TokenRecycling, TreeTemplate};
use upcycle_testkit::NaiveVerifier;
use upcycle_testkit::real_model;
use upcycle_text::Tokenizer;

/// A prompt that would break unescaped markup, and that repeats itself, so that drafts are accepted.
pub(crate) const PROMPT: &str = "one two </script><img src=x onerror=alert(1)> three one two </script><img src=x onerror=alert(1)> \
                      three one two";

/// A trace of the real model with a drafter of several sources.
pub(crate) static REAL: LazyLock<Trace> = LazyLock::new(|| {
    let registry = Registry::builtin();
    let mut builder = ConfigBuilder::new(&registry);
    for (key, value) in [
        ("model.path", real_model().display().to_string().as_str()),
        ("drafter.name", "mixed"),
        ("drafter.budget", "12"),
        ("decode.max_tokens", "24"),
    ] {
        builder.flag("a test", key, value).unwrap();
    }
    let config = builder.build().unwrap();
    let model = LoadedModel::load(&config, &registry, &mut |_| {}).unwrap();
    let (decoder, text) = model.into_decoder(config.drafter(), &registry, &CostCache::disabled()).unwrap();
    let mut decoder = decoder.map_drafter(RecordingDrafter::new);
    let prompt = text.encode(PROMPT, PromptStyle::Raw).unwrap();
    let request = text.request(config.decode(), &text.stop_strings(config.decode()).unwrap());
    let mut watch = |_: &Session| ControlFlow::Continue(());
    collect(&mut decoder, &text.tokenizer, &prompt, request, About::from_config(&config), &mut watch).unwrap()
});

pub(crate) const STEPS: usize = 300;
pub(crate) const NODES: usize = 80;

/// A vocabulary of 400 syllables, after the three bytes of `…`.
fn tokenizer() -> Tokenizer {
    let syllable = |id: usize| {
        let [first, second] = [id % 26, id / 26].map(|letter| char::from(b'a' + letter as u8));
        format!("{}{first}{second}", ["", "Ġ", "Ċ"][id % 3])
    };
    let bytes = ["<|end|>", "â", "Ģ", "¦"].map(str::to_owned);
    let tokens: StringArray = bytes.into_iter().chain((4..400).map(syllable)).collect();
    let mut kinds = vec![1; 400];
    kinds[0] = 3;
    let file = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.token_type", kinds)
        .metadata("tokenizer.ggml.merges", StringArray::new())
        .to_bytes()
        .unwrap();
    Tokenizer::from_gguf(&Gguf::read(&mut Cursor::new(file)).unwrap()).unwrap()
}

/// A large trace: 300 steps of 80 nodes.
pub(crate) static SYNTHETIC: LazyLock<Trace> = LazyLock::new(|| {
    let tokenizer = tokenizer();
    let vocab = tokenizer.vocab_size();
    let drafter = TokenRecycling::new(AdjacencyMatrix::new(vocab, 8).unwrap(), TreeTemplate::paper_80());
    let verifier = NaiveVerifier::new(vocab, 7).with_predictability(0.7).with_max_context(4096);
    let mut decoder = Decoder::new(verifier, RecordingDrafter::new(drafter));
    let about = || About {
        model: "naive.gguf".to_owned(),
        backend: "testkit".to_owned(),
        drafter: "recycling".to_owned(),
        learns: Learns::Matrix,
    };
    let mut run = |tokens| {
        let prompt: Vec<_> = (0..60).collect();
        let mut watch = |_: &Session| ControlFlow::Continue(());
        collect(&mut decoder, &tokenizer, &prompt, Request::greedy(tokens), about(), &mut watch).unwrap()
    };
    // The first text fills the matrix, so that the second gets full trees.
    run(1500);
    let mut trace = run(2000);
    trace.steps.truncate(STEPS);
    trace.rest.clear();
    assert_eq!(trace.steps.len(), STEPS);
    let nodes: usize = trace.steps.iter().map(|step| step.tokens.len() - 1).sum();
    assert!(nodes > STEPS * NODES * 9 / 10, "{nodes}");
    trace
});
