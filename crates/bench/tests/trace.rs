//! The laws of a trace: it is whole, it is true, and nothing was different for it.

use std::io::Cursor;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use upcycle_bench::trace::{About, Learns, RecordingDrafter, SCHEMA, Trace, TraceError, collect, page};
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray};
use upcycle_core::mixed::{AdjacencySource, CandidateSource, MixedDrafter, NgramCache, SuffixMatcher};
use upcycle_core::{
    AcceptedPath, AdjacencyMatrix, Decoder, DraftContext, DraftTree, Drafter, NullDrafter, Outcome, Phase,
    PromptLookup, Request, Row, RowSelection, Sampling, SamplingConfig, Session, Stats, TokenId,
    TokenRecycling, TopK, TreeInput, TreeTemplate, Verifier,
};
use upcycle_testkit::{NaiveVerifier, RandomDrafter};
use upcycle_text::Tokenizer;

const VOCAB: usize = 64;

/// A vocabulary in which any text is likely to break: an end of turn, tags, and single bytes of `…` and `é`.
fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<String> =
        ["<|end|>", "</script>", "<img", "Ġ", "Ċ", "â", "Ģ", "¦", "Ã", "©"].map(str::to_owned).to_vec();
    tokens.extend(('A'..='Z').chain('a'..='z').map(String::from));
    tokens.truncate(VOCAB - 1);
    let mut kinds = vec![1; tokens.len()];
    kinds[0] = 3;
    let file = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", tokens.iter().map(String::as_str).collect::<StringArray>())
        .metadata("tokenizer.ggml.token_type", kinds)
        .metadata("tokenizer.ggml.merges", StringArray::new())
        .metadata("tokenizer.ggml.eos_token_id", 0_u32)
        .to_bytes()
        .unwrap();
    Tokenizer::from_gguf(&Gguf::read(&mut Cursor::new(file)).unwrap()).unwrap()
}

fn about() -> About {
    About {
        model: "naive".to_owned(),
        backend: "testkit".to_owned(),
        drafter: "any".to_owned(),
        learns: Learns::Rows,
    }
}

fn drafter(kind: usize, seed: u64) -> Box<dyn Drafter> {
    let vocab = tokenizer().vocab_size();
    let matrix = |k| AdjacencyMatrix::new(vocab, k).unwrap();
    match kind {
        0 => Box::new(NullDrafter),
        1 => Box::new(PromptLookup::new(NonZeroUsize::MIN, 5)),
        2 => Box::new(TokenRecycling::new(matrix(3), TreeTemplate::paper_80())),
        3 => Box::new(TokenRecycling::new(matrix(12), TreeTemplate::paper_80())),
        4 => {
            let sources: Vec<Box<dyn CandidateSource>> = vec![
                Box::new(AdjacencySource::new(matrix(8))),
                Box::new(NgramCache::new(2, 1 << 12)),
                Box::new(SuffixMatcher::default()),
            ];
            Box::new(MixedDrafter::new(sources).with_prompt_rows(RowSelection::All))
        }
        _ => Box::new(RandomDrafter::new((0..16).collect(), seed)),
    }
}

const DRAFTERS: usize = 6;

/// A generation to be traced.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    kind: usize,
    nodes: usize,
    chunk: usize,
    prompt: Vec<TokenId>,
    tokens: usize,
    temperature: f32,
    ends: Vec<TokenId>,
}

impl Case {
    fn decoder<D: Drafter>(&self, drafter: D) -> Decoder<NaiveVerifier, D> {
        let verifier = NaiveVerifier::new(tokenizer().vocab_size(), self.seed);
        Decoder::new(verifier, drafter).with_budget(self.nodes).with_prefill_chunk(self.chunk)
    }

    fn request(&self) -> Request {
        let config = SamplingConfig { temperature: self.temperature, ..SamplingConfig::default() };
        let sampling = Sampling::new(config).unwrap();
        Request { sampling, end_of_sequence: self.ends.clone(), ..Request::greedy(self.tokens) }
    }

