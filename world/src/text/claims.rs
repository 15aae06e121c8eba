//! A claim, the facts, and whether the claim was right; then more claims about the same facts.

use super::question;
use crate::Label;
use crate::dice::Dice;
use crate::pairs::{Maker, SURROUNDINGS};
use crate::rows::written;

/// What stands before a claim, before the facts, and the verdicts in the order of [`Label::ALL`].
struct Frame {
    claim: &'static str,
    facts: &'static str,
    verdicts: [&'static str; 3],
}

const FRAMES: [Frame; 3] = [
    Frame {
        claim: "claim:",
        facts: "facts:",
        verdicts: ["verdict: true", "verdict: open", "verdict: false"],
    },
    Frame {
        claim: "They say:",
        facts: "Look:",
        verdicts: ["They are right.", "They may be right.", "They are wrong."],
    },
    Frame { claim: "Is it so?", facts: "Listen:", verdicts: ["Yes.", "Perhaps.", "No."] },
];

/// A document.
pub(super) fn document(maker: &Maker<'_>, dice: &mut Dice) -> String {
    let label = dice.below(Label::ALL.len());
    let pair = maker.pair(Label::ALL[label], &SURROUNDINGS, dice);
    let (premise, hypothesis) = written(maker, &pair, dice);
    let frame = &FRAMES[dice.below(FRAMES.len())];
    let mut text =
        format!("{} {hypothesis} {} {premise} {}", frame.claim, frame.facts, frame.verdicts[label]);
    for _ in 0..dice.below(3) {
        let label = dice.below(Label::ALL.len());
        let Some(asked) = question(maker, &pair.premise, Label::ALL[label], dice) else { continue };
        let form = asked.form(maker.lexicon, maker.scope.styles, None, dice);
        let sentence = asked.sentence(maker.lexicon, form);
        text.push_str(&format!(" {} {sentence} {}", frame.claim, frame.verdicts[label]));
    }
    text
}
