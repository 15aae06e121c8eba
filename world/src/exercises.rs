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
use crate::pairs::{Maker, Scope};
use crate::rows::written;
use serde::Serialize;

/// What exercises are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Two words.
    Words,
    /// Sentences, or two words in some.
    Sentences,
}

impl Subject {
    /// Name of the file of such exercises.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Words => "words.jsonl",
            Self::Sentences => "exercises.jsonl",
        }
    }

    /// Percent of exercises of single words.
    const fn of_words(self) -> usize {
        match self {
            Self::Words => 100,
            Self::Sentences => 15,
        }
    }

    /// Stream of random choices; see [`crate::rows`] for the others.
    const fn stream(self) -> u64 {
        match self {
            Self::Words => 6,
            Self::Sentences => 5,
        }
    }
}

/// Weights of 0, 1 and 2 facts beside the one that matters: fewer than in rows, for what is easy is learnt first.
const SURROUNDINGS: [usize; 3] = [6, 3, 1];
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

/// `count` exercises about `subject`, answers as evenly as `count` allows.
pub fn exercises(subject: Subject, count: usize, seed: u64) -> Vec<Exercise> {
    let lexicon = Lexicon::new();
    let maker = Maker::new(&lexicon, Scope::TEXT);
    let mut dice = Dice::new(seed, subject.stream());
    (0..count).map(|index| exercise(&maker, subject, index % Label::ALL.len(), &mut dice)).collect()
}

fn exercise(maker: &Maker<'_>, subject: Subject, answer: usize, dice: &mut Dice) -> Exercise {
    let label = Label::ALL[answer];
    let (facts, claim) = if dice.percent(subject.of_words()) {
        words(maker, label, dice)
    } else {
        let pair = maker.pair(label, &SURROUNDINGS, dice);
        written(maker, &pair, dice)
    };
    Exercise { prompt: format!("claim: {claim} facts: {facts} verdict:"), completion: ANSWERS[answer] }
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
        for subject in [Subject::Words, Subject::Sentences] {
            let exercises = exercises(subject, 3000, 9);
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
        assert_eq!(exercises(Subject::Sentences, 50, 1), exercises(Subject::Sentences, 50, 1));
        assert_ne!(exercises(Subject::Sentences, 50, 1), exercises(Subject::Sentences, 50, 2));
    }
}
