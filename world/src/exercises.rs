//! Reading exercises: a claim, facts, and the question what becomes of the claim.
//!
//! An exercise is a prompt and its completion, in one of many [`crate::frames`]. Those of a first file have single words
//! in place of sentences, for what words mean and who is meant is learnt much faster there; those of a second have
//! sentences, and some words lest they be forgotten. All people, words and sentence forms occur, and neither the prompt
//! of the task nor its labels do.
//!
//! The same claims stand in [`crate::text`], where every token is learnt and answers are one token in forty. Exercises
//! put the answer alone into the loss: the random choice of what is claimed and said is noise that drowns it.

use crate::Label;
use crate::dice::Dice;
use crate::frames::Frame;
use crate::lexicon::Lexicon;
use crate::pairs::{Maker, Pair, Scope};
use crate::rows::written;
use serde::Serialize;

/// What most exercises of a file are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Notes: single words for what is known and claimed of whom, and some words of nobody.
    Notes,
    /// Sentences.
    Sentences,
}

impl Lesson {
    /// All of them, in the order in which they are best learnt.
    pub const ALL: [Self; 2] = [Self::Notes, Self::Sentences];

    /// Name of the file.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Notes => "notes.jsonl",
            Self::Sentences => "exercises.jsonl",
        }
    }

    /// Weights of words, notes and sentences.
    const fn mixture(self) -> [usize; 3] {
        match self {
            Self::Notes => [1, 4, 0],
            Self::Sentences => [1, 2, 7],
        }
    }

    /// Stream of random choices; see [`crate::rows`] for the others.
    const fn stream(self) -> u64 {
        match self {
            Self::Sentences => 5,
            Self::Notes => 7,
        }
    }
}

/// Weights of 0, 1 and 2 facts beside the one that matters: fewer than in rows, for what is easy is learnt first.
const SURROUNDINGS: [usize; 3] = [5, 3, 2];

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exercise {
    /// What is given.
    pub prompt: String,
    /// What is to be answered.
    pub completion: &'static str,
}

/// `count` exercises of `lesson`, answers as evenly as `count` allows.
pub fn exercises(lesson: Lesson, count: usize, seed: u64) -> Vec<Exercise> {
    let lexicon = Lexicon::new();
    let maker = Maker::new(&lexicon, Scope::TEXT);
    let mut dice = Dice::new(seed, lesson.stream());
    (0..count).map(|index| exercise(&maker, lesson, index % Label::ALL.len(), &mut dice)).collect()
}

fn exercise(maker: &Maker<'_>, lesson: Lesson, answer: usize, dice: &mut Dice) -> Exercise {
    let label = Label::ALL[answer];
    let (facts, claim) = match dice.weighted(&lesson.mixture()) {
        0 => words(maker, label, dice),
        1 => notes(maker, &maker.pair(label, &SURROUNDINGS, dice)),
        _ => written(maker, &maker.pair(label, &SURROUNDINGS, dice), dice),
    };
    let frame = Frame::any(dice);
    Exercise { prompt: frame.prompt(&claim, &facts), completion: frame.answers[answer] }
}

/// What is known and what is claimed, in telegraphic style.
fn notes(maker: &Maker<'_>, pair: &Pair) -> (String, String) {
    let facts: Vec<String> = pair.premise.iter().map(|said| said.note(maker.lexicon)).collect();
    (facts.join(" "), pair.hypothesis.note(maker.lexicon))
}

/// Two words for the same of somebody, either perhaps denied, of which the first says `label` about the second.
fn words(maker: &Maker<'_>, label: Label, dice: &mut Dice) -> (String, String) {
    loop {
        let fact = maker.statement_of_anyone(dice);
        if let Some(claim) = maker.hypothesis(&fact, label, dice) {
            return (fact.words(maker.lexicon), claim.words(maker.lexicon));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::QUESTIONS;

    #[test]
    fn answers_are_balanced_and_labels_do_not_occur() {
        for lesson in Lesson::ALL {
            let exercises = exercises(lesson, 3000, 9);
            for class in 0..3 {
                let is_of_class = |exercise: &&Exercise| {
                    QUESTIONS.iter().any(|(_, answers)| answers[class] == exercise.completion)
                };
                assert_eq!(exercises.iter().filter(is_of_class).count(), 1000);
            }
            for exercise in &exercises {
                for word in Label::ALL.map(Label::word).into_iter().chain(["premise", "hypothesis", "target"])
                {
                    assert!(!exercise.prompt.contains(word), "{}", exercise.prompt);
                }
            }
        }
    }

    #[test]
    fn a_fixed_seed_gives_fixed_exercises() {
        assert_eq!(exercises(Lesson::Sentences, 50, 1), exercises(Lesson::Sentences, 50, 1));
        assert_ne!(exercises(Lesson::Sentences, 50, 1), exercises(Lesson::Sentences, 50, 2));
    }
}
