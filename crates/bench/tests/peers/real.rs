//! The real `llama-server` on the real model, where `scripts/get-peers.sh` was run.

use std::path::{Path, PathBuf};

use upcycle_bench::peers::{LlamaServer, PeerDrafter, PeerError, PeerSpec};
use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::TokenId;
use upcycle_text::{Specials, Tokenizer};

/// Tokens of an answer, at most.
const TOKENS: usize = 64;

/// The server and the model; none, with a word about it, where one is missing.
fn real() -> Option<(PathBuf, PathBuf)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = workspace.join(".peers/native/bin/llama-server");
    let model = std::env::var_os("UPCYCLE_TEST_MODEL")
        .map_or_else(|| workspace.join(".models/SmolLM2-135M-Instruct.Q4_1.gguf"), PathBuf::from);
    for (path, script) in [(&program, "scripts/get-peers.sh"), (&model, "scripts/get-model.sh")] {
        if !path.is_file() {
            println!("skipped: {} is missing; {script} makes it", path.display());
            return None;
        }
    }
    Some((program, model))
}

fn start((program, model): &(PathBuf, PathBuf), text: &str) -> LlamaServer {
    LlamaServer::start(program, model, &PeerSpec::parse(text).unwrap(), 1, 512).unwrap()
}

fn prompt(model: &Path, question: &str) -> Vec<TokenId> {
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(model).unwrap()).unwrap();
    let text = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
    tokenizer.encode(&text, Specials::Parse).unwrap()
}

#[test]
fn plain_answers_are_the_same_each_time_after_a_full_prefill_and_end_with_the_end_token() {
    let Some(real) = real() else { return };
    let mut server = start(&real, "llama.cpp");
    assert!(server.version().contains("commit"), "{}", server.version());
    let prompt = prompt(&real.1, "Say only hi.");
    let first = server.answer(&prompt, TOKENS).unwrap();
    let second = server.answer(&prompt, TOKENS).unwrap();
    assert_eq!(first.tokens, second.tokens);
    assert_eq!((first.drafted, first.decode_tokens), (0, first.tokens.len() - 1));
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&real.1).unwrap()).unwrap();
    let ends = |token: &TokenId| tokenizer.eos_ids().contains(token);
    assert!(first.tokens.len() < TOKENS && ends(first.tokens.last().unwrap()));
    assert_eq!(first.tokens.iter().filter(|token| ends(token)).count(), 1);
    let cut = server.answer(&prompt, 3).unwrap();
    assert_eq!(cut.tokens, first.tokens[..3]);
    let long = server.answer(&vec![prompt[0]; 600], TOKENS);
    assert!(matches!(long, Err(PeerError::Status { status: 400, .. })), "{long:?}");
    assert!(server.peak_memory().is_none_or(|bytes| bytes > 1 << 20));
}

#[test]
fn every_peer_drafter_starts_and_respects_its_sizes() {
    let Some(real) = real() else { return };
    let prompt = prompt(&real.1, "Count from 1 to 30, separated by commas.");
    for drafter in PeerDrafter::ALL {
        let sizes = if drafter == PeerDrafter::NgramCache { "" } else { ":2:3" };
        let mut server = start(&real, &format!("llama.cpp:{drafter}{sizes}"));
        let answer = server.answer(&prompt, TOKENS).unwrap();
        assert_eq!(answer.drafted > 0, drafter != PeerDrafter::NgramCache, "{drafter}: {answer:?}");
        assert!(answer.drafted <= 3 * answer.decode_tokens, "{drafter}: {answer:?}");
        start(&real, &format!("llama.cpp:{drafter}"));
    }
}
