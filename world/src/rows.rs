//! Rows with MNLI's fields.

use crate::Label;
use crate::dice::Dice;
use crate::lexicon::Lexicon;
use crate::pairs::{Maker, Pair, SURROUNDINGS, Scope};
use serde::Serialize;
use std::collections::HashSet;

/// A split, which says what its rows may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Rows to fine-tune on.
    Train,
    /// Rows to validate on: other people, words and sentence forms.
    ValidationMatched,
    /// The same, with sentence forms of their own: addressed to somebody, about what has happened.
    ValidationMismatched,
}

impl Split {
    /// All splits.
    pub const ALL: [Self; 3] = [Self::Train, Self::ValidationMatched, Self::ValidationMismatched];

    /// Name of the split's file.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Train => "train.jsonl",
            Self::ValidationMatched => "validation_matched.jsonl",
            Self::ValidationMismatched => "validation_mismatched.jsonl",
        }
    }

    /// What its rows may use.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Train => Scope::TRAINING,
            Self::ValidationMatched => Scope::MATCHED,
            Self::ValidationMismatched => Scope::MISMATCHED,
        }
    }

    const fn genre(self) -> &'static str {
        match self {
            Self::Train | Self::ValidationMatched => "report",
            Self::ValidationMismatched => "letter",
        }
    }

    /// Stream of random choices, so that no split depends on another's size.
    const fn stream(self) -> u64 {
        match self {
            Self::Train => 1,
            Self::ValidationMatched => 2,
            Self::ValidationMismatched => 3,
        }
    }
}

/// One line of a split, with MNLI's names. MNLI's parse trees are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The label.
    pub gold_label: Label,
    /// What kind of text it is.
    pub genre: &'static str,
    /// Number of the row in its split, with the label's letter, as in MNLI.
    #[serde(rename = "pairID")]
    pub pair_id: String,
    /// Premise.
    pub sentence1: String,
    /// Hypothesis.
    pub sentence2: String,
}

/// `count` rows of `split`, no two of them equal, labels as evenly as `count` allows and in random order.
///
/// The number of different rows is in the hundreds of thousands; far below it, no row costs more than the others.
pub fn rows(split: Split, count: usize, seed: u64) -> Vec<Row> {
    made(split, count, seed).into_iter().map(|(_, row)| row).collect()
}

/// The rows with what they say.
pub fn made(split: Split, count: usize, seed: u64) -> Vec<(Pair, Row)> {
    let lexicon = Lexicon::new();
    let maker = Maker::new(&lexicon, split.scope());
    let mut dice = Dice::new(seed, split.stream());
    let mut labels: Vec<Label> = (0..count).map(|index| Label::ALL[index % Label::ALL.len()]).collect();
    dice.shuffle(&mut labels);
    let mut seen = HashSet::new();
    let mut made = Vec::with_capacity(count);
    for (index, label) in labels.into_iter().enumerate() {
        loop {
            let pair = maker.pair(label, &SURROUNDINGS, &mut dice);
            let (sentence1, sentence2) = written(&maker, &pair, &mut dice);
            if seen.insert(format!("{sentence1}\n{sentence2}")) {
                let letter = &label.word()[..1];
                let pair_id = format!("{}{letter}", index + 1);
                made.push((
                    pair,
                    Row { gold_label: label, genre: split.genre(), pair_id, sentence1, sentence2 },
                ));
                break;
            }
        }
    }
    made
}

/// Premise and hypothesis as text. Where the core says the word of the hypothesis, it says it in another form.
pub(crate) fn written(maker: &Maker<'_>, pair: &Pair, dice: &mut Dice) -> (String, String) {
    let (lexicon, styles) = (maker.lexicon, maker.scope.styles);
    let of_hypothesis = pair.hypothesis.form(lexicon, styles, None, dice);
    let mut premise = Vec::with_capacity(pair.premise.len());
    for (index, said) in pair.premise.iter().enumerate() {
        let not = (pair.core == Some(index) && said.word == pair.hypothesis.word).then_some(of_hypothesis);
        premise.push(said.sentence(lexicon, said.form(lexicon, styles, not, dice)));
    }
    (premise.join(" "), pair.hypothesis.sentence(lexicon, of_hypothesis))
}
