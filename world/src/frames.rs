//! What stands around a claim and its facts: where each begins, how the question is put, and what its answers are called.
//!
//! There are many, so that what is learnt is to judge claims and not one way of asking for it; fine-tuning then shows one
//! more. None has a word of the prompt that rows are fine-tuned with, and no answer is a label.

use crate::dice::Dice;
use crate::lexicon::Lexicon;

/// What stands before everything, if anything does.
const OPENERS: [&str; 4] = ["", "task ", "item ", "quick "];
/// What stands before a claim.
const CLAIMS: [&str; 6] = ["claim:", "guess:", "idea:", "news:", "they say:", "statement:"];
/// What stands before the facts.
const FACTS: [&str; 6] = ["facts:", "known:", "report:", "evidence:", "look:", "listen:"];
/// What stands before an answer, and the answers in the order of [`crate::Label::ALL`], each with the blank that its
/// token begins with.
pub(crate) const QUESTIONS: [(&str, [&str; 3]); 6] = [
    ("verdict:", [" true", " open", " false"]),
    ("answer:", [" yes", " perhaps", " no"]),
    ("result:", [" right", " unsure", " wrong"]),
    ("so:", [" certain", " possible", " impossible"]),
    ("mark:", [" good", " fair", " bad"]),
    ("vote:", [" for", " abstain", " against"]),
];

/// A way of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    opener: String,
    claim: String,
    facts: String,
    question: &'static str,
    /// Answers, in the order of [`crate::Label::ALL`].
    pub answers: [&'static str; 3],
}

impl Frame {
    /// Any frame.
    pub fn any(dice: &mut Dice) -> Self {
        let (question, answers) = QUESTIONS[dice.below(QUESTIONS.len())];
        Self {
            opener: OPENERS[dice.below(OPENERS.len())].to_owned(),
            claim: CLAIMS[dice.below(CLAIMS.len())].to_owned(),
            facts: FACTS[dice.below(FACTS.len())].to_owned(),
            question,
            answers,
        }
    }

    /// A frame in which any word may stand before the claim and before the facts, so that only their order and the colon
    /// say which is which.
    pub fn strange(lexicon: &Lexicon, dice: &mut Dice) -> Self {
        let opener = if dice.percent(50) { format!("{} ", lexicon.any_word(dice)) } else { String::new() };
        let (claim, facts) = (format!("{}:", lexicon.any_word(dice)), format!("{}:", lexicon.any_word(dice)));
        Self { opener, claim, facts, ..Self::any(dice) }
    }

    /// The prompt of a claim and facts.
    pub fn prompt(&self, claim: &str, facts: &str) -> String {
        let Self { opener, claim: before, facts: between, question, .. } = self;
        format!("{opener}{before} {claim} {between} {facts} {question}")
    }

    /// The prompt of one more claim about facts that stand before it.
    pub fn further(&self, claim: &str) -> String {
        format!("{} {claim} {}", self.claim, self.question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Label;
    use std::collections::BTreeSet;

    #[test]
    fn an_answer_belongs_to_one_question_and_is_no_label() {
        let answers: Vec<&str> = QUESTIONS.iter().flat_map(|(_, answers)| *answers).collect();
        assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), answers.len());
        for label in Label::ALL {
            assert!(!answers.iter().any(|answer| answer.trim() == label.word()));
        }
    }

    #[test]
    fn no_frame_has_a_word_of_the_prompt_of_rows() {
        let mut dice = Dice::new(3, 0);
        for _ in 0..500 {
            let prompt = Frame::any(&mut dice).prompt("A", "B");
            for word in ["mnli", "hypothesis", "premise", "target"] {
                assert!(!prompt.contains(word), "{prompt}");
            }
        }
    }
}
