//! The HTML page of a trace.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::record::Trace;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In order of dependency.
const SCRIPT: &str = concat!(
    include_str!("layout.js"),
    include_str!("elements.js"),
    include_str!("frames.js"),
    include_str!("tree.js"),
    include_str!("panels.js"),
    include_str!("page.js"),
);

/// The HTML page of `trace`. It refers to no other file.
///
/// Text of prompts and models cannot become markup: the trace is embedded as JSON without `<`, the script inserts text only
/// as text, and the page's content security policy forbids other scripts and all requests.
#[must_use]
pub fn page(trace: &Trace) -> String {
    let json = serde_json::to_string(trace).expect("a trace is always valid JSON");
    // `<` occurs only in strings, where JSON can escape it.
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
    // One pass over the template, so that a mark within inserted text stays text.
    let mut rest = PAGE;
    for (mark, part) in parts {
        let (before, after) = rest.split_once(mark).expect("the template has its marks in this order");
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    page
}

/// The hash by which a content security policy allows an inline script or style.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}
