//! Figures as people read them.

use crate::results::Estimate;

/// What stands where there is no figure.
pub(crate) const NONE: &str = "–";

/// With a fixed number of decimals; [`NONE`] for what is not a number.
pub(crate) fn decimal(value: f64, places: usize) -> String {
    match value {
        _ if !value.is_finite() => NONE.to_owned(),
        _ if value.abs() >= 1e7 => format!("{value:.1e}"),
        _ => format!("{value:.places$}"),
    }
}

/// A speed-up, or another ratio of two things.
pub(crate) fn ratio(value: f64) -> String {
    decimal(value, 2)
}

/// A ratio with three decimals, for figures that are multiplied with each other.
pub(crate) fn factor(value: f64) -> String {
    decimal(value, 3)
}

/// Tokens a second, to three digits.
pub(crate) fn rate(value: f64) -> String {
    let places = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    decimal(value, places)
}

/// A share of 1.
pub(crate) fn percent(value: f64) -> String {
    unit(decimal(100.0 * value, 1), "%")
}

/// How far something lies above (`+`) or below (`-`) what it is held against, as a share of that.
pub(crate) fn change(value: f64) -> String {
    let number = decimal(100.0 * value, 1);
    unit(if value >= 0.0 && value.is_finite() { format!("+{number}") } else { number }, "%")
}

/// Seconds, in the unit that suits them.
pub(crate) fn seconds(value: f64) -> String {
    if value.abs() >= 1.0 { unit(decimal(value, 2), "s") } else { unit(rate(1000.0 * value), "ms") }
}

/// Seconds as a bare number of milliseconds, for columns that name the unit.
pub(crate) fn milliseconds(value: f64) -> String {
    rate(1000.0 * value)
}

/// A size, in the unit that suits it.
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

/// `1.43 [1.35-1.51]`, each of the three in the given form.
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

/// Text that a page, a drawing or a terminal can hold: control characters, which could move a cursor or break an
/// XML reader, are replaced by U+FFFD, and so are the two that XML forbids. Line breaks and tabs stay.
pub(crate) fn clean(text: &str) -> String {
    let sound = |c: char| match c {
        '\n' | '\t' => c,
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ if c.is_control() => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    text.replace("\r\n", "\n").chars().map(sound).collect()
}

/// [`clean`] text on one line: runs of white space are one space.
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
    fn what_is_not_a_number_is_shown_as_none() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for form in [ratio, factor, rate, percent, seconds, milliseconds] {
                assert_eq!(form(value), NONE);
            }
            assert_eq!(estimate(Estimate { value, low: 1.0, high: 2.0 }, ratio), NONE);
        }
    }

    #[test]
    fn figures_carry_the_unit_that_suits_them() {
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
    fn a_terminal_gets_no_escape_sequence() {
        assert_eq!(clean("\u{1b}[31mred\r\n\tnext\u{ffff}"), "\u{fffd}[31mred\n\tnext\u{fffd}");
        assert_eq!(one_line(" a\n\tb\u{7}  c "), "a b\u{fffd} c");
    }
}
