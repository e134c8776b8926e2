//! A trace as one file that a browser shows without a network.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::Trace;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In the order in which they build on each other.
const SCRIPT: &str = concat!(
    include_str!("layout.js"),
    include_str!("elements.js"),
    include_str!("frames.js"),
    include_str!("tree.js"),
    include_str!("panels.js"),
    include_str!("page.js"),
);

/// The page of `trace`: one HTML file that refers to no other.
///
/// Nothing that a prompt or a model says can become markup: the trace stands in the page as JSON without any `<`, the
/// script puts text into the page as text alone, and the page's own policy lets no other script run and nothing be
/// fetched.
#[must_use]
pub fn page(trace: &Trace) -> String {
    let json = serde_json::to_string(trace).expect("numbers, strings and lists of them are always JSON");
    // Only strings hold `<`, and there JSON can spell it otherwise.
    let json = json.replace('<', "\\u003c");
    let policy = format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src '{}'; script-src '{}'",
        hash(STYLE),
        hash(SCRIPT),
    );
    let parts =
        [("{{policy}}", &*policy), ("{{style}}", STYLE), ("{{trace}}", &json), ("{{script}}", SCRIPT)];
    let mut page =
        String::with_capacity(PAGE.len() + parts.iter().map(|(_, part)| part.len()).sum::<usize>());
    // One pass over the template, so that a mark in what is filled in stays text.
    let mut rest = PAGE;
    for (mark, part) in parts {
        let (before, after) = rest.split_once(mark).expect("the template holds its marks in this order");
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    page
}

/// What a policy calls an inline script or style: browsers hash the text between the tags.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
