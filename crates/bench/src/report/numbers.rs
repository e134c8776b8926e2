//! Formats numbers and text for people.

use crate::results::Estimate;

/// Shown instead of a missing figure.
pub(crate) const NONE: &str = "–";

/// A number with fixed decimals; [`NONE`] if it is not finite.
pub(crate) fn decimal(value: f64, places: usize) -> String {
    match value {
        _ if !value.is_finite() => NONE.to_owned(),
        _ if value.abs() >= 1e7 => format!("{value:.1e}"),
        _ => format!("{value:.places$}"),
    }
}

/// A ratio, such as a speed-up.
pub(crate) fn ratio(value: f64) -> String {
    decimal(value, 2)
}

/// A ratio with three decimals, for factors.
pub(crate) fn factor(value: f64) -> String {
    decimal(value, 3)
}

/// A rate with three digits, such as tokens per second.
pub(crate) fn rate(value: f64) -> String {
    let places = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    decimal(value, places)
}

/// A share as a percentage.
pub(crate) fn percent(value: f64) -> String {
    unit(decimal(100.0 * value, 1), "%")
}

/// A relative difference as a percentage with its sign.
pub(crate) fn change(value: f64) -> String {
    let number = decimal(100.0 * value, 1);
    unit(if value >= 0.0 && value.is_finite() { format!("+{number}") } else { number }, "%")
}

/// Seconds in a suitable unit.
pub(crate) fn seconds(value: f64) -> String {
    if value.abs() >= 1.0 { unit(decimal(value, 2), "s") } else { unit(rate(1000.0 * value), "ms") }
}

/// Seconds as milliseconds without a unit.
pub(crate) fn milliseconds(value: f64) -> String {
    rate(1000.0 * value)
}

/// A size in a suitable unit.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = value as f64;
    let mut name = UNITS[0];
    for larger in &UNITS[1..] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        name = larger;
    }
    if name == UNITS[0] { format!("{value} B") } else { unit(rate(size), name) }
}

/// `1.43 [1.35-1.51]`.
pub(crate) fn estimate(estimate: Estimate, form: fn(f64) -> String) -> String {
    if !estimate.value.is_finite() {
        return NONE.to_owned();
    }
    format!("{} [{}-{}]", form(estimate.value), form(estimate.low), form(estimate.high))
}

/// `1 prompt`, `2 prompts`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Text that is safe for a page, a chart or a terminal. U+FFFD replaces control characters and the two characters that XML
/// forbids. Line breaks and tabs stay.
pub(crate) fn clean(text: &str) -> String {
    let sound = |c: char| match c {
        '\n' | '\t' => c,
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ if c.is_control() => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    text.replace("\r\n", "\n").chars().map(sound).collect()
}

/// [`clean`] text on one line, with single spaces.
pub(crate) fn one_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unit(number: String, unit: &str) -> String {
    if number == NONE { number } else { format!("{number} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_shown_as_none() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for form in [ratio, factor, rate, percent, seconds, milliseconds] {
                assert_eq!(form(value), NONE);
            }
            assert_eq!(estimate(Estimate { value, low: 1.0, high: 2.0 }, ratio), NONE);
        }
    }

    #[test]
    fn numbers_get_a_suitable_unit() {
        assert_eq!(seconds(0.0123), "12.3 ms");
        assert_eq!(seconds(1.5), "1.50 s");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(17 << 30), "17.0 GiB");
        assert_eq!(bytes(u64::MAX), "1.7e7 TiB");
        assert_eq!(percent(0.012), "1.2 %");
        assert_eq!(rate(123.4), "123");
        assert_eq!(estimate(Estimate { value: 1.434, low: 1.3, high: 1.5 }, ratio), "1.43 [1.30-1.50]");
    }

    #[test]
    fn escape_sequences_are_removed() {
        assert_eq!(clean("\u{1b}[31mred\r\n\tnext\u{ffff}"), "\u{fffd}[31mred\n\tnext\u{fffd}");
        assert_eq!(one_line(" a\n\tb\u{7}  c "), "a b\u{fffd} c");
    }
}
