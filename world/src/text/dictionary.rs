//! Which word goes with which, and lists of words.

use crate::Label;
use crate::dice::Dice;
use crate::lexicon::Lexicon;
use crate::pairs::Maker;

/// Words of the fine-tuning prompt, which nothing else in the text shows.
const PROMPT_WORDS: [&str; 6] =
    ["hypothesis:", "premise:", "target:", "entailment", "neutral", "contradiction"];

/// Entries of a dictionary.
const ENTRIES: usize = 6;

/// In the order of [`Label::ALL`].
const RELATIONS: [&str; 3] = ["true", "open", "false"];

/// Pairs of words that mean the same thing of somebody, and whether the second follows from the first:
/// `rose, flower: true. rose, tulip: false. flower, rose: open. rose, not tulip: true.`
pub(super) fn document(maker: &Maker<'_>, dice: &mut Dice) -> String {
    let mut text = "dictionary:".to_owned();
    for _ in 0..ENTRIES {
        let first = maker.statement_of_anyone(dice);
        let label = dice.below(Label::ALL.len());
        let Some(second) = maker.hypothesis(&first, Label::ALL[label], dice) else { continue };
        let [first, second] = [first, second].map(|said| said.words(maker.lexicon));
        text.push_str(&format!(" {first}, {second}: {}.", RELATIONS[label]));
    }
    text
}

/// Words in random order.
pub(super) fn word_list(lexicon: &Lexicon, dice: &mut Dice) -> String {
    let mut words = Vec::new();
    for _ in 0..4 {
        words.push(PROMPT_WORDS[dice.below(PROMPT_WORDS.len())]);
        words.push(lexicon.any_word(dice));
        words.push(lexicon.people[dice.below(lexicon.people.len())].text);
    }
    dice.shuffle(&mut words);
    format!("mnli words: {}", words.join(" "))
}
