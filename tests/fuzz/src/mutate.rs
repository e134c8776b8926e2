//! Mutates seeds: flips bits, writes extreme numbers, and cuts, repeats, moves and joins pieces.

use arbitrary::{Result, Unstructured};

/// Numbers that often break lengths, counts and offsets.
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

/// Texts with a meaning in one of the formats.
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

/// Input `index` of the sequence: one of `seeds` with one to eight mutations.
#[must_use]
pub fn input(seeds: &[Vec<u8>], index: u64) -> Vec<u8> {
    let mut choices = [0; 512];
    fastrand::Rng::with_seed(index).fill(&mut choices);
    let mut choices = Unstructured::new(&choices);
    // When the random numbers are used up, the input is whatever was mutated so far.
    let mut bytes = Vec::new();
    let _ = mutate(seeds, &mut choices, &mut bytes);
    bytes.truncate(LARGEST);
    bytes
}

fn mutate(seeds: &[Vec<u8>], choices: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.clone_from(choices.choose(seeds)?);
    for _ in 0..choices.int_in_range(1..=8)? {
        mutate_once(seeds, choices, bytes)?;
    }
    Ok(())
}

fn mutate_once(seeds: &[Vec<u8>], choices: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    // Half of all mutations hit the beginning, where headers have their sizes.
    let reach = if choices.arbitrary()? { bytes.len() } else { bytes.len().min(256) };
    let at = choices.int_in_range(0..=reach)?;
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
        // A number of two, four or eight bytes, possibly aligned.
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
        // The beginning of this input and the end of another seed.
        _ => {
            let other = choices.choose(seeds)?;
            let from = choices.int_in_range(0..=other.len())?;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
    Ok(())
}
