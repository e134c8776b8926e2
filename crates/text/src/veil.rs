//! What a user typed stays text: names of special tokens in messages are not those tokens.
//!
//! A template puts messages between special tokens, as text; whether `<|im_end|>` in the result is the template's or was
//! typed can no longer be seen. So each name in a message is veiled, before the template sees it, by one character of
//! Unicode's private use that occurs in no message, and unveiled when the special tokens of the result have been found.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;

use crate::{Message, TextError};

/// The planes of private use, without the two at their ends that are no characters.
const PRIVATE: [std::ops::RangeInclusive<u32>; 2] = [0xF_0000..=0xF_FFFD, 0x10_0000..=0x10_FFFD];

/// The names that were veiled, each with what stands for it.
#[derive(Debug, Default)]
pub(crate) struct Veil {
    pub(crate) names: Vec<(char, String)>,
}

/// `messages` with every name that `specials` finds veiled; none if there is nothing to veil. O(bytes).
///
/// # Errors
/// [`TextError::Veil`] if the messages use up all characters that could stand for the names.
pub(crate) fn veil(
    messages: &[Message],
    specials: &AhoCorasick,
) -> Result<Option<(Vec<Message>, Veil)>, TextError> {
    let texts = || messages.iter().flat_map(|message| [&message.role, &message.content]);
    let found: BTreeSet<usize> = texts()
        .flat_map(|text| specials.find_iter(text.as_str()).map(|found| found.pattern().as_usize()))
        .collect();
    if found.is_empty() {
        return Ok(None);
    }
    let used: BTreeSet<char> =
        texts().flat_map(|text| text.chars()).filter(|&used| used >= '\u{F0000}').collect();
    let free = PRIVATE.into_iter().flatten().filter_map(char::from_u32).filter(|free| !used.contains(free));
    let signs: Vec<(usize, char)> = found.iter().copied().zip(free).collect();
    if signs.len() < found.len() {
        return Err(TextError::Veil { names: found.len() });
    }
    let mut veil = Veil::default();
    let mut hide = |text: &str| {
        let mut hidden = String::with_capacity(text.len());
        specials.replace_all_with(text, &mut hidden, |found, name, hidden| {
            let sign = signs.iter().find(|(pattern, _)| *pattern == found.pattern().as_usize());
            if let Some(&(_, sign)) = sign {
                if veil.names.iter().all(|(known, _)| *known != sign) {
                    veil.names.push((sign, name.to_owned()));
                }
                hidden.push(sign);
            }
            true
        });
        hidden
    };
    let messages: Vec<Message> =
        messages.iter().map(|message| Message::new(hide(&message.role), hide(&message.content))).collect();
    Ok(Some((messages, veil)))
}
