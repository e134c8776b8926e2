//! Where Hugging Face's Jinja differs from minijinja's.

use std::borrow::Cow;

use minijinja::value::{Value, ValueKind};

/// `{% generation %}`, which marks in training what the model is to learn, as a block that minijinja knows: like the mark, it
/// has variables of its own. Lines stay where they are. O(bytes).
pub(crate) fn without_generation_marks(source: &str) -> Cow<'_, str> {
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

/// The test `iterable`: `none` is not, in Python, so that `tools is iterable` says whether there are tools.
pub(crate) fn is_iterable(value: &Value) -> bool {
    value.kind() != ValueKind::None && value.try_iter().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_blocks_and_all_else_stays() {
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
            assert_eq!(without_generation_marks(source), expected);
        }
    }
}
