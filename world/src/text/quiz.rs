//! Facts, then questions about them with their answers.

use super::question;
use crate::Label;
use crate::dice::Dice;
use crate::pairs::Maker;

/// What stands before a question, and the answers in the order of [`Label::ALL`].
const FRAMES: [(&str, [&str; 3]); 2] = [
    ("Is it true that", ["Yes.", "Perhaps.", "No."]),
    ("Somebody thinks that", ["That is right.", "That may be right.", "That is wrong."]),
];

/// A document.
pub(super) fn document(maker: &Maker<'_>, dice: &mut Dice) -> String {
    let count = 1 + dice.below(3);
    let facts = maker.statements(count, dice);
    let (lexicon, styles) = (maker.lexicon, maker.scope.styles);
    let mut text: Vec<String> =
        facts.iter().map(|said| said.sentence(lexicon, said.form(lexicon, styles, None, dice))).collect();
    let (before, answers) = FRAMES[dice.below(FRAMES.len())];
    let mark = if before.starts_with("Is") { "?" } else { "." };
    for _ in 0..2 + dice.below(3) {
        let label = dice.below(Label::ALL.len());
        let Some(asked) = question(maker, &facts, Label::ALL[label], dice) else { continue };
        let clause = asked.clause(lexicon, asked.form(lexicon, styles, None, dice));
        text.push(format!("{before} {clause}{mark} {}", answers[label]));
    }
    format!("quiz: {}", text.join(" "))
}
