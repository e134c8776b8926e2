//! How deep a template may be, told from its tokens.
//!
//! The engine's parser and compiler go down by recursion, and bound what stands in brackets; but a chain of operators, of filters
//! or of `elif` is as deep as it is long.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

/// The most tokens between `{{` and `}}`, or `{%` and `%}`; of 70 real templates none has 100.
const TOKENS: usize = 4096;

/// The most `elif` in a template; of 70 real ones none has more than 20.
const BRANCHES: usize = 1024;

/// Checks that a template is not too deep to be parsed. O(bytes), without recursion.
///
/// # Errors
/// It is too deep, or its tokens are not sound.
pub(crate) fn check(source: &str, syntax: SyntaxConfig) -> Result<(), Error> {
    let (mut tokens, mut branches) = (0, 0);
    for token in tokenize(source, false, syntax) {
        let (token, span) = token?;
        match token {
            Token::VariableStart | Token::BlockStart => tokens = 0,
            Token::Ident("elif") => branches += 1,
            _ => (),
        }
        tokens += 1;
        let (most, what) = match (tokens > TOKENS, branches > BRANCHES) {
            (true, _) => (TOKENS, "tokens in a tag"),
            (_, true) => (BRANCHES, "`elif` in a template"),
            _ => continue,
        };
        let reason = format!("expected at most {most} {what}, found more (line {})", span.start_line);
        return Err(Error::new(ErrorKind::SyntaxError, reason));
    }
    Ok(())
}
