use proptest::prelude::*;
use upcycle_text::{Specials, StopStrings, TextError, Tokenizer};

use crate::model::{TOKENIZER, Tiny};

fn stops(tokenizer: &Tokenizer, strings: &[&str]) -> StopStrings {
    StopStrings::new(tokenizer, strings.iter().copied()).unwrap()
}

#[test]
fn a_stop_string_is_found_across_tokens_and_inside_one() {
    let tokenizer = Tiny::default().build().unwrap();
    let encode = |text| tokenizer.encode(text, Specials::Plain).unwrap();
    let stop = stops(&tokenizer, &["el"]);
    let hello = encode("hello");
    // The pieces are `hel` and `lo`; the stop string ends inside the first.
    assert!(stop.ends_with_stop(&hello[..1]));
    assert!(!stop.ends_with_stop(&hello));
    assert!(!stop.ends_with_stop(&[]));
    assert!(stops(&tokenizer, &["nothing", "hell"]).ends_with_stop(&hello));
    assert!(stops(&tokenizer, &["hello"]).ends_with_stop(&hello));
    assert!(!stops(&tokenizer, &["xhello"]).ends_with_stop(&hello));
}

#[test]
fn tokens_without_text_do_not_interrupt_a_stop_string() {
    let tokenizer = Tiny::default().build().unwrap();
    let end = tokenizer.encode("<|im_end|>", Specials::Parse).unwrap()[0];
    let [a, b] = tokenizer.encode("ab", Specials::Plain).unwrap()[..] else { panic!("`a` and `b` expected") };
    let stop = stops(&tokenizer, &["ab"]);
    assert!(stop.ends_with_stop(&[a, end, u32::MAX, b]));
    assert!(!stop.ends_with_stop(&[a, b, end]), "an earlier token completed it");
}

#[test]
fn empty_stop_strings_are_refused() {
    let error = StopStrings::new(&TOKENIZER, ["a", ""]).unwrap_err();
    assert!(matches!(error, TextError::EmptyStopString { index: 1 }));
    let none = StopStrings::new(&TOKENIZER, [""; 0]).unwrap();
    assert!(none.is_empty() && !none.ends_with_stop(&[19556]));
}

#[test]
fn the_name_of_a_special_token_stops_at_that_token() {
    let tokenizer = Tiny::default().build().unwrap();
    let end = tokenizer.encode("<|im_end|>", Specials::Parse).unwrap()[0];
    let letter = tokenizer.encode("a", Specials::Plain).unwrap()[0];
    let stop = stops(&tokenizer, &["<|im_end|>", "zz"]);
    assert!(stop.ends_with_stop(&[letter, end]));
    assert!(!stop.ends_with_stop(&[end, letter]));
    // The model may also spell the name.
    let spelled = tokenizer.encode("<|im_end|>", Specials::Plain).unwrap();
    assert!(stop.ends_with_stop(&spelled) && !spelled.contains(&end));
    // A user-defined token contributes its name.
    let think = tokenizer.encode("<think>", Specials::Plain).unwrap();
    assert!(stops(&tokenizer, &["<think>"]).ends_with_stop(&think));
}

#[test]
fn stop_strings_that_can_never_match_are_refused() {
    for (stop, token) in
        [("a<|im_end|>", true), ("<|im_end|>\n", true), ("\u{fffd}", false), ("a\u{fffd}b", false)]
    {
        let error = StopStrings::new(&Tiny::default().build().unwrap(), ["ok", stop]).unwrap_err();
        let expected = match &error {
            TextError::StopAroundToken { index: 1, token: name, .. } => token && name == "<|im_end|>",
            TextError::StopWithReplacement { index: 1, .. } => !token,
            _ => false,
        };
        assert!(expected, "{stop:?}: {error}");
    }
}

#[test]
fn the_filter_holds_back_and_cuts() {
    let mut filter = stops(&TOKENIZER, &["\nUser:", "END"]).filter();
    assert_eq!(filter.push("Hi\nUs"), "Hi");
    assert_eq!(filter.push("ual E"), "\nUsual ");
    assert_eq!(filter.push("N"), "");
    assert_eq!(filter.push("Ding, \nUser"), "");
    assert_eq!(filter.stopped_by(), Some("END"));
    assert_eq!(filter.push("more"), "");
    assert_eq!(filter.finish(), "");
    // `finish` has reset the filter.
    assert_eq!(filter.stopped_by(), None);
    assert_eq!(filter.push("a\nUser"), "a");
    assert_eq!(filter.finish(), "\nUser");
}

