//! A cost curve as an SVG file.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, context};

use super::error::ReportError;
use super::figures;
use super::numbers::one_line;
use crate::results::Cost;

const TEMPLATE: &str = include_str!("page/cost.svg");

pub(crate) fn render(costs: &[Cost], caption: &str) -> Result<String, ReportError> {
    let figure = figures::costs(costs)?;
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let svg = environment
        .render_str(TEMPLATE, context! { figure => Serde(figure), caption => one_line(caption) })?;
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_names_give_valid_svg() {
        let cost = |context| Cost {
            setup: "a < b & \"c\"".to_owned(),
            context,
            rows: vec![1, 2, 8],
            seconds: vec![0.01, 0.012, 0.03],
        };
        let svg = render(&[cost(64), cost(256)], "an <engine> & a machine").unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts: String = document.descendants().filter_map(|node| node.text()).collect();
        assert!(texts.contains("an <engine> & a machine") && texts.contains("256 tokens cached"), "{texts}");
        assert!(document.descendants().any(|node| node.has_tag_name("polyline")), "{svg}");
        roxmltree::Document::parse(&render(&[], "nothing").unwrap()).unwrap();
    }
}
