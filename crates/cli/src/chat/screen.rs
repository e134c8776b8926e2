//! Prints answers to standard output.

use std::borrow::Cow;
use std::io::IsTerminal;

use console::style;
use upcycle::Piece;

use crate::failure::Failure;
use crate::output::{Output, colors};

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    output: &'a mut Output,
    /// In a terminal, control characters are made visible.
    terminal: bool,
    /// Whether drafted text is green.
    colored: bool,
    /// Whether the cursor is at the start of a line.
    line_start: bool,
}

impl<'a> Screen<'a> {
    pub(super) fn new(output: &'a mut Output, show_drafts: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colored = show_drafts && colors(&std::io::stdout());
        Self { output, terminal, colored, line_start: true }
    }

    /// The output below, for what is not shown but written.
    pub(super) fn output(&mut self) -> &mut Output {
        self.output
    }

    /// Prints a piece of an answer.
    pub(super) fn piece(&mut self, Piece { text, drafted, .. }: &Piece) -> Result<(), Failure> {
        let Some(last) = text.chars().last() else { return Ok(()) };
        self.line_start = last == '\n';
        let text = if self.terminal { visible(text) } else { Cow::Borrowed(text.as_str()) };
        if self.colored && *drafted {
            self.output.text(&style(text).green().force_styling(true).to_string())
        } else {
            self.output.text(&text)
        }
    }

    /// Ends the current line, if it is not empty.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.line_start, true) { self.output.text("\n") } else { Ok(()) }
    }

    /// Prints the output of a command.
    pub(super) fn say(&mut self, text: &str) -> Result<(), Failure> {
        let text = if self.terminal { visible(text) } else { Cow::Borrowed(text) };
        self.output.line(&text)
    }
}

/// Replaces control characters by visible symbols, so that text cannot move the cursor, change colours or write into the
/// terminal's input. Line breaks and tabs stay.
fn visible(text: &str) -> Cow<'_, str> {
    let harmless = |character: char| !character.is_control() || matches!(character, '\n' | '\t');
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let picture = |character: char| match character {
        _ if harmless(character) => character,
        '\u{7f}' => '\u{2421}',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + character as u32).unwrap_or('\u{fffd}'),
        _ => '\u{fffd}',
    };
    Cow::Owned(text.chars().map(picture).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_control_the_terminal() {
        assert_eq!(visible("a\tb\nc é 字"), "a\tb\nc é 字");
        assert_eq!(visible("\u{1b}[2J\r\u{7f}\u{9b}1m\0"), "␛[2J␍␡\u{fffd}1m␀");
        for code in (0..0xa0).filter_map(char::from_u32) {
            let shown = visible(&code.to_string()).into_owned();
            assert!(shown.chars().all(|shown| !shown.is_control() || "\n\t".contains(shown)), "{code:?}");
        }
    }
}
