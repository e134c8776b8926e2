//! Inputs from seeds, damaged as files are: bits turned, numbers made extreme, pieces cut, doubled, moved and joined.

use arbitrary::{Result, Unstructured};

/// Numbers at which lengths, counts and offsets break.
const EXTREME: [u64; 16] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff8,
    0xffff_ffff_ffff_ffff,
];

/// Texts that mean something in one of the formats.
const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\n",
    ",",
    ":",
    "=",
    "#",
    "'",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "NaN",
    "\\ud800",
    "99999999999999999999",
    "{{",
    "}}",
    "{%",
    "%}",
    "{% for x in range(100000) %}",
    "{% endfor %}",
    "{{ x * 1000000 }}",
    "{% set x = x ~ x %}",
    "| tojson",
    ".split('')",
    "[[",
    "]]",
    "drafter",
    "backend.cpu",
    "é",
    "\u{202e}",
    "\u{0}",
    "<|im_end|>",
    "0.0.0.0",
    "🦀",
];

/// The largest input.
const LARGEST: usize = 1 << 20;

/// Input `index` of a sequence: one of `seeds`, with one to eight things done to it.
#[must_use]
pub fn input(seeds: &[Vec<u8>], index: u64) -> Vec<u8> {
    let mut choices = [0; 512];
    fastrand::Rng::with_seed(index).fill(&mut choices);
    let mut choices = Unstructured::new(&choices);
    // A choice fails when the numbers are used up: what has been done by then is the input.
    let mut bytes = Vec::new();
    let _ = damage(seeds, &mut choices, &mut bytes);
    bytes.truncate(LARGEST);
    bytes
}

fn damage(seeds: &[Vec<u8>], choices: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.clone_from(choices.choose(seeds)?);
    for _ in 0..choices.int_in_range(1..=8)? {
        once(seeds, choices, bytes)?;
    }
    Ok(())
}

fn once(seeds: &[Vec<u8>], choices: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    // Headers, where sizes stand, are at the begin: half of all places are there.
    let near = if choices.arbitrary()? { bytes.len() } else { bytes.len().min(256) };
    let at = choices.int_in_range(0..=near)?;
    let len = choices.int_in_range(0..=(bytes.len() - at).min(64))?;
    match choices.int_in_range(0..=9)? {
        0 => {
            let bit = choices.int_in_range(0..=7)?;
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
        }
        1 => {
            let value = choices.arbitrary()?;
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = value);
        }
        // A number of two, four or eight bytes, as it stands or aligned.
        2 | 3 => {
            let size = *choices.choose(&[2, 4, 8])?;
            let value = choices.choose(&EXTREME)?.to_le_bytes();
            let at = if choices.arbitrary()? { at } else { at / 4 * 4 };
            bytes.iter_mut().skip(at).zip(&value[..size]).for_each(|(byte, value)| *byte = *value);
        }
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..at + len)),
        6 => {
            let piece = bytes[at..at + len].to_vec();
            let times = choices.int_in_range(1..=64)?;
            let to = choices.int_in_range(0..=bytes.len())?;
            bytes.splice(to..to, piece.repeat(times));
        }
        7 | 8 => {
            let word = choices.choose(&WORDS)?.as_bytes();
            let end = if choices.arbitrary()? { at + len } else { at };
            bytes.splice(at..end, word.iter().copied());
        }
        // The begin of this and the end of another.
        _ => {
            let other = choices.choose(seeds)?;
            let from = choices.int_in_range(0..=other.len())?;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
    Ok(())
}
