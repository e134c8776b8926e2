//! Laws of the reports, on results made of any numbers.

use html5ever::tendril::TendrilSink;
use markup5ever_rcdom::RcDom;
use proptest::prelude::*;
use roxmltree::Node;

use crate::report::chart::ChartColor;
use crate::report::{html, text};
use crate::results::{Equality, Estimate, Results, Steps};

use super::{elements, fixture, parsed};

/// Figures that break charts, and any others.
fn figure() -> impl Strategy<Value = f64> {
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        -1.0,
        f64::MIN_POSITIVE,
        1e-9,
        1.0,
        1e9,
        f64::MAX,
    ];
    prop_oneof![2 => prop::sample::select(odd.to_vec()), 2 => 0.0..4.0_f64, 1 => any::<f64>()]
}

fn whole() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..100_usize, 1 => Just(usize::MAX), 1 => any::<usize>()]
}

prop_compose! {
    /// The rich results with all their numbers exchanged, indices included.
    fn any_results()(figures in prop::collection::vec(figure(), 97), counts in prop::collection::vec(whole(), 89))
        -> Results {
        let (mut figures, mut counts) = (figures.into_iter().cycle(), counts.into_iter().cycle());
        scrambled(fixture::rich(), &mut || figures.next().unwrap_or_default(), &mut || {
            counts.next().unwrap_or_default()
        })
    }
}

fn scrambled(
    mut results: Results,
    figure: &mut dyn FnMut() -> f64,
    count: &mut dyn FnMut() -> usize,
) -> Results {
    let arms = results.arms.len();
    let stray = |index: usize, count: usize| if count.is_multiple_of(7) { count } else { index % arms };
    for arm in &mut results.arms {
        arm.nodes = arm.nodes.map(|_| count());
        arm.baseline = stray(arm.baseline, count());
    }
    for cost in &mut results.costs {
        cost.rows.iter_mut().skip(1).for_each(|rows| *rows = count());
        cost.seconds.iter_mut().for_each(|seconds| *seconds = figure());
    }
    let mut estimate = || Estimate { value: figure(), low: figure(), high: figure() };
    for summary in &mut results.summaries {
        summary.arm = stray(summary.arm, count());
        summary.prompts = count();
        summary.speedup = summary.speedup.map(|_| estimate());
        summary.tokens_per_second = estimate();
        let Estimate { value, low, high } = estimate();
        summary.first_token_seconds = value;
        summary.prefill_tokens_per_second = low;
        summary.tokens_per_step = Some(high);
        summary.nodes_per_step = Some(low);
        summary.drafting_share = Some(value);
        summary.peak_memory = Some(count() as u64);
        summary.equality.wrong = count();
        summary.equality.exact = count();
        if let Some(steps) = &mut summary.steps {
            *steps = Steps { count: count(), drafter_memory: count() as u64, ..std::mem::take(steps) };
            (steps.time.draft, steps.time.forward) = (value, high);
            steps.accepted_by_depth.iter_mut().for_each(|accepted| *accepted = count() as u64);
            steps.sources.iter_mut().for_each(|source| source.drafted = count() as u64);
        }
        if let Some(prediction) = &mut summary.prediction {
            let Estimate { value, low, high } = estimate();
            (prediction.quotient, prediction.measured, prediction.cost_ratio) = (value, low, high);
        }
    }
    for record in &mut results.records {
        record.arm = stray(record.arm, count());
        record.round = count();
        let Estimate { value: gap, low: change, high: cap } = estimate();
        record.equality = Equality::WithinMargin { at: count(), gap, change, cap };
    }
    results
}

/// The numbers of an attribute: one, or pairs of them for lines.
fn numbers(value: &str) -> impl Iterator<Item = f64> {
    value.split([' ', ',']).filter(|part| !part.is_empty()).map(|part| part.parse().unwrap_or(f64::NAN))
}

