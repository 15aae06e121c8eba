//! A claim, the facts, and whether the claim was right; then more claims about the same facts.

use super::question;
use crate::Label;
use crate::dice::Dice;
use crate::frames::Frame;
use crate::pairs::{Maker, SURROUNDINGS};
use crate::rows::written;

/// A document.
pub(super) fn document(maker: &Maker<'_>, dice: &mut Dice) -> String {
    let label = dice.below(Label::ALL.len());
    let pair = maker.pair(Label::ALL[label], &SURROUNDINGS, dice);
    let (premise, hypothesis) = written(maker, &pair, dice);
    let frame = Frame::any(dice);
    let mut text = frame.prompt(&hypothesis, &premise) + frame.answers[label];
    for _ in 0..dice.below(3) {
        let label = dice.below(Label::ALL.len());
        let Some(asked) = question(maker, &pair.premise, Label::ALL[label], dice) else { continue };
        let form = asked.form(maker.lexicon, maker.scope.styles, None, dice);
        let sentence = asked.sentence(maker.lexicon, form);
        text.push_str(&format!(" {}{}", frame.further(&sentence), frame.answers[label]));
    }
    text
}
