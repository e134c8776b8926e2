//! Differences between Hugging Face's Jinja and minijinja.

use std::borrow::Cow;

use minijinja::value::{Value, ValueKind};

/// Turns `{% generation %}` blocks, which mark training targets, into `{% with %}` blocks, which minijinja knows. Both open a
/// scope. Line numbers stay the same. O(bytes).
pub(crate) fn replace_generation_blocks(source: &str) -> Cow<'_, str> {
    let mut plain = String::new();
    let mut kept = 0;
    for (at, _) in source.match_indices("{%") {
        let inner = &source[at + 2..];
        let Some(end) = inner.find("%}") else { break };
        let word = inner[..end].trim_matches(['-', '+']).trim();
        let block = match word {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => continue,
        };
        let start = at + 2 + inner.find(word).unwrap_or_default();
        plain.push_str(&source[kept..start]);
        plain.push_str(block);
        kept = start + word.len();
    }
    if kept == 0 {
        return Cow::Borrowed(source);
    }
    plain.push_str(&source[kept..]);
    Cow::Owned(plain)
}

/// The test `iterable`. As in Python, `none` is not iterable: templates ask `tools is iterable` to see if there are tools.
pub(crate) fn is_iterable(value: &Value) -> bool {
    value.kind() != ValueKind::None && value.try_iter().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generation_blocks_are_replaced() {
        for (source, expected) in [
            ("{% generation %}a{% endgeneration %}", "{% with %}a{% endwith %}"),
            ("x{%- generation -%}\n{%+endgeneration+%}y", "x{%- with -%}\n{%+endwith+%}y"),
            ("{%-\n generation\n-%}", "{%-\n with\n-%}"),
            (
                "{% generations %}{{ generation }}{% generation",
                "{% generations %}{{ generation }}{% generation",
            ),
            ("{% set generation = 1 %}é{%%}", "{% set generation = 1 %}é{%%}"),
        ] {
            assert_eq!(replace_generation_blocks(source), expected);
        }
    }
}
