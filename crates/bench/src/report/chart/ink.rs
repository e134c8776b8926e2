//! The colours of the drawings, which the page's style sheet exchanges in dark mode.

use plotters::style::RGBColor;
use serde::Serialize;

/// A colour of the drawings. An SVG holds the light one, as attribute; the style sheet selects elements by it and gives
/// them the custom property of the same name, so that a drawing that was copied out of the page still has colours.
/// No two inks have the same light colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Ink {
    /// Name of the custom property, without dashes.
    pub(crate) name: &'static str,
    light: &'static str,
    dark: &'static str,
}

const fn ink(name: &'static str, light: &'static str, dark: &'static str) -> Ink {
    Ink { name, light, dark }
}

pub(crate) const TEXT: Ink = ink("ink-text", "#1F2328", "#E6EAEF");
pub(crate) const QUIET: Ink = ink("ink-quiet", "#59636E", "#9BA5B0");
pub(crate) const GRID: Ink = ink("ink-grid", "#E1E5EA", "#30373F");
/// What the drawing stands on: the rim of a mark that lies over others.
pub(crate) const PAPER: Ink = ink("ink-paper", "#FFFFFF", "#171B20");

/// Plain decoding of ours.
pub(crate) const PLAIN: Ink = ink("ink-plain", "#868E97", "#8B949E");
/// Plain decoding of another program.
pub(crate) const PEER_PLAIN: Ink = ink("ink-peer-plain", "#C08FB4", "#8A5F80");
/// Another program's drafter.
pub(crate) const PEER_DRAFT: Ink = ink("ink-peer-draft", "#9B3F86", "#D58AC4");

/// Our drafters, by order of appearance; distinct for the colour-blind (after Okabe and Ito).
const DRAFTERS: [Ink; 5] = [
    ink("ink-drafter-1", "#0072B2", "#4FA9E0"),
    ink("ink-drafter-2", "#D55E00", "#F08A4B"),
    ink("ink-drafter-3", "#00916B", "#2FBF94"),
    ink("ink-drafter-4", "#B8860B", "#E3B341"),
    ink("ink-drafter-5", "#4B3FA8", "#A79BF0"),
];

/// What has an order, from few to many: each step is darker, or brighter in dark mode (after viridis).
const STEPS: [Ink; 6] = [
    ink("ink-step-1", "#58B368", "#7A6FD0"),
    ink("ink-step-2", "#12968C", "#4A8FD6"),
    ink("ink-step-3", "#2478B5", "#22A79B"),
    ink("ink-step-4", "#3A4CA6", "#4FC46A"),
    ink("ink-step-5", "#6A2C91", "#B5DE2B"),
    ink("ink-step-6", "#2B0A3D", "#FDE725"),
];

impl Ink {
    /// Of the drafter that stands at this place among the run's; the sixth has the first one's again.
    pub(crate) fn drafter(place: usize) -> Self {
        DRAFTERS[place % DRAFTERS.len()]
    }

    /// Of the step `place` of `steps` in rising order. More than six share colours with their neighbours.
    pub(crate) fn step(place: usize, steps: usize) -> Self {
        let last = STEPS.len() - 1;
        let among = steps.saturating_sub(1).max(1);
        // Few steps are spread over the whole scale.
        STEPS[((place * last + among / 2) / among).min(last)]
    }

    /// All of them, for the style sheet.
    pub(crate) fn all() -> Vec<Self> {
        let mut inks = vec![TEXT, QUIET, GRID, PAPER, PLAIN, PEER_PLAIN, PEER_DRAFT];
        inks.extend(DRAFTERS);
        inks.extend(STEPS);
        inks
    }

    /// As the drawings hold it.
    pub(crate) fn color(self) -> RGBColor {
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
    fn each_ink_has_a_light_colour_of_its_own_as_the_drawings_write_it() {
        let inks = Ink::all();
        for (place, ink) in inks.iter().enumerate() {
            let RGBColor(r, g, b) = ink.color();
            assert_eq!(format!("#{r:02X}{g:02X}{b:02X}"), ink.light, "{}", ink.name);
            assert_eq!(ink.dark.len(), 7);
            for other in &inks[place + 1..] {
                assert!(ink.light != other.light && ink.name != other.name, "{} {}", ink.name, other.name);
            }
        }
    }

    #[test]
    fn steps_rise_and_reach_both_ends_of_the_scale() {
        for steps in 1..20 {
            let inks: Vec<_> = (0..steps).map(|place| Ink::step(place, steps)).collect();
            assert_eq!(inks[0], STEPS[0]);
            assert!(steps == 1 || inks[steps - 1] == STEPS[STEPS.len() - 1]);
            assert!(inks.is_sorted_by_key(|ink| ink.name));
        }
    }
}
