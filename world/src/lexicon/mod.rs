//! The words of the world and what they mean.
//!
//! The world is made of *variables*: where a person is, what a person carries, and so on, at a time. A variable has one
//! of a few dozen values, and a word means the *set* of values for which it is said rightly: `rose` one value, `flower`
//! several, `spade` and `shovel` the same. Synonyms, hypernyms and antonyms are not listed anywhere: they are equal
//! sets, larger sets and sets without a common value.
//!
//! Every content word, name and noun belongs to one [`Part`]: rows to fine-tune on use the words of one, rows to
//! validate on those of the other.
//!
//! Does not: know sentences; [`crate::forms`] does.

mod numbers;
mod people;
mod taxonomies;
mod traits;

pub use people::{Person, TIMES};

use crate::dice::Dice;
use std::fmt;

/// Which rows use a word: those to fine-tune on, or those to validate on. Text to pretrain on uses all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Rows of `train.jsonl`.
    Training,
    /// Rows of `validation_matched.jsonl` and `validation_mismatched.jsonl`.
    Validation,
}

/// A set of values of one variable, of at most 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(u64);

impl Set {
    /// The values of `range`.
    pub fn range(range: std::ops::Range<u32>) -> Self {
        Self(range.fold(0, |bits, value| bits | 1 << value))
    }

    /// One value.
    pub fn one(value: u32) -> Self {
        Self(1 << value)
    }

    /// True if `value` is in it.
    pub fn has(self, value: u32) -> bool {
        self.0 >> value & 1 == 1
    }

    /// True if all its values are in `other`.
    pub fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// True if it has a value in common with `other`.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The values of a variable of `values` values that it does not have.
    pub fn complement(self, values: u32) -> Self {
        Self(!self.0 & Self::range(0..values).0)
    }
}

/// What kind of thing is said: it decides which sentences can say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Where a person is.
    Place,
    /// What a person carries.
    Thing,
    /// Of what colour a person's coat is.
    Coat,
    /// What a person is doing.
    Action,
    /// How a person is.
    Trait,
    /// How many of something a person owns.
    Count,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 6] = [Self::Place, Self::Thing, Self::Coat, Self::Action, Self::Trait, Self::Count];
}

/// A word, or a few that count as one (`more than four`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// How it is written.
    pub text: String,
    /// What it means.
    pub set: Set,
    /// Which rows use it.
    pub part: Part,
}

/// Something that varies from person to person and from time to time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// What kind of thing it is.
    pub family: Family,
    /// What is counted, in the plural; empty where nothing is.
    pub noun: &'static str,
    /// Number of values.
    pub values: u32,
    /// The words for its values.
    pub words: Vec<Word>,
}

impl fmt::Display for Dimension {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.words.first().map_or("", |word| &word.text);
        write!(formatter, "{:?} {} ({first})", self.family, self.noun)
    }
}

/// All words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lexicon {
    /// What can be said about a person.
    pub dimensions: Vec<Dimension>,
    /// Who it can be said about.
    pub people: Vec<Person>,
}

impl Lexicon {
    /// The lexicon of this world.
    pub fn new() -> Self {
        let mut dimensions = taxonomies::dimensions();
        dimensions.extend(traits::dimensions());
        dimensions.extend(numbers::dimensions());
        Self { dimensions, people: people::people() }
    }

    /// Any word: all dimensions are equally likely, and all words of one.
    pub fn any_word(&self, dice: &mut Dice) -> &str {
        let words = &self.dimensions[dice.below(self.dimensions.len())].words;
        &words[dice.below(words.len())].text
    }
}

impl Default for Lexicon {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_of_a_dimension_is_there_once_and_means_something() {
        for dimension in &Lexicon::new().dimensions {
            let everything = Set::range(0..dimension.values);
            let mut texts = BTreeSet::new();
            for word in &dimension.words {
                assert!(texts.insert(&word.text), "{dimension}: {} twice", word.text);
                assert!(
                    word.set.within(everything) && word.set != Set::range(0..0),
                    "{dimension}: {}",
                    word.text
                );
                assert!(word.set != everything, "{dimension}: {} is always true", word.text);
            }
        }
    }

    #[test]
    fn no_word_means_two_things() {
        let lexicon = Lexicon::new();
        let mut seen = BTreeSet::new();
        // Number words mean a number, whatever is counted.
        for dimension in lexicon.dimensions.iter().filter(|dimension| dimension.family != Family::Count) {
            for word in &dimension.words {
                assert!(seen.insert(word.text.clone()), "{} in two dimensions", word.text);
            }
        }
        for person in &lexicon.people {
            assert!(seen.insert(person.text.to_owned()), "{} twice", person.text);
        }
    }

    #[test]
    fn both_parts_have_words_of_every_family_and_relation() {
        let lexicon = Lexicon::new();
        for part in [Part::Training, Part::Validation] {
            for family in Family::ALL {
                let mut relations = BTreeSet::new();
                for dimension in lexicon.dimensions.iter().filter(|dimension| dimension.family == family) {
                    let words: Vec<&Word> = dimension.words.iter().filter(|word| word.part == part).collect();
                    for (index, first) in words.iter().enumerate() {
                        relations
                            .extend(words[index + 1..].iter().map(|second| relation(first.set, second.set)));
                    }
                }
                assert!(relations.contains("excludes"), "{part:?} {family:?}: {relations:?}");
                assert!(relations.contains("implies"), "{part:?} {family:?}: {relations:?}");
            }
        }
    }

    fn relation(first: Set, second: Set) -> &'static str {
        match (first.within(second), second.within(first), first.meets(second)) {
            (true, true, _) => "equals",
            (true, false, _) | (false, true, _) => "implies",
            (false, false, true) => "overlaps",
            (false, false, false) => "excludes",
        }
    }
}
