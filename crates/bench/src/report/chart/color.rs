//! The colours of charts. The style sheet replaces them in dark mode.

use plotters::style::RGBColor;
use serde::Serialize;

/// A colour of charts. The SVG holds the light variant as an attribute. The style sheet selects elements by this attribute and
/// sets the custom property of the same name. So a chart copied out of the page keeps its colours. Light variants are unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ChartColor {
    /// The name of the custom property, without dashes.
    pub(crate) name: &'static str,
    light: &'static str,
    dark: &'static str,
}

const fn color(name: &'static str, light: &'static str, dark: &'static str) -> ChartColor {
    ChartColor { name, light, dark }
}

pub(crate) const TEXT: ChartColor = color("color-text", "#1F2328", "#E6EAEF");
pub(crate) const QUIET: ChartColor = color("color-quiet", "#59636E", "#9BA5B0");
pub(crate) const GRID: ChartColor = color("color-grid", "#E1E5EA", "#30373F");
/// The background.
pub(crate) const PAPER: ChartColor = color("color-paper", "#FFFFFF", "#171B20");

/// Plain decoding on our backends.
pub(crate) const PLAIN: ChartColor = color("color-plain", "#868E97", "#8B949E");
/// Plain decoding of another program.
pub(crate) const PEER_PLAIN: ChartColor = color("color-peer-plain", "#C08FB4", "#8A5F80");
/// Another program's drafter.
pub(crate) const PEER_DRAFT: ChartColor = color("color-peer-draft", "#9B3F86", "#D58AC4");

/// Our drafters in order of appearance, distinguishable for the colour-blind (after Okabe and Ito).
const DRAFTERS: [ChartColor; 5] = [
    color("color-drafter-1", "#0072B2", "#4FA9E0"),
    color("color-drafter-2", "#D55E00", "#F08A4B"),
    color("color-drafter-3", "#00916B", "#2FBF94"),
    color("color-drafter-4", "#B8860B", "#E3B341"),
    color("color-drafter-5", "#4B3FA8", "#A79BF0"),
];

/// An ordered scale: each colour is darker, or brighter in dark mode (after viridis).
const ORDERED: [ChartColor; 6] = [
    color("color-step-1", "#58B368", "#7A6FD0"),
    color("color-step-2", "#12968C", "#4A8FD6"),
    color("color-step-3", "#2478B5", "#22A79B"),
    color("color-step-4", "#3A4CA6", "#4FC46A"),
    color("color-step-5", "#6A2C91", "#B5DE2B"),
    color("color-step-6", "#2B0A3D", "#FDE725"),
];

impl ChartColor {
    /// The colour of the drafter with this index. They repeat after five.
    pub(crate) fn drafter(place: usize) -> Self {
        DRAFTERS[place % DRAFTERS.len()]
    }

    /// The colour of item `index` of `count` ordered items. With more than six, neighbours share colours.
    pub(crate) fn ordered(index: usize, count: usize) -> Self {
        let last = ORDERED.len() - 1;
        let span = count.saturating_sub(1).max(1);
        // A few items are spread over the whole scale.
        ORDERED[((index * last + span / 2) / span).min(last)]
    }

    /// All colours, for the style sheet.
    pub(crate) fn all() -> Vec<Self> {
        let mut colors = vec![TEXT, QUIET, GRID, PAPER, PLAIN, PEER_PLAIN, PEER_DRAFT];
        colors.extend(DRAFTERS);
        colors.extend(ORDERED);
        colors
    }

    /// The light variant.
    pub(crate) fn rgb(self) -> RGBColor {
        let channel = |at: usize| {
            self.light.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or_default()
        };
        RGBColor(channel(1), channel(3), channel(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_variants_and_names_are_unique() {
        let colors = ChartColor::all();
        for (place, color) in colors.iter().enumerate() {
            let RGBColor(r, g, b) = color.rgb();
            assert_eq!(format!("#{r:02X}{g:02X}{b:02X}"), color.light, "{}", color.name);
            assert_eq!(color.dark.len(), 7);
            for other in &colors[place + 1..] {
                assert!(
                    color.light != other.light && color.name != other.name,
                    "{} {}",
                    color.name,
                    other.name
                );
            }
        }
    }

    #[test]
    fn ordered_colors_span_the_whole_scale() {
        for steps in 1..20 {
            let colors: Vec<_> = (0..steps).map(|place| ChartColor::ordered(place, steps)).collect();
            assert_eq!(colors[0], ORDERED[0]);
            assert!(steps == 1 || colors[steps - 1] == ORDERED[ORDERED.len() - 1]);
            assert!(colors.is_sorted_by_key(|color| color.name));
        }
    }
}
