//! Reading exercises: a claim, facts, and the question what becomes of the claim.
//!
//! An exercise is a prompt and its completion, `true`, `open` or `false`. Those of a first file have single words in place
//! of sentences, for what words mean is learnt much faster there; those of a second have sentences, and some words lest
//! they be forgotten. All people, words and sentence forms occur, and neither the prompt of the task nor its labels do.
//!
//! The same claims stand in [`crate::text`], where every token is learnt and answers are one token in forty. Exercises
//! put the answer alone into the loss: the random choice of what is claimed and said is noise that drowns it.

use crate::Label;
use crate::dice::Dice;
use crate::lexicon::Lexicon;
use crate::pairs::{Maker, Pair, Scope};
use crate::rows::written;
use serde::Serialize;

/// What most exercises of a file are about; the others are of the files before, lest those be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Two words, of which one says something about the other.
    Words,
    /// Notes of words and people: who is meant counts too.
    Notes,
    /// Sentences.
    Sentences,
}

impl Lesson {
    /// All of them, in the order in which they are best learnt.
    pub const ALL: [Self; 3] = [Self::Words, Self::Notes, Self::Sentences];

    /// Name of the file.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Words => "words.jsonl",
            Self::Notes => "notes.jsonl",
            Self::Sentences => "exercises.jsonl",
        }
    }

    /// Weights of words, notes and sentences.
    const fn mixture(self) -> [usize; 3] {
        match self {
            Self::Words => [1, 0, 0],
            Self::Notes => [1, 4, 0],
            Self::Sentences => [1, 2, 7],
        }
    }

    /// Stream of random choices; see [`crate::rows`] for the others.
    const fn stream(self) -> u64 {
        match self {
            Self::Sentences => 5,
            Self::Words => 6,
            Self::Notes => 7,
        }
    }
}

/// Weights of 0, 1 and 2 facts beside the one that matters: fewer than in rows, for what is easy is learnt first.
const SURROUNDINGS: [usize; 3] = [5, 3, 2];
/// Answers in the order of [`Label::ALL`], each with the blank that its token begins with.
const ANSWERS: [&str; 3] = [" true", " open", " false"];

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
    let (facts, claim) = match Lesson::ALL[dice.weighted(&lesson.mixture())] {
        Lesson::Words => words(maker, label, dice),
        Lesson::Notes => notes(maker, &maker.pair(label, &SURROUNDINGS, dice)),
        Lesson::Sentences => written(maker, &maker.pair(label, &SURROUNDINGS, dice), dice),
    };
    Exercise { prompt: format!("claim: {claim} facts: {facts} verdict:"), completion: ANSWERS[answer] }
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

    #[test]
    fn answers_are_balanced_and_labels_do_not_occur() {
        for lesson in Lesson::ALL {
            let exercises = exercises(lesson, 3000, 9);
            for answer in ANSWERS {
                assert_eq!(exercises.iter().filter(|exercise| exercise.completion == answer).count(), 1000);
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
