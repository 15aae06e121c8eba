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
    /// All of that in strange frames, and lists of words of which one is asked for: any word may be an answer, MNLI's
    /// labels too. A model that has heard eighteen answers for long finds no way any more to say another.
    Review,
}

impl Lesson {
    /// All of them, in the order in which they are best learnt.
    pub const ALL: [Self; 3] = [Self::Notes, Self::Sentences, Self::Review];

    /// Name of the file.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Notes => "notes.jsonl",
            Self::Sentences => "exercises.jsonl",
            Self::Review => "review.jsonl",
        }
    }

    /// Weights of words, notes, sentences and lists.
    const fn mixture(self) -> [usize; 4] {
        match self {
            Self::Notes => [1, 4, 0, 0],
            Self::Sentences => [1, 2, 7, 0],
            Self::Review => [1, 2, 7, 3],
        }
    }

    /// Stream of random choices; see [`crate::rows`] for the others.
    const fn stream(self) -> u64 {
        match self {
            Self::Sentences => 5,
            Self::Notes => 7,
            Self::Review => 8,
        }
    }
}

/// Weights of 0, 1 and 2 facts beside the one that matters: fewer than in rows, for what is easy is learnt first.
const SURROUNDINGS: [usize; 3] = [5, 3, 2];

/// Percent of claims of a review that stand in a strange frame.
const STRANGE: usize = 75;
/// Words of a list.
const LISTED: usize = 6;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exercise {
    /// What is given.
    pub prompt: String,
    /// What is to be answered.
    pub completion: String,
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
        2 => written(maker, &maker.pair(label, &SURROUNDINGS, dice), dice),
        _ => return list(maker.lexicon, dice),
    };
    let frame = match lesson {
        Lesson::Review if dice.percent(STRANGE) => Frame::strange(maker.lexicon, dice),
        _ => Frame::any(dice),
    };
    Exercise { prompt: frame.prompt(&claim, &facts), completion: frame.answers[answer].to_owned() }
}

/// What is known and what is claimed, in telegraphic style.
fn notes(maker: &Maker<'_>, pair: &Pair) -> (String, String) {
    let facts: Vec<String> = pair.premise.iter().map(|said| said.note(maker.lexicon)).collect();
    (facts.join(" "), pair.hypothesis.note(maker.lexicon))
}

/// Words in random order, and the question which one comes after another.
fn list(lexicon: &Lexicon, dice: &mut Dice) -> Exercise {
    let mut words: Vec<&str> = Vec::new();
    while words.len() < LISTED {
        let word = match dice.below(3) {
            0 => Label::ALL[dice.below(Label::ALL.len())].word(),
            1 => lexicon.people[dice.below(lexicon.people.len())].text,
            _ => lexicon.any_word(dice),
        };
        if !word.contains(' ') && !words.contains(&word) {
            words.push(word);
        }
    }
    let place = dice.below(LISTED - 1);
    let prompt = format!("words: {}. after {}:", words.join(" "), words[place]);
    Exercise { prompt, completion: format!(" {}", words[place + 1]) }
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
        for lesson in [Lesson::Notes, Lesson::Sentences] {
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
    fn labels_occur_in_lists_only_and_one_asks_for_a_word_that_is_in_it() {
        let exercises = exercises(Lesson::Review, 3000, 9);
        let (lists, claims): (Vec<_>, Vec<_>) =
            exercises.iter().partition(|exercise| exercise.prompt.starts_with("words:"));
        assert!(lists.len() > 500 && claims.len() > 2000);
        for exercise in lists {
            let (words, asked) = exercise.prompt.split_once(". after ").unwrap();
            let pair = format!(" {}{}", asked.trim_end_matches(':'), exercise.completion);
            assert!(words.contains(&pair), "{exercise:?}");
        }
        for exercise in claims {
            let text = format!("{}{}", exercise.prompt, exercise.completion);
            assert!(!Label::ALL.iter().any(|label| text.contains(label.word())), "{text}");
        }
    }

    #[test]
    fn a_fixed_seed_gives_fixed_exercises() {
        assert_eq!(exercises(Lesson::Sentences, 50, 1), exercises(Lesson::Sentences, 50, 1));
        assert_ne!(exercises(Lesson::Sentences, 50, 1), exercises(Lesson::Sentences, 50, 2));
    }
}
