//! What an automatic budget costs where nothing pays: plain decoding beside a drafter that is always wrong, interleaved,
//! on the models and backends of the configurations that are named.
//!
//! `cargo run --release -p upcycle-tests --example worst_case -- configs/cpu.toml`

use std::error::Error;
use std::path::Path;

use upcycle::{ConfigBuilder, CostCache, DrafterConfig, LoadedModel, PromptStyle, Registry};
use upcycle_bench::prompts::PromptSet;
use upcycle_core::{CostCurve, Decoder, Drafter, NullDrafter, Request, TokenId, Verifier};
use upcycle_testkit::AdversarialDrafter;

const ROUNDS: usize = 5;
const TOKENS: usize = 96;
/// One prompt of each of the project's groups.
const EACH: usize = 1;

fn main() -> Result<(), Box<dyn Error>> {
    println!("time per token over plain decoding's, {ROUNDS} interleaved rounds: median (least to most)");
    for file in std::env::args().skip(1) {
        let registry = Registry::builtin();
        let mut builder = ConfigBuilder::new(&registry);
        builder.file(Path::new(&file))?;
        let config = builder.build()?;
        let mut model = LoadedModel::load(&config, &registry, &mut |_| {})?;
        let costs = model.costs(&DrafterConfig::default(), &CostCache::user_cache())?;
        let LoadedModel { text, mut verifier, .. } = model;
        let asked: Vec<Vec<TokenId>> = PromptSet::built_in()
            .first_of_each_group(EACH)
            .into_iter()
            .map(|prompt| text.encode(prompt.first_turn(), PromptStyle::Chat))
            .collect::<Result<_, _>>()?;

        let vocab = verifier.limits().vocab;
        let plain_texts = asked
            .iter()
            .map(|prompt| Ok([prompt.clone(), answer(&mut *verifier, NullDrafter, None, prompt)?.0].concat()))
            .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let (mut plain, mut wrong) = (0.0, 0.0);
            for prompt in &asked {
                plain += answer(&mut *verifier, NullDrafter, None, prompt)?.1;
                let drafter = AdversarialDrafter::new(plain_texts.clone(), vocab);
                let budget = Some((DrafterConfig::default(), costs.clone()));
                wrong += answer(&mut *verifier, drafter, budget, prompt)?.1;
            }
            ratios.push(wrong / plain);
        }
        ratios.sort_unstable_by(f64::total_cmp);
        println!("{file}: {:.3} ({:.3} to {:.3})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
    }
    Ok(())
}

/// The answer to a prompt, and the seconds of its steps. Without a budget, nothing is drafted.
fn answer(
    verifier: &mut dyn Verifier,
    drafter: impl Drafter,
    budget: Option<(DrafterConfig, Option<CostCurve>)>,
    prompt: &[TokenId],
) -> Result<(Vec<TokenId>, f64), Box<dyn Error>> {
    let decoder = Decoder::new(verifier, drafter);
    let mut decoder = match budget {
        Some((config, costs)) => config.apply_budget(decoder, costs),
        None => decoder.with_budget(0),
    };
    let mut generation = decoder.generate(prompt, Request::greedy(TOKENS))?;
    let tokens = generation.by_ref().collect::<Result<_, _>>()?;
    Ok((tokens, generation.stats().time.decode().as_secs_f64()))
}