    fn trace(&self) -> Trace {
        let mut decoder = self.decoder(RecordingDrafter::new(drafter(self.kind, self.seed)));
        trace(&mut decoder, &self.prompt, self.request()).unwrap()
    }

    /// Output and statistics without a trace.
    fn untraced(&self) -> (Vec<TokenId>, Stats) {
        let mut decoder = self.decoder(drafter(self.kind, self.seed));
        let mut session = [decoder.open(&self.prompt, self.request()).unwrap()];
        while session[0].finish_reason().is_none() {
            decoder.step(&mut session).unwrap();
        }
        let [session] = session;
        (session.output().to_vec(), decoder.close(session))
    }
}

fn trace<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, RecordingDrafter<D>>,
    prompt: &[TokenId],
    request: Request,
) -> Result<Trace, TraceError> {
    collect(decoder, &tokenizer(), prompt, request, about(), &mut |_| ControlFlow::Continue(()))
}

fn cases() -> impl Strategy<Value = Case> {
    let vocab = tokenizer().vocab_size() as TokenId;
    let temperature = prop::sample::select(vec![0.0_f32, 0.0, 0.9]);
    let prompt = prop::collection::vec(0..vocab, 1..12);
    (any::<u64>(), 0..DRAFTERS, 0..24_usize, 1..9_usize, prompt, 0..40_usize, temperature).prop_map(
        |(seed, kind, nodes, chunk, prompt, tokens, temperature)| Case {
            seed,
            kind,
            nodes,
            chunk,
            prompt,
            tokens,
            temperature,
            ends: vec![0],
        },
    )
}

proptest! {
    #[test]
    fn tracing_changes_neither_text_nor_steps(case in cases()) {
        let trace = case.trace();
        let (output, stats) = case.untraced();
        prop_assert_eq!(trace.output().collect::<Vec<_>>(), output);
        prop_assert_eq!(trace.steps.iter().map(|step| step.emitted as u32).collect::<Vec<_>>(), stats.emitted_per_step);
        prop_assert_eq!(trace.steps.iter().map(|step| step.accepted()).sum::<usize>(), stats.accepted);
        prop_assert_eq!(trace.steps.iter().map(|step| step.tokens.len() - 1).sum::<usize>(), stats.drafted);
    }

    #[test]
    fn a_trace_is_a_consistent_generation(case in cases()) {
        let trace = case.trace();
        let mut tokens = case.prompt.clone();
        let read = &trace.prompt;
        prop_assert_eq!(&read.tokens, &tokens);
        prop_assert_eq!(read.texts.concat(), tokenizer().decode(&tokens).unwrap());
        prop_assert_eq!(read.ranked.ids.len(), read.scored.len() * read.ranked.width);
        if case.tokens > 0 {
            prop_assert_eq!(read.scored.last(), Some(&(tokens.len() - 1)));
        }
        tokens.extend(read.sampled);
        for step in &trace.steps {
            let width = step.ranked.width;
            prop_assert_eq!(step.tokens[0], tokens[tokens.len() - 1], "the root is the last token");
            prop_assert_eq!((step.path[0], step.path.len()), (0, step.sampled.len()));
            for (index, (&node, &token)) in step.path.iter().zip(&step.sampled).enumerate() {
                match step.path.get(index + 1) {
                    Some(&next) => {
                        prop_assert_eq!(step.parents[next] as usize, node);
                        prop_assert_eq!(step.tokens[next], token);
                    }
                    None => prop_assert!(
                        (1..step.tokens.len()).all(|n| step.parents[n] as usize != node || step.tokens[n] != token)
                    ),
                }
                if trace.greedy {
                    prop_assert_eq!(step.ranked.ids[node * width], token);
                }
            }
            let rows = step.tokens.len();
            prop_assert_eq!((step.ranked.ids.len(), step.ranked.logits.len()), (rows * width, rows * width));
            prop_assert_eq!((step.parents.len(), step.probabilities.len()), (rows, rows));
            prop_assert_eq!(step.sources.len(), if trace.sources.is_empty() { 0 } else { rows });
            prop_assert_eq!(step.texts.len(), step.emitted);
            tokens.extend(&step.sampled[..step.emitted]);
            let shown = step.tokens.iter().chain(&step.ranked.ids).chain(&step.sampled);
            prop_assert!(shown.into_iter().all(|token| trace.labels.contains_key(token)));
        }
        let output = &tokens[case.prompt.len()..];
        prop_assert_eq!(trace.text(), tokenizer().decode(output).unwrap(), "also where a character is cut");
        prop_assert!(trace.specials.iter().all(|&token| token == 0));
    }

    #[test]
    fn a_page_contains_its_trace_and_no_foreign_markup(case in cases()) {
        let trace = case.trace();
        let page = page(&trace);
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"trace\">").unwrap();
        let (json, _) = rest.split_once("</script>").unwrap();
        prop_assert!(!json.contains('<'));
        prop_assert_eq!(serde_json::from_str::<Trace>(json).unwrap(), trace);
        prop_assert_eq!(page.matches("<script").count(), 2);
    }
}

