//! A small made-up world, and what can be written about it.
//!
//! Does: make MNLI-like rows whose labels are proved ([`rows`]), text without labels that shows what the world's words
//! mean ([`text`]), reading [`exercises`], and a byte-level BPE tokenizer ([`tokenizer`]); all of it a function of a seed.
//! `docs/world.md` says what is in it and why.
//!
//! In the order in which things are made: [`lexicon`] has words and their meanings, [`statement`] says one of them of
//! somebody in one of the [`forms`], [`pairs`] puts statements together by rules, [`judge`] proves what follows from them;
//! [`frames`] ask for it.
//!
//! [`corpus`] writes it all.
//!
//! Does not: train anything.
#![forbid(unsafe_code)]

pub mod corpus;
pub mod dice;
pub mod exercises;
pub mod forms;
pub mod frames;
pub mod judge;
pub mod lexicon;
pub mod pairs;
pub mod rows;
pub mod statement;
pub mod text;
pub mod tokenizer;

use serde::Serialize;
use std::fmt;

/// What a premise says about a hypothesis, in MNLI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// It is true.
    Entailment,
    /// It may be true.
    Neutral,
    /// It is not true.
    Contradiction,
}

impl Label {
    /// All labels, in the order of GLUE's ids.
    pub const ALL: [Self; 3] = [Self::Entailment, Self::Neutral, Self::Contradiction];

    /// The label as MNLI writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Entailment => "entailment",
            Self::Neutral => "neutral",
            Self::Contradiction => "contradiction",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
