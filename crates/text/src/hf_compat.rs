//! Differences between the syntax of Hugging Face's Jinja and minijinja's.

use std::borrow::Cow;

/// Turns line ends of any kind into `\n`, as Jinja does. O(bytes).
pub(crate) fn replace_line_ends(source: &str) -> Cow<'_, str> {
    if source.contains('\r') {
        Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(source)
    }
}

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
