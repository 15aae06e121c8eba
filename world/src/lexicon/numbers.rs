//! How many of something somebody owns: exactly so many, more than so many, fewer than so many.

use super::{Dimension, Family, Part, Set, Word};

/// Values are the numbers below the last, and "that or more".
const VALUES: u32 = 13;

const NUMBERS: [(Part, u32, &str); 8] = [
    (Part::Training, 2, "two"),
    (Part::Validation, 3, "three"),
    (Part::Training, 4, "four"),
    (Part::Training, 5, "five"),
    (Part::Validation, 6, "six"),
    (Part::Validation, 7, "seven"),
    (Part::Training, 8, "eight"),
    (Part::Validation, 9, "nine"),
];

const NOUNS: [(Part, &str); 8] = [
    (Part::Training, "boats"),
    (Part::Training, "coins"),
    (Part::Training, "sheep"),
    (Part::Training, "books"),
    (Part::Validation, "horses"),
    (Part::Validation, "lamps"),
    (Part::Validation, "rings"),
    (Part::Validation, "geese"),
];

/// The dimensions of this file: one a noun. A noun's words are those of its part.
pub(super) fn dimensions() -> Vec<Dimension> {
    let dimension = |&(part, noun): &(Part, &'static str)| {
        let numbers = NUMBERS.iter().filter(|(of, _, _)| *of == part);
        let words = numbers.flat_map(|&(_, number, text)| words(part, number, text)).collect();
        Dimension { family: Family::Count, noun, values: VALUES, words }
    };
    NOUNS.iter().map(dimension).collect()
}

fn words(part: Part, number: u32, text: &str) -> [Word; 3] {
    let word = |text: String, set| Word { text, set, part };
    [
        word(text.to_owned(), Set::one(number)),
        word(format!("more than {text}"), Set::range(number + 1..VALUES)),
        word(format!("fewer than {text}"), Set::range(0..number)),
    ]
}
