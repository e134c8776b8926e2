//! Tree templates: reading gives what was written, and invalid templates are refused with the line.

use std::collections::HashSet;

use proptest::prelude::*;
use upcycle_core::{TemplateError, TreeTemplate};

/// A random valid tree: each path of ranks comes after its parent, and none twice.
fn paths() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..32), 0..40).prop_map(|pushes| {
        let mut paths: Vec<Vec<usize>> = vec![vec![]];
        for (parent, rank) in pushes {
            let path = [&paths[parent.index(paths.len())][..], &[rank]].concat();
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths.split_off(1)
    })
}

fn written(path: &[usize]) -> String {
    path.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

/// One node per line, the first on line 3.
fn toml(paths: &[Vec<usize>]) -> String {
    let nodes: String = paths.iter().map(|path| format!("  {:?},\n", written(path))).collect();
    format!("name = \"a test\"\nnodes = [\n{nodes}]\n")
}

proptest! {
    #[test]
    fn a_template_reads_as_written(
        paths in paths(),
        rank_acceptance in prop::option::of(prop::collection::vec(0.001_f32..=1.0, 1..32)),
    ) {
        let rank_acceptance = rank_acceptance.map_or(String::new(), |rank_acceptance| format!("rank_acceptance = {rank_acceptance:?}\n"));
        let template = TreeTemplate::parse(&(rank_acceptance + &toml(&paths))).unwrap();
        prop_assert_eq!(template.len(), paths.len());
        prop_assert_eq!(template.is_empty(), paths.is_empty());
        prop_assert_eq!(template.name(), "a test");
        prop_assert_eq!(template.ranks(), paths.iter().map(|path| path[path.len() - 1] + 1).max().unwrap_or(0));
        for (node, path) in template.nodes().iter().zip(&paths) {
            prop_assert_eq!((node.rank, node.depth), (path[path.len() - 1], path.len()));
            prop_assert_eq!(node.parent, paths.iter().position(|other| other == &path[..path.len() - 1]));
        }
        prop_assert_eq!(&TreeTemplate::parse(&template.to_toml()).unwrap(), &template);
    }

    #[test]
    fn every_head_of_the_value_order_is_the_most_valuable_tree(paths in paths()) {
        let template = TreeTemplate::parse(&toml(&paths)).unwrap();
        let value = |node: usize| {
            let above = |&node: &usize| template.nodes()[node].parent;
            let path = std::iter::successors(Some(node), above);
            path.map(|node| f64::from(template.nodes()[node].acceptance_probability)).product::<f64>()
        };
        let mut seen = HashSet::new();
        let mut last = f64::INFINITY;
        for &node in template.by_path_probability() {
            prop_assert!(template.nodes()[node].parent.is_none_or(|parent| seen.contains(&parent)));
            // Another order of multiplication may change the last bit.
            prop_assert!(value(node) <= last * (1.0 + 1e-12));
            last = value(node);
            prop_assert!(seen.insert(node));
        }
        prop_assert_eq!(seen.len(), template.len());
    }

    #[test]
    fn a_node_without_its_parent_is_refused_with_the_line(paths in paths(), at: prop::sample::Index) {
        let parents: Vec<usize> = (0..paths.len())
            .filter(|&node| paths.iter().any(|path| path[..path.len() - 1] == paths[node]))
            .collect();
        prop_assume!(!parents.is_empty());
        let mut paths = paths;
        let gone = paths.remove(parents[at.index(parents.len())]);
        let orphan = paths.iter().position(|path| path[..path.len() - 1] == gone).unwrap();
        let expected = TemplateError::MissingParent {
            line: orphan + 3,
            node: written(&paths[orphan]),
            parent: written(&gone),
        };
        prop_assert_eq!(TreeTemplate::parse(&toml(&paths)), Err(expected));
    }

    #[test]
    fn a_repeated_node_is_refused_with_the_line(paths in paths(), at: prop::sample::Index) {
        prop_assume!(!paths.is_empty());
        let twice = paths[at.index(paths.len())].clone();
        let expected = TemplateError::DuplicateNode { line: paths.len() + 3, node: written(&twice) };
        let mut paths = paths;
        paths.push(twice);
        prop_assert_eq!(TreeTemplate::parse(&toml(&paths)), Err(expected));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[a-z0-9\\[\\]\".=,\n ]{0,80}") {
        let _ = TreeTemplate::parse(&text);
        let _ = TreeTemplate::parse(&format!("name = \"\"\nnodes = [\"{text}\"]"));
    }
}
