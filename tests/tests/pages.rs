//! The pages of the repository: every link between them goes somewhere, and the book has all pages of `docs/`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All Markdown files in a folder and its subfolders.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

/// The lines of a page outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

fn links(text: &str) -> Vec<&str> {
    let links = |line| str::split(line, "](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    prose(text).flat_map(links).filter(|link| !link.contains("://")).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text).filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let mut link_target = false;
            let title = heading.trim_start_matches('#').trim().replace("](", "\u{0}");
            title
                .chars()
                .filter(|&letter| {
                    link_target = (link_target || letter == '\u{0}') && letter != ')';
                    !link_target && (letter.is_alphanumeric() || " -_".contains(letter))
                })
                .map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() })
                .collect()
        })
        .collect()
}

#[test]
fn links_between_pages_go_somewhere() {
    let root = root();
    let front = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name));
    let mut broken = Vec::new();
    for page in pages(&root.join("docs")).into_iter().chain(front) {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let found = target.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn the_book_has_every_page() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: HashSet<PathBuf> = links(&summary).into_iter().map(|link| docs.join(link)).collect();
    let missing: Vec<PathBuf> = pages(&docs)
        .into_iter()
        .filter(|page| !page.ends_with("SUMMARY.md") && !listed.contains(page))
        .collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
}

#[test]
fn anchors_are_those_of_headings() {
    let page =
        "# A title: `code`, and more\n```\n# no heading\n```\n## [crates/core](../crates/core): the method\n";
    assert_eq!(
        anchors(page),
        HashSet::from(["a-title-code-and-more".into(), "cratescore-the-method".into()])
    );
    assert_eq!(links("see [a](b.md#c), [d](https://e)"), ["b.md#c"]);
}