/// Writes down all that it is told, and drafts at random.
struct Spy {
    k: usize,
    rows: RowSelection,
    draft: RandomDrafter,
    told: Arc<Mutex<Vec<String>>>,
}

impl Drafter for Spy {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        self.draft.draft(context, tree);
    }
    fn observe(&mut self, outcome: &Outcome<'_>) {
        let rows: Vec<_> = outcome.rows_with_candidates().collect();
        let told = format!(
            "{:?} {:?} {:?} {rows:?}",
            outcome.phase, outcome.accepted.nodes, outcome.accepted.sampled
        );
        self.told.lock().unwrap().push(told);
    }
    fn k(&self) -> usize {
        self.k
    }
    fn prompt_rows(&self) -> RowSelection {
        self.rows
    }
}

#[test]
fn a_recording_drafter_passes_on_what_the_inner_drafter_requests() {
    for k in [1, 3, 8, 11, 100] {
        for rows in [RowSelection::All, RowSelection::Last, RowSelection::Every(3)] {
            let told = |recorded: bool| {
                let told = Arc::default();
                let spy =
                    Spy { k, rows, draft: RandomDrafter::new((0..9).collect(), 5), told: Arc::clone(&told) };
                let drafter: Box<dyn Drafter> =
                    if recorded { Box::new(RecordingDrafter::new(spy)) } else { Box::new(spy) };
                let verifier = NaiveVerifier::new(VOCAB, 4);
                let mut decoder = Decoder::new(verifier, drafter).with_prefill_chunk(5);
                let prompt: Vec<TokenId> = (0..17).collect();
                decoder.generate(&prompt, Request::greedy(30)).unwrap().for_each(|token| {
                    token.unwrap();
                });
                drop(decoder);
                Arc::into_inner(told).unwrap().into_inner().unwrap()
            };
            assert_eq!(told(true), told(false), "{k} {rows:?}");
        }
    }
}

#[test]
fn a_recording_is_the_ranking_of_the_model() {
    let mut tree = DraftTree::new();
    tree.reset_chain(1, &[2]);
    let seq = upcycle_core::SeqId::new(0);
    let mut top = TopK::new(2);
    top.reset(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], 3);
    top.set_from_logits(Row { input: 0, node: 0 }, &[0.5, 2.000_4, 1.0]).unwrap();
    top.set_from_logits(Row { input: 0, node: 1 }, &[-0.123_456, -9.0, -8.0]).unwrap();
    let mut recorded = RecordingDrafter::new(NullDrafter);
    let accepted = AcceptedPath::default();
    let phase = Phase::Decode;
    recorded.observe(&Outcome {
        seq,
        phase,
        prefix: &[],
        tree: &tree,
        accepted: &accepted,
        top: &top,
        input: 0,
    });
    let last = recorded.last();
    assert_eq!(last.nodes, [0, 1]);
    assert_eq!((last.ranked.width, &last.ranked.ids[..]), (2, &[1, 2, 0, 2][..]));
    assert_eq!(last.ranked.logits, [2.0, 1.0, -0.123, -8.0]);
}

