//! Tests of reports.

mod fixture;
mod laws;
mod page;
mod plain;

use fixture::HOSTILE;
use roxmltree::{Document, Node, ParsingOptions};

/// The page as an XML reader sees it.
fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("{error}\n{page}"))
}

/// All text below an element, its words parted by one space.
fn text(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text).filter_map(|text| text.text());
    texts.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The elements of a name, in order.
fn elements<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> Vec<Node<'a, 'input>> {
    node.descendants().filter(|node| node.tag_name().name() == name).collect()
}

/// The elements of a class, in order.
fn classed<'a, 'input>(node: Node<'a, 'input>, class: &'static str) -> Vec<Node<'a, 'input>> {
    let has = |node: &Node<'_, '_>| {
        node.attribute("class").is_some_and(|classes| classes.split_whitespace().any(|one| one == class))
    };
    node.descendants().filter(has).collect()
}

/// The element of an id.
fn section<'a, 'input>(page: &'a Document<'input>, id: &str) -> Node<'a, 'input> {
    let found = page.descendants().find(|node| node.attribute("id") == Some(id));
    found.unwrap_or_else(|| panic!("nothing has the id {id}"))
}