#[test]
fn the_longest_of_the_stop_strings_that_end_together_counts() {
    let mut filter = stops(&TOKENIZER, &["c", "abc", "bc"]).filter();
    assert_eq!(filter.push("xab"), "x");
    assert_eq!(filter.push("c"), "");
    assert_eq!(filter.stopped_by(), Some("abc"));
}

/// The text before the stop string that is completed first, and that stop string, by brute force.
fn oracle(text: &str, stops: &[String]) -> (String, Option<String>) {
    for end in 0..=text.len() {
        let mut completed: Vec<&String> =
            stops.iter().filter(|stop| text.as_bytes()[..end].ends_with(stop.as_bytes())).collect();
        completed.sort_by_key(|stop| stop.len());
        if let Some(&stop) = completed.last() {
            return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
        }
    }
    (text.to_owned(), None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_filter_shows_what_the_oracle_shows(
        pieces in prop::collection::vec("[abé]{0,4}", 0..10),
        stops in prop::collection::vec("[abé]{1,4}", 0..4),
    ) {
        let strings = StopStrings::new(&TOKENIZER, stops.clone()).unwrap();
        let mut filter = strings.filter();
        let mut shown = String::new();
        for (count, piece) in (1..).zip(&pieces) {
            shown.push_str(filter.push(piece));
            // Text is held back only if it is a prefix of a stop string.
            let (full, stop) = oracle(&pieces[..count].concat(), &stops);
            prop_assert!(full.starts_with(&shown));
            let held = &full[shown.len()..];
            prop_assert!(stop.is_some() || held.is_empty() || stops.iter().any(|stop| stop.starts_with(held)));
        }
        let stopped = filter.stopped_by().map(str::to_owned);
        shown.push_str(&filter.finish());
        prop_assert_eq!((shown, stopped), oracle(&pieces.concat(), &stops));
    }

    #[test]
    fn the_last_token_completes_a_stop_string_or_not(
        tokens in prop::collection::vec(0..110_u32, 0..12),
        stops in prop::collection::vec("[a-c<>he l]{1,3}|<think>", 0..5),
    ) {
        let tokenizer = Tiny::default().build().unwrap();
        let strings = StopStrings::new(&tokenizer, stops.clone()).unwrap();
        let bytes = |tokens: &[u32]| -> Vec<u8> {
            tokens.iter().flat_map(|&token| tokenizer.token_bytes(token).unwrap_or_default().to_vec()).collect()
        };
        let all = bytes(&tokens);
        let before = bytes(&tokens[..tokens.len().saturating_sub(1)]).len();
        let expected = (before + 1..=all.len())
            .any(|end| stops.iter().any(|stop| all[..end].ends_with(stop.as_bytes())));
        prop_assert_eq!(strings.ends_with_stop(&tokens), expected);
    }

    #[test]
    fn generation_stops_where_the_display_does(
        tokens in prop::collection::vec(17..49_152_u32, 1..24), from in 0..24_usize, length in 1..6_usize,
    ) {
        // A stop string taken from the text, so that it occurs.
        let text = TOKENIZER.decode(&tokens).unwrap();
        let stop: String = text.chars().skip(from).take(length).filter(|&c| c != '\u{fffd}').collect();
        prop_assume!(!stop.is_empty());
        let strings = StopStrings::new(&TOKENIZER, [stop]).unwrap();
        let stopping = (1..=tokens.len()).find(|&count| strings.ends_with_stop(&tokens[..count]));
        let (mut detokenizer, mut filter) = (TOKENIZER.detokenizer(), strings.filter());
        let mut cut = None;
        for (count, &token) in (1..).zip(&tokens) {
            filter.push(detokenizer.push(token).unwrap());
            cut = cut.or_else(|| filter.stopped_by().map(|_| count));
        }
        prop_assert_eq!(stopping, cut);
    }
}
