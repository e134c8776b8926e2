//! The corpus matcher, compared with a brute-force search.

use std::sync::Arc;

use proptest::prelude::*;
use upcycle_core::mixed::{
    CandidateSource, Corpus, CorpusBuilder, CorpusMatcher, MAX_CONTEXT_TOKENS, MixedDrafter,
    PredictionContext, Proposals,
};
use upcycle_core::{
    Decoder, DraftContext, DraftTree, Drafter, NullDrafter, Request, SeqId, TokenId, TreeLimits,
};
use upcycle_testkit::NaiveVerifier;

/// So small that most texts repeat themselves.
const VOCAB: usize = 3;
/// The shortest match that proposes anything.
const SHORTEST: usize = 3;

fn corpus(vocab: usize, texts: &[Vec<TokenId>]) -> Arc<Corpus> {
    let mut builder = CorpusBuilder::new(vocab, usize::MAX);
    for text in texts {
        assert_eq!(builder.push(text), text.len());
    }
    Arc::new(builder.build())
}

fn proposals(corpus: &Arc<Corpus>, recent: &[TokenId]) -> Vec<(TokenId, u8)> {
    let mut proposals = Proposals::default();
    let context = PredictionContext { seq: SeqId::new(1), recent, depth: 0 };
    CorpusMatcher::new(Arc::clone(corpus)).propose(context, &mut proposals);
    proposals.items().to_vec()
}

/// For every position of `texts`: how many tokens match the end of `recent`, at most [`MAX_CONTEXT_TOKENS`], and the next token.
fn matches(texts: &[Vec<TokenId>], recent: &[TokenId]) -> Vec<(usize, TokenId)> {
    let mut found = Vec::new();
    // A token outside the vocabulary separates, like the end of a text.
    for text in texts.iter().flat_map(|text| text.split(|&token| token as usize >= VOCAB)) {
        for next in 1..text.len() {
            let pairs = text[..next].iter().rev().zip(recent.iter().rev()).take(MAX_CONTEXT_TOKENS);
            found.push((pairs.take_while(|(a, b)| a == b).count(), text[next]));
        }
    }
    found
}

/// The continuations of `matches`, each with the length of its longest match and the matches of that length it followed.
fn continuations(matches: &[(usize, TokenId)]) -> Vec<(TokenId, usize, usize)> {
    let tokens = 0..VOCAB as TokenId;
    let of = |token| {
        let longest = matches.iter().filter(|found| found.1 == token).map(|found| found.0).max()?;
        let times = matches.iter().filter(|&&found| found == (longest, token)).count();
        (longest >= SHORTEST).then_some((token, longest, times))
    };
    tokens.filter_map(of).collect()
}

/// Up to `count` texts of up to `len` tokens: random ones, and ones that repeat a few tokens.
fn texts(count: usize, len: usize) -> impl Strategy<Value = Vec<Vec<TokenId>>> {
    let tokens = |len| prop::collection::vec(0..=VOCAB as TokenId, 0..len);
    let repeated = (tokens(2), tokens(4), 0..len).prop_map(|(first, pattern, len)| {
        first.into_iter().chain(pattern.into_iter().cycle()).take(len).collect()
    });
    prop::collection::vec(prop_oneof![tokens(len), repeated], 0..count)
}

/// Random tokens, and the place and length of a part of the texts that follows them.
type End = (Vec<TokenId>, prop::sample::Index, usize);

fn end() -> impl Strategy<Value = End> {
    (
        prop::collection::vec(0..=VOCAB as TokenId, 0..=MAX_CONTEXT_TOKENS),
        any::<prop::sample::Index>(),
        0..=MAX_CONTEXT_TOKENS,
    )
}

/// The end of a text that occurs in the texts more often than by chance.
fn recent(texts: &[Vec<TokenId>], (mut recent, at, len): End) -> Vec<TokenId> {
    let all = texts.concat();
    if !all.is_empty() {
        let at = at.index(all.len());
        recent.extend(&all[at.saturating_sub(len)..at]);
    }
    recent.split_off(recent.len().saturating_sub(MAX_CONTEXT_TOKENS))
}

