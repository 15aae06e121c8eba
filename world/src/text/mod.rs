//! Text without labels, from which a language model learns what the world's words mean.
//!
//! A document is one line. There are five kinds:
//! - *claims*: somebody claims something, then come the facts, then whether the claim was right;
//! - *quizzes*: facts, then questions and their answers;
//! - *stories*: facts that are said again in other words, with what follows from them and what does not;
//! - *dictionaries*: which word goes with which;
//! - *word lists*: words in random order, those of the fine-tuning prompt among them, so that every word has been seen.
//!
//! All people, words and sentence forms occur, those of the validation splits too: what they mean must be learnt
//! somewhere. MNLI's labels occur in word lists only, where nothing depends on them.

mod claims;
mod dictionary;
mod quiz;
mod story;

use crate::Label;
use crate::dice::Dice;
use crate::lexicon::Lexicon;
use crate::pairs::{Maker, Scope};
use crate::statement::{Statement, Variable};

/// Name of the text's file.
pub const TEXT_FILE: &str = "text.txt";

/// Stream of random choices; see [`crate::rows`] for the others.
const STREAM: u64 = 4;

/// How often a document is a claim, a quiz, a story, a dictionary, a word list.
const KINDS: [usize; 5] = [65, 10, 6, 16, 3];

/// `count` documents.
pub fn documents(count: usize, seed: u64) -> Vec<String> {
    let lexicon = Lexicon::new();
    let maker = Maker::new(&lexicon, Scope::TEXT);
    let mut dice = Dice::new(seed, STREAM);
    (0..count).map(|_| document(&maker, &mut dice)).collect()
}

fn document(maker: &Maker<'_>, dice: &mut Dice) -> String {
    match dice.weighted(&KINDS) {
        0 => claims::document(maker, dice),
        1 => quiz::document(maker, dice),
        2 => story::document(maker, dice),
        3 => dictionary::document(maker, dice),
        _ => dictionary::word_list(maker.lexicon, dice),
    }
}

/// A hypothesis with `label` about `facts`; none if no word makes one about the fact that was chosen.
fn question(maker: &Maker<'_>, facts: &[Statement], label: Label, dice: &mut Dice) -> Option<Statement> {
    let core = dice.pick(facts)?;
    if label == Label::Neutral && dice.percent(50) {
        let taken: Vec<Variable> = facts.iter().map(|said| said.variable).collect();
        return Some(maker.other(&core, &taken, dice));
    }
    maker.hypothesis(&core, label, dice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn documents_depend_on_the_seed_alone_and_more_only_add_to_them() {
        let some = documents(200, 9);
        assert_eq!(some, documents(200, 9));
        assert_eq!(some[..], documents(300, 9)[..200]);
        assert_ne!(some, documents(200, 10));
        assert!(some.iter().all(|text| !text.contains('\n')));
    }

    #[test]
    fn the_text_shows_every_word_and_has_labels_in_word_lists_only() {
        let lexicon = Lexicon::new();
        let documents = documents(20_000, 9);
        let plain: BTreeSet<String> = documents
            .iter()
            .flat_map(|text| text.split_whitespace())
            .map(|word| word.trim_end_matches(['.', ',', '?', ':']).to_owned())
            .collect();
        let words = lexicon.dimensions.iter().flat_map(|dimension| &dimension.words).map(|word| &*word.text);
        let texts = words.chain(lexicon.people.iter().map(|person| person.text));
        for part in texts.flat_map(str::split_whitespace) {
            assert!(plain.contains(part), "{part}");
        }
        for text in documents.iter().filter(|text| !text.starts_with("mnli words:")) {
            for label in Label::ALL {
                assert!(!text.contains(label.word()), "{text}");
            }
        }
    }
}