/// A text of this many tokens after a prompt of two chunks.
fn case(tokens: usize) -> Case {
    let prompt = vec![11, 12, 13, 14, 15, 16];
    Case { seed: 3, kind: 2, nodes: 8, chunk: 4, prompt, tokens, temperature: 0.0, ends: Vec::new() }
}

#[test]
fn an_interrupted_trace_keeps_its_steps() {
    let whole = case(30).trace();
    for passes in 1..6_usize {
        let mut decoder = case(30).decoder(RecordingDrafter::new(drafter(2, 3)));
        let mut left = passes;
        let mut watch = |_: &Session| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let request = case(30).request();
        let part =
            collect(&mut decoder, &tokenizer(), &case(30).prompt, request, about(), &mut watch).unwrap();
        assert_eq!((part.schema, part.finish.as_str()), (SCHEMA, "cancelled"));
        // The prompt takes two passes.
        assert_eq!(part.prompt.sampled.is_some(), passes >= 2);
        assert_eq!(part.steps.len(), passes.saturating_sub(2));
        for (part, whole) in part.steps.iter().zip(&whole.steps) {
            assert_eq!((&part.tokens, &part.sampled), (&whole.tokens, &whole.sampled));
        }
        assert!(page(&part).contains("cancelled"));
    }
}

#[test]
fn a_text_that_ends_within_an_accepted_path_is_cut_there() {
    let cut = (1..40).map(|tokens| case(tokens).trace()).find(|trace| {
        let last = trace.steps.last();
        last.is_some_and(|step| step.emitted < step.sampled.len())
    });
    let cut = cut.expect("some length ends within an accepted path");
    let step = &cut.steps[cut.steps.len() - 1];
    assert_eq!(step.accepted(), step.emitted, "the bonus token was not reached");
    assert_eq!(cut.finish, "max-tokens");
}

#[test]
fn a_failed_pass_is_an_error_and_leaves_no_sequence_open() {
    let verifier =
        NaiveVerifier::new(VOCAB, 1).failing(upcycle_testkit::Failure::Forward, 1).with_max_seqs(1);
    let mut decoder = Decoder::new(verifier, RecordingDrafter::new(NullDrafter));
    let error = trace(&mut decoder, &[1, 2], Request::greedy(5)).unwrap_err();
    assert!(matches!(error, TraceError::Decode(_)), "{error}");
    assert!(matches!(trace(&mut decoder, &[], Request::greedy(5)), Err(TraceError::Decode(_))));
    assert_eq!(trace(&mut decoder, &[1, 2], Request::greedy(5)).unwrap().output().count(), 5);
}

#[test]
fn tokens_without_text_have_a_name_or_a_number() {
    let vocab = tokenizer().vocab_size() as TokenId;
    // A model whose vocabulary is padded beyond the tokenizer's: it ranks ids that have no token, and may say one.
    let traces: Vec<_> = (0..20)
        .map(|seed| {
            let verifier = NaiveVerifier::new(2 * VOCAB, seed);
            trace(
                &mut Decoder::new(verifier, RecordingDrafter::new(NullDrafter)),
                &[0, 5],
                Request::greedy(1),
            )
        })
        .collect();
    assert!(traces.iter().any(|trace| matches!(trace, Err(TraceError::Text(_)))));
    let padded = traces.into_iter().flatten().find(|trace| trace.labels.keys().any(|&token| token >= vocab));
    let padded = padded.expect("some model ranks one and says another");
    assert_eq!(padded.labels[&0], "<|end|>");
    assert_eq!(padded.labels[&5], "<E2>");
    let beyond = padded.labels.keys().find(|&&token| token >= vocab).expect("the model ranks one");
    assert_eq!(padded.labels[beyond], format!("#{beyond}"));
    assert!(padded.specials.contains(&0) && padded.specials.contains(beyond));
}