proptest! {
    /// With few enough matches to compare all, the proposals are all continuations, best first.
    #[test]
    fn a_small_corpus_proposes_what_brute_force_finds(texts in texts(4, 9), end in end()) {
        let recent = recent(&texts, end);
        let found = proposals(&corpus(VOCAB, &texts), &recent);
        let mut expected = continuations(&matches(&texts, &recent));
        expected.sort_by_key(|&(_, matched, times)| std::cmp::Reverse((matched, times)));
        let prior = |&(token, bin): &(TokenId, u8)| {
            let &(_, matched, times) = expected.iter().find(|other| other.0 == token)?;
            Some((matched, times, bin & 3))
        };
        let agreement = |times: usize, all: usize| match times {
            1 if all == 1 => 0,
            _ if times == all => 1,
            _ if 2 * times >= all => 2,
            _ => 3,
        };
        let best = expected.iter().map(|&(_, matched, times)| {
            let all = expected.iter().filter(|other| other.1 == matched).map(|other| other.2).sum();
            Some((matched, times, agreement(times, all)))
        });
        prop_assert_eq!(found.iter().map(prior).collect::<Vec<_>>(), best.collect::<Vec<_>>());
    }

    /// With any number of matches, the best proposal follows a longest match.
    #[test]
    fn the_best_proposal_follows_a_longest_match(texts in texts(6, 300), end in end()) {
        let recent = recent(&texts, end);
        let found = proposals(&corpus(VOCAB, &texts), &recent);
        let matches = matches(&texts, &recent);
        let longest = matches.iter().map(|found| found.0).max().filter(|&longest| longest >= SHORTEST);
        prop_assert_eq!(found.is_empty(), longest.is_none());
        if let (Some(&(token, _)), Some(longest)) = (found.first(), longest) {
            prop_assert!(matches.contains(&(longest, token)), "{token} after {longest} of {recent:?}");
        }
        let mut tokens: Vec<_> = found.iter().map(|found| found.0).collect();
        tokens.sort_unstable();
        tokens.dedup();
        prop_assert_eq!(tokens.len(), found.len(), "each token once");
        let bins = CorpusMatcher::new(corpus(VOCAB, &[])).confidence_bins();
        prop_assert!(found.iter().all(|&(_, bin)| usize::from(bin) < bins));
    }

    /// A corpus never takes more tokens than its maximum, returns what it took, and finds exactly that.
    #[test]
    fn a_full_corpus_holds_what_it_reported(texts in texts(5, 12), most in 0_usize..40, end in end()) {
        let recent = recent(&texts, end);
        let mut builder = CorpusBuilder::new(VOCAB, most);
        let taken: Vec<Vec<TokenId>> =
            texts.iter().map(|text| text[..builder.push(text)].to_vec()).collect();
        prop_assert!(builder.len() <= most);
        if let Some(cut) = (0..texts.len()).find(|&at| taken[at].len() < texts[at].len()) {
            prop_assert!(builder.len().max(1) + 1 >= most, "{} of {most}: tokens were left out too early", builder.len());
            prop_assert!(taken[cut + 1..].iter().all(Vec::is_empty));
        }
        let (cut, whole) = (Arc::new(builder.build()), corpus(VOCAB, &taken));
        prop_assert_eq!(proposals(&cut, &recent), proposals(&whole, &recent));
    }
}

#[test]
fn no_match_crosses_a_separator() {
    let (one, other) = (vec![1, 2, 3, 4], vec![5, 6, 7, 8]);
    let apart = corpus(9, &[one.clone(), other.clone()]);
    assert_eq!(proposals(&apart, &[2, 3, 4]), [], "the next text follows");
    assert_eq!(proposals(&apart, &[4, 5, 6]), [], "the match would span both texts");
    // 5, 6, 7 is the whole match; the tokens before it belong to another text.
    let bin = |recent: &[TokenId]| proposals(&apart, recent)[0];
    assert_eq!(bin(&[3, 4, 5, 6, 7]), bin(&[5, 6, 7]));
    let together = corpus(9, &[[one, other].concat()]);
    assert_eq!(proposals(&together, &[2, 3, 4])[0].0, 5);
    assert_ne!(proposals(&together, &[3, 4, 5, 6, 7])[0].1, bin(&[5, 6, 7]).1);
}

