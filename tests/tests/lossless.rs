//! Drafting with an automatic budget gives the text of plain decoding on the real model.

use upcycle::{Config, ConfigBuilder, CostCache, LoadedModel, PromptStyle, Registry};
use upcycle_bench::prompts::PromptSet;
use upcycle_core::{Decoder, NullDrafter, Request, Sampling, SamplingConfig, TokenId, Verifier};

const PROMPTS: usize = 20;
const TOKENS: usize = 32;

fn model(drafter: &str) -> (LoadedModel, Config) {
    let registry = Registry::builtin();
    let mut builder = ConfigBuilder::new(&registry);
    let model = upcycle_testkit::real_model().display().to_string();
    for (key, value) in
        [("model.path", model.as_str()), ("drafter.name", drafter), ("drafter.budget", "auto")]
    {
        builder.flag("a test", key, value).unwrap();
    }
    let config = builder.build().unwrap();
    (LoadedModel::load(&config, &registry, &mut |_| {}).unwrap(), config)
}

#[test]
fn an_automatic_budget_gives_the_text_of_plain_decoding() {
    let (mut model, config) = model("mixed");
    let costs = model.costs(config.drafter(), &CostCache::disabled()).unwrap();
    let own = PromptSet::built_in();
    let prompts = own.first_of_each_group(PROMPTS.div_ceil(7)).into_iter().take(PROMPTS);
    let prompts: Vec<Vec<TokenId>> =
        prompts.map(|prompt| model.text.encode(prompt.first_turn(), PromptStyle::Chat).unwrap()).collect();
    assert_eq!(prompts.len(), PROMPTS);
    let vocab = model.verifier.limits().vocab;
    let mut drafted = 0;
    for temperature in [0.0, 0.7] {
        let sampling = SamplingConfig { temperature, seed: 11, ..SamplingConfig::default() };
        let sampling = Sampling::new(sampling).unwrap();
        // One drafter for all prompts: what it has learned must not change the text.
        let drafter = config.drafter().build(&Registry::builtin(), vocab, None, None).unwrap();
        let mut auto =
            config.drafter().apply_budget(Decoder::new(&mut *model.verifier, drafter), costs.clone());
        let mut drafts = |prompt: &[TokenId]| {
            let request = Request { sampling, ..Request::greedy(TOKENS) };
            let mut generation = auto.generate(prompt, request).unwrap();
            let text: Vec<TokenId> = generation.by_ref().map(Result::unwrap).collect();
            drafted += generation.stats().drafted;
            text
        };
        let with: Vec<_> = prompts.iter().map(|prompt| drafts(prompt)).collect();
        let mut plain = Decoder::new(&mut *model.verifier, NullDrafter);
        for (prompt, with) in prompts.iter().zip(with) {
            let request = Request { sampling, ..Request::greedy(TOKENS) };
            let text: Vec<TokenId> = plain.generate(prompt, request).unwrap().map(Result::unwrap).collect();
            assert_eq!(with, text, "temperature {temperature}");
        }
    }
    assert!(drafted > PROMPTS, "only {drafted} nodes were drafted, so that little was compared");
}
