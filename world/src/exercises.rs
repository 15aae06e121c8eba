//! Reading exercises: a claim, facts, and the question what becomes of the claim.
//!
//! An exercise is a prompt and its completion, `true`, `open` or `false`. Some have single words in place of sentences,
//! for what words mean is learnt much faster there. All people, words and sentence forms occur, and neither the prompt of
//! the task nor its labels do.
//!
//! The same claims stand in [`crate::text`], where every token is learnt and answers are one token in forty. Exercises
//! put the answer alone into the loss: the random choice of what is claimed and said is noise that drowns it.

use crate::Label;
use crate::dice::Dice;
use crate::lexicon::Lexicon;
use crate::pairs::{Maker, Scope};
use crate::rows::written;
use serde::Serialize;

/// Name of the exercises' file.
pub const EXERCISES_FILE: &str = "exercises.jsonl";

/// Stream of random choices; see [`crate::rows`] for the others.
const STREAM: u64 = 5;
/// Percent of exercises of single words.
const OF_WORDS: usize = 30;
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

/// `count` exercises, answers as evenly as `count` allows.
pub fn exercises(count: usize, seed: u64) -> Vec<Exercise> {
    let lexicon = Lexicon::new();
    let maker = Maker::new(&lexicon, Scope::TEXT);
    let mut dice = Dice::new(seed, STREAM);
    (0..count).map(|index| exercise(&maker, index % Label::ALL.len(), &mut dice)).collect()
}

fn exercise(maker: &Maker<'_>, answer: usize, dice: &mut Dice) -> Exercise {
    let label = Label::ALL[answer];
    let (facts, claim) = if dice.percent(OF_WORDS) {
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
        let exercises = exercises(3000, 9);
        for answer in ANSWERS {
            assert_eq!(exercises.iter().filter(|exercise| exercise.completion == answer).count(), 1000);
        }
        for exercise in &exercises {
            for word in Label::ALL.map(Label::word).into_iter().chain(["premise", "hypothesis", "target"]) {
                assert!(!exercise.prompt.contains(word), "{}", exercise.prompt);
            }
        }
    }

    #[test]
    fn a_fixed_seed_gives_fixed_exercises() {
        assert_eq!(exercises(50, 1), exercises(50, 1));
        assert_ne!(exercises(50, 1), exercises(50, 2));
    }
}