#[test]
fn every_token_of_a_match_counts() {
    for len in SHORTEST..=MAX_CONTEXT_TOKENS {
        // The texts differ in the first token, which decides the last.
        let text = |first: u32| {
            let middle = std::iter::repeat_n(0, len - 1);
            std::iter::once(first).chain(middle).chain([first + 30]).collect::<Vec<TokenId>>()
        };
        let texts: Vec<_> = (1..30).map(|i| text(i * 17 % 30)).collect();
        let corpus = corpus(60, &texts);
        for first in 1..30 {
            let recent = &text(first)[..len];
            assert_eq!(proposals(&corpus, recent)[0].0, first + 30, "{len} tokens");
        }
    }
}

#[test]
fn a_longer_match_has_a_higher_prior() {
    let text: Vec<TokenId> = (0..40).collect();
    let (source, corpus) = (CorpusMatcher::new(corpus(40, &[])), corpus(40, std::slice::from_ref(&text)));
    let priors: Vec<f32> = (SHORTEST..=MAX_CONTEXT_TOKENS)
        .map(|len| source.prior_hit_rate(proposals(&corpus, &text[20 - len..20])[0].1))
        .collect();
    assert!(
        priors.is_sorted() && priors[0] < 0.4 && priors[MAX_CONTEXT_TOKENS - SHORTEST] > 0.8,
        "{priors:?}"
    );
}

#[test]
fn a_corpus_survives_clear() {
    let text: Vec<TokenId> = (0..40).collect();
    let mut drafter =
        MixedDrafter::new(vec![Box::new(CorpusMatcher::new(corpus(40, std::slice::from_ref(&text))))]);
    let drafted = |drafter: &mut MixedDrafter| {
        let mut tree = DraftTree::new();
        tree.reset(19, TreeLimits { nodes: 12, leaves: 12, depth: 12 });
        drafter.draft(DraftContext { seq: SeqId::new(1), tokens: &text[..20] }, &mut tree);
        tree.tokens().to_vec()
    };
    let first = drafted(&mut drafter);
    assert!(first.len() > 4 && first == text[19..19 + first.len()], "{first:?}");
    drafter.clear();
    assert_eq!(drafted(&mut drafter), first);
}

#[test]
fn a_text_from_the_corpus_takes_fewer_steps() {
    const VOCAB: usize = 64;
    let decode = |drafter: &mut dyn FnMut() -> MixedDrafter| {
        let mut decoder = Decoder::new(NaiveVerifier::new(VOCAB, 3), drafter()).with_budget(8);
        let mut generation = decoder.generate(&[1, 2, 3], Request::greedy(200)).unwrap();
        let text: Vec<TokenId> = generation.by_ref().map(Result::unwrap).collect();
        (text, generation.stats().steps())
    };
    let mut plain = Decoder::new(NaiveVerifier::new(VOCAB, 3), NullDrafter);
    let answer: Vec<TokenId> =
        plain.generate(&[1, 2, 3], Request::greedy(200)).unwrap().map(Result::unwrap).collect();
    let with = |texts: &[Vec<TokenId>]| {
        let corpus = corpus(VOCAB, texts);
        decode(&mut || MixedDrafter::new(vec![Box::new(CorpusMatcher::new(Arc::clone(&corpus)))]))
    };
    let (text, steps) = with(std::slice::from_ref(&answer));
    assert_eq!(text, answer);
    assert!(steps < 60, "{steps} steps for {} tokens", text.len());
    assert_eq!(with(&[]), (answer, 199), "an empty corpus proposes nothing");
}

#[test]
fn a_corpus_takes_eight_bytes_a_token() {
    let text: Vec<TokenId> = (0..100_000_u32).map(|i| i.wrapping_mul(2_654_435_761) % 1000).collect();
    let corpus = corpus(1000, &[text]);
    assert_eq!(corpus.len(), 100_002);
    assert!(corpus.bytes() <= 8 * 100_002 + 4 * 1002, "{}", corpus.bytes());
}
