//! Memory stays constant over ten thousand steps on the real model, while sequences are opened and closed.
#![cfg(target_os = "linux")]

use std::fs;

use upcycle::{ConfigBuilder, CostCache, LoadedModel, PromptStyle, Registry};
use upcycle_bench::prompts::PromptSet;
use upcycle_core::{Request, TokenId};

const STEPS: usize = 10_000;
/// By then, tables, caches and scratch memory have their final size.
const WARM: usize = 3_000;

/// The resident set, in bytes.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
#[ignore = "takes minutes; scripts/test-long.sh runs it"]
fn ten_thousand_steps_take_no_more_memory() {
    let registry = Registry::builtin();
    let mut builder = ConfigBuilder::new(&registry);
    let model = upcycle_testkit::real_model().display().to_string();
    for (key, value) in [("model.path", &*model), ("drafter.name", "mixed"), ("drafter.budget", "4")] {
        builder.flag("a test", key, value).unwrap();
    }
    let config = builder.build().unwrap();
    let model = LoadedModel::load(&config, &registry, &mut |_| {}).unwrap();
    let (mut decoder, text) =
        model.into_decoder(config.drafter(), &registry, &CostCache::disabled()).unwrap();
    let own = PromptSet::built_in();
    let prompts: Vec<Vec<TokenId>> = (own.first_of_each_group(8).into_iter())
        .map(|prompt| text.encode(prompt.first_turn(), PromptStyle::Chat).unwrap())
        .collect();
    let (mut steps, mut rounds, mut warm) = (0, 0, None);
    for prompt in prompts.iter().cycle() {
        // Some generations are finished, some are dropped in the middle, some before the first token.
        let mut generation = decoder.generate(prompt, Request::greedy(64)).unwrap();
        let wanted = [64, 17, 0][rounds % 3];
        assert!(generation.by_ref().take(wanted).all(|token| token.is_ok()));
        steps += generation.stats().steps();
        rounds += 1;
        if steps >= WARM {
            warm.get_or_insert_with(resident);
        }
        if steps >= STEPS {
            break;
        }
    }
    let (before, after) = (warm.unwrap(), resident());
    println!("{rounds} sequences, {steps} steps: {before} bytes, then {after}");
    assert!(after < before + before / 100, "{before} bytes after {WARM} steps, {after} after {STEPS}");
}
