//! Keeps text that a user typed from becoming special tokens.
//!
//! A rendered prompt no longer shows whether `<|im_end|>` came from the template or from a message. So each name of a
//! special token in a message is escaped before rendering: one private-use character that no message contains replaces
//! it. The character becomes the name again once the template's own special tokens have been found.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use tokenizers::NormalizedString;

use crate::error::TextError;
use crate::template::Message;

/// The private-use planes of Unicode, each without the two noncharacters at its end.
const PRIVATE_USE: [std::ops::RangeInclusive<u32>; 2] = [0xF_0000..=0xF_FFFD, 0x10_0000..=0x10_FFFD];

/// The placeholders in escaped messages, each with the name it replaces.
#[derive(Debug, Default)]
pub(crate) struct Escapes(Vec<(char, String)>);

impl Escapes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the names back in place of their placeholders.
    pub(crate) fn unescape(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        self.0.iter().try_for_each(|(placeholder, name)| text.replace(*placeholder, name))
    }
}

/// Escapes every name that `specials` finds in `messages`; `None` if there is none. O(bytes).
///
/// # Errors
/// [`TextError::NoPlaceholder`] if the messages leave too few private-use characters.
pub(crate) fn escape_special_tokens(
    messages: &[Message],
    specials: &AhoCorasick,
) -> Result<Option<(Vec<Message>, Escapes)>, TextError> {
    let texts = || messages.iter().flat_map(|message| [&message.role, &message.content]);
    let found: BTreeSet<usize> = texts()
        .flat_map(|text| specials.find_iter(text.as_str()).map(|found| found.pattern().as_usize()))
        .collect();
    if found.is_empty() {
        return Ok(None);
    }
    let used: BTreeSet<char> =
        texts().flat_map(|text| text.chars()).filter(|&used| used >= '\u{F0000}').collect();
    let free =
        PRIVATE_USE.into_iter().flatten().filter_map(char::from_u32).filter(|free| !used.contains(free));
    let placeholders: Vec<(usize, char)> = found.iter().copied().zip(free).collect();
    if placeholders.len() < found.len() {
        return Err(TextError::NoPlaceholder { names: found.len() });
    }
    let mut escapes = Escapes::default();
    let mut escape = |text: &str| {
        let mut escaped = String::with_capacity(text.len());
        specials.replace_all_with(text, &mut escaped, |found, name, escaped| {
            let known = placeholders.iter().find(|(pattern, _)| *pattern == found.pattern().as_usize());
            if let Some(&(_, placeholder)) = known {
                if escapes.0.iter().all(|(other, _)| *other != placeholder) {
                    escapes.0.push((placeholder, name.to_owned()));
                }
                escaped.push(placeholder);
            }
            true
        });
        escaped
    };
    let messages: Vec<Message> = messages
        .iter()
        .map(|message| Message::new(escape(&message.role), escape(&message.content)))
        .collect();
    Ok(Some((messages, escapes)))
}
