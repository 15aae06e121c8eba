//! How something is said: sentence forms, by family.
//!
//! A form has an affirmative and a negative sentence. `{s}` stands for the person, `{w}` for the word, `{a}` for the word
//! with its article, `{n}` for what is counted. All forms of a family say the same thing.
//!
//! As words belong to parts, forms belong to a [`Style`]: rows to fine-tune on, rows to validate on and rows of the other
//! validation split share no form.

use crate::lexicon::Family;

/// Which rows use a form. Text to pretrain on uses all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Style {
    /// `train.jsonl`.
    Training,
    /// `validation_matched.jsonl`.
    Matched,
    /// `validation_mismatched.jsonl`.
    Mismatched,
}

impl Style {
    /// All styles.
    pub const ALL: [Self; 3] = [Self::Training, Self::Matched, Self::Mismatched];
}

/// A sentence with gaps, and its negation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it can say.
    pub family: Family,
    /// Which rows use it.
    pub style: Style,
    /// It is so.
    pub affirmative: &'static str,
    /// It is not so.
    pub negative: &'static str,
}

const fn form(family: Family, style: Style, affirmative: &'static str, negative: &'static str) -> Form {
    Form { family, style, affirmative, negative }
}

/// All forms.
#[rustfmt::skip]
pub const FORMS: [Form; 36] = [
    form(Family::Place, Style::Training, "{s} is in the {w}", "{s} is not in the {w}"),
    form(Family::Place, Style::Training, "{s} can be found in the {w}", "{s} cannot be found in the {w}"),
    form(Family::Place, Style::Matched, "the {w} is where {s} is", "the {w} is not where {s} is"),
    form(Family::Place, Style::Matched, "{s} stays inside the {w}", "{s} does not stay inside the {w}"),
    form(Family::Place, Style::Mismatched, "you will meet {s} at the {w}", "you will not meet {s} at the {w}"),
    form(Family::Place, Style::Mismatched, "{s} has gone to the {w}", "{s} has not gone to the {w}"),

    form(Family::Thing, Style::Training, "{s} carries {a}", "{s} does not carry {a}"),
    form(Family::Thing, Style::Training, "{s} has {a} in hand", "{s} does not have {a} in hand"),
    form(Family::Thing, Style::Matched, "{s} holds {a}", "{s} does not hold {a}"),
    form(Family::Thing, Style::Matched, "{a} is what {s} brings", "{a} is not what {s} brings"),
    form(Family::Thing, Style::Mismatched, "you will see {s} with {a}", "you will not see {s} with {a}"),
    form(Family::Thing, Style::Mismatched, "{s} has come with {a}", "{s} has not come with {a}"),

    form(Family::Coat, Style::Training, "{s} wears {a} coat", "{s} does not wear {a} coat"),
    form(Family::Coat, Style::Training, "the coat of {s} is {w}", "the coat of {s} is not {w}"),
    form(Family::Coat, Style::Matched, "{s} is dressed in {w}", "{s} is not dressed in {w}"),
    form(Family::Coat, Style::Matched, "the colour that {s} wears is {w}", "the colour that {s} wears is not {w}"),
    form(Family::Coat, Style::Mismatched, "you will know {s} by {a} cloak", "you will not know {s} by {a} cloak"),
    form(Family::Coat, Style::Mismatched, "{s} has put on something {w}", "{s} has not put on something {w}"),

    form(Family::Action, Style::Training, "{s} is {w}", "{s} is not {w}"),
    form(Family::Action, Style::Training, "{s} is seen {w}", "{s} is not seen {w}"),
    form(Family::Action, Style::Matched, "{s} keeps on {w}", "{s} does not keep on {w}"),
    form(Family::Action, Style::Matched, "what {s} does is {w}", "what {s} does is not {w}"),
    form(Family::Action, Style::Mismatched, "you will catch {s} {w}", "you will not catch {s} {w}"),
    form(Family::Action, Style::Mismatched, "{s} has started {w}", "{s} has not started {w}"),

    form(Family::Trait, Style::Training, "{s} is {w}", "{s} is not {w}"),
    form(Family::Trait, Style::Training, "{s} is {a} person", "{s} is not {a} person"),
    form(Family::Trait, Style::Matched, "{s} looks {w}", "{s} does not look {w}"),
    form(Family::Trait, Style::Matched, "the word for {s} is {w}", "the word for {s} is not {w}"),
    form(Family::Trait, Style::Mismatched, "you will find {s} {w}", "you will not find {s} {w}"),
    form(Family::Trait, Style::Mismatched, "{s} has become {w}", "{s} has not become {w}"),

    form(Family::Count, Style::Training, "{s} owns {w} {n}", "{s} does not own {w} {n}"),
    form(Family::Count, Style::Training, "the number of {n} of {s} is {w}", "the number of {n} of {s} is not {w}"),
    form(Family::Count, Style::Matched, "{s} keeps {w} {n}", "{s} does not keep {w} {n}"),
    form(Family::Count, Style::Matched, "the {n} that belong to {s} are {w}", "the {n} that belong to {s} are not {w}"),
    form(Family::Count, Style::Mismatched, "you will count {w} {n} with {s}", "you will not count {w} {n} with {s}"),
    form(Family::Count, Style::Mismatched, "{s} has got {w} {n}", "{s} has not got {w} {n}"),
];

/// `a` or `an`, by the first letter of `word`.
pub fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

/// `text` with a capital at its beginning.
pub fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_family_has_two_forms_of_every_style() {
        for family in Family::ALL {
            for style in Style::ALL {
                let forms = FORMS.iter().filter(|form| form.family == family && form.style == style);
                assert_eq!(forms.count(), 2, "{family:?} {style:?}");
            }
        }
    }

    #[test]
    fn no_two_forms_of_different_styles_are_the_same() {
        let skeletons = |style| -> BTreeSet<&str> {
            let forms = FORMS.iter().filter(|form| form.style == style);
            forms.flat_map(|form| [form.affirmative, form.negative]).collect()
        };
        for (first, second) in [(0, 1), (0, 2), (1, 2)] {
            let [first, second] = [first, second].map(|index| skeletons(Style::ALL[index]));
            assert!(first.is_disjoint(&second));
        }
    }

    #[test]
    fn a_form_has_a_person_and_a_word_and_only_counting_has_a_noun() {
        for form in FORMS {
            for text in [form.affirmative, form.negative] {
                assert_eq!(text.matches("{s}").count(), 1, "{text}");
                assert_eq!(text.matches("{w}").count() + text.matches("{a}").count(), 1, "{text}");
                assert_eq!(text.contains("{n}"), form.family == Family::Count, "{text}");
            }
        }
    }

    #[test]
    fn articles_follow_the_first_letter() {
        assert_eq!(with_article("rose"), "a rose");
        assert_eq!(with_article("emerald"), "an emerald");
        assert_eq!(capitalised("the baker"), "The baker");
    }
}
