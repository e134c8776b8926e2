//! Bounds the depth of a template's syntax tree by counting tokens.
//!
//! minijinja parses and compiles recursively. It limits the nesting of brackets, but a chain of operators, filters or `elif`
//! makes a tree as deep as the chain is long.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

/// The most tokens between `{{` and `}}`, or `{%` and `%}`. None of 70 real templates has 100.
const MAX_TOKENS: usize = 4096;

/// The most `elif` in a template. None of 70 real ones has more than 20.
const MAX_BRANCHES: usize = 1024;

/// Checks that a template can be parsed without exhausting the stack. O(bytes), without recursion.
///
/// # Errors
/// The template is too deep, or not valid Jinja.
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
        let (most, what) = match (tokens > MAX_TOKENS, branches > MAX_BRANCHES) {
            (true, _) => (MAX_TOKENS, "tokens in a tag"),
            (_, true) => (MAX_BRANCHES, "`elif` in a template"),
            _ => continue,
        };
        let reason = format!("expected at most {most} {what}, found more (line {})", span.start_line);
        return Err(Error::new(ErrorKind::SyntaxError, reason));
    }
    Ok(())
}
