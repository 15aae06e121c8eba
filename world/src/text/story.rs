//! Facts, each said again in other words, with what follows from it and what does not.

use crate::Label;
use crate::dice::Dice;
use crate::pairs::Maker;

/// What introduces that which follows, is left open, is excluded: in the order of [`Label::ALL`].
const CONNECTIVES: [[&str; 2]; 3] = [
    ["So", "In other words,"],
    ["Maybe", "It is not said whether"],
    ["So it is false that", "It cannot be that"],
];

/// A document.
pub(super) fn document(maker: &Maker<'_>, dice: &mut Dice) -> String {
    let (lexicon, styles) = (maker.lexicon, maker.scope.styles);
    let mut text = Vec::new();
    let count = 1 + dice.below(2);
    for fact in maker.statements(count, dice) {
        text.push(fact.sentence(lexicon, fact.form(lexicon, styles, None, dice)));
        for _ in 0..2 {
            let label = dice.below(Label::ALL.len());
            let Some(said) = maker.hypothesis(&fact, Label::ALL[label], dice) else { continue };
            let clause = said.clause(lexicon, said.form(lexicon, styles, None, dice));
            text.push(format!("{} {clause}.", CONNECTIVES[label][dice.below(2)]));
        }
    }
    format!("story: {}", text.join(" "))
}