/// Each number in a drawing is one, and each mark lies within the drawing.
fn check_drawing(svg: Node<'_, '_>) {
    let [width, height] = ["width", "height"].map(|side| {
        let inner = svg.descendants().find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "svg")));
        inner.and_then(|inner| inner.attribute(side)?.parse::<f64>().ok()).expect("a drawing has a size")
    });
    for node in svg.descendants().filter(Node::is_element) {
        for attribute in node.attributes() {
            let limit = match attribute.name() {
                "x" | "x1" | "x2" | "cx" | "width" => width,
                "y" | "y1" | "y2" | "cy" | "height" | "r" => height,
                "points" => {
                    for (place, number) in numbers(attribute.value()).enumerate() {
                        let limit = if place % 2 == 0 { width } else { height };
                        assert!((0.0..=limit).contains(&number), "{number} outside 0 to {limit} in {node:?}");
                    }
                    continue;
                }
                "opacity" | "stroke-width" | "font-size" => f64::MAX,
                _ => continue,
            };
            for number in numbers(attribute.value()) {
                assert!((0.0..=limit).contains(&number), "{number} outside 0 to {limit} in {node:?}");
            }
        }
    }
}

/// Every colour of a drawing is an color, so that dark mode reaches it.
fn check_colours(svg: Node<'_, '_>) {
    let colors: Vec<String> = ChartColor::all()
        .iter()
        .map(|color| {
            let color = color.rgb();
            format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
        })
        .collect();
    for node in svg.descendants().filter(Node::is_element) {
        for name in ["fill", "stroke"] {
            let Some(value) = node.attribute(name).filter(|value| *value != "none") else { continue };
            assert!(colors.iter().any(|color| color == value), "{value} is no color");
        }
    }
}

/// What holds of each page.
fn check_page(page: &str) {
    let parsed = parsed(page);
    let mut ids = Vec::new();
    for node in parsed.descendants().filter(Node::is_element) {
        ids.extend(node.attribute("id"));
    }
    for (place, id) in ids.iter().enumerate() {
        assert!(!ids[place + 1..].contains(id), "two elements have the id {id}");
    }
    for link in elements(parsed.root(), "a") {
        let target = link
            .attribute("href")
            .and_then(|href| href.strip_prefix('#'))
            .expect("a link leads within the page");
        assert!(ids.contains(&target), "nothing has the id {target}");
    }
    for figure in elements(parsed.root(), "figure") {
        let drawing =
            figure.children().find(|node| node.has_tag_name("svg")).expect("a figure holds a drawing");
        assert_eq!(drawing.attribute("role"), Some("img"));
        assert!(drawing.attribute("aria-label").is_some_and(|label| !label.is_empty()));
        assert!(drawing.children().any(|node| node.has_tag_name("title")));
        check_drawing(drawing);
        check_colours(drawing);
    }
    for table in elements(parsed.root(), "table") {
        let columns = elements(table, "thead").iter().map(|head| elements(*head, "th").len()).sum::<usize>();
        for row in elements(table, "tr").into_iter().skip(1) {
            let cells = elements(row, "td").len();
            let named =
                elements(row, "th").iter().any(|th| th.attribute("colspan") == Some(&columns.to_string()));
            assert!(cells == columns || (cells == 0 && named), "{cells} cells in {columns} columns");
        }
    }
    for outside in ["script", "link", "img", "iframe", "object", "embed", "image", "use", "base", "form"] {
        assert!(elements(parsed.root(), outside).is_empty(), "the page has an element {outside}");
    }
    let dom = html5ever::parse_document(RcDom::default(), html5ever::ParseOpts::default()).one(page);
    assert!(dom.errors.borrow().is_empty(), "{:?}", dom.errors.borrow());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_numbers_give_a_sound_page(results in any_results()) {
        check_page(&html(&results).unwrap());
    }

    #[test]
    fn any_numbers_fit_a_terminal(results in any_results(), width in 80..200_usize) {
        let text = text(&results, width);
        for line in text.lines() {
            prop_assert!(line.chars().count() <= width, "{}", line);
        }
        prop_assert!(!text.contains("NaN") && !text.contains("inf "));
    }
}

#[test]
fn the_fixtures_give_sound_pages() {
    for results in [fixture::empty(), fixture::small(), fixture::rich()] {
        check_page(&html(&results).unwrap());
    }
}
