//! How people are: scales with two ends.
//!
//! A scale has four values: very much so, so, neither, and the opposite. `starving` means the first, `hungry` the first
//! two, `full` the last; so who is not hungry need not be full.

use super::taxonomies::synonyms;
use super::{Dimension, Family, Part, Set};

/// A scale: words for its far end, for its near and far end, and for the opposite.
struct Scale {
    part: Part,
    very: &'static str,
    so: &'static str,
    opposite: &'static str,
}

const fn scale(part: Part, very: &'static str, so: &'static str, opposite: &'static str) -> Scale {
    Scale { part, very, so, opposite }
}

const SCALES: [Scale; 11] = [
    scale(Part::Training, "starving/famished", "hungry", "full/sated"),
    scale(Part::Training, "delighted", "happy/glad", "sad/gloomy"),
    scale(Part::Training, "furious/enraged", "angry/cross", "calm"),
    scale(Part::Training, "exhausted", "tired/sleepy", "awake/alert"),
    scale(Part::Training, "gigantic/huge", "big/large", "small/little"),
    scale(Part::Training, "opulent", "rich/wealthy", "poor/needy"),
    scale(Part::Validation, "fearless/heroic", "brave/bold", "timid/cowardly"),
    scale(Part::Validation, "filthy", "dirty/grubby", "clean/tidy"),
    scale(Part::Validation, "brilliant", "clever/smart", "stupid/dull"),
    scale(Part::Validation, "soaked/drenched", "wet/damp", "dry"),
    scale(Part::Validation, "ancient", "old/aged", "young"),
];

/// The dimensions of this file.
pub(super) fn dimensions() -> Vec<Dimension> {
    SCALES.iter().map(dimension).collect()
}

fn dimension(scale: &Scale) -> Dimension {
    let very = synonyms(scale.very, Set::one(0), scale.part);
    let so = synonyms(scale.so, Set::range(0..2), scale.part);
    let opposite = synonyms(scale.opposite, Set::one(3), scale.part);
    Dimension { family: Family::Trait, noun: "", values: 4, words: very.chain(so).chain(opposite).collect() }
}
