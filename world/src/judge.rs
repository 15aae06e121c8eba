//! What a premise says about a hypothesis, by looking at all possible worlds.
//!
//! A world gives every variable that is mentioned one of its values. The premise admits those worlds in which all its
//! statements are true. If the hypothesis is true in all of them, it is entailed; if in none, contradicted; else neutral.
//! Nothing here knows by which rule a pair was made: this is what proves the labels.

use crate::Label;
use crate::lexicon::Lexicon;
use crate::statement::{Statement, Variable};
use std::collections::BTreeMap;

/// The label of a pair; none if the premise contradicts itself.
///
/// # Cost
/// The product of the numbers of values of the variables in the premise and the hypothesis.
pub fn judge(lexicon: &Lexicon, premise: &[Statement], hypothesis: &Statement) -> Option<Label> {
    let mut variables: Vec<Variable> = premise.iter().chain([hypothesis]).map(|said| said.variable).collect();
    variables.sort_unstable();
    variables.dedup();
    let mut seen = Seen::default();
    visit(lexicon, &variables, &mut BTreeMap::new(), &mut |world| {
        if premise.iter().all(|said| is_true(lexicon, said, world)) {
            match is_true(lexicon, hypothesis, world) {
                true => seen.holds = true,
                false => seen.fails = true,
            }
        }
    });
    match (seen.holds, seen.fails) {
        (true, false) => Some(Label::Entailment),
        (false, true) => Some(Label::Contradiction),
        (true, true) => Some(Label::Neutral),
        (false, false) => None,
    }
}

/// Whether the hypothesis held, and failed, in some world that the premise admits.
#[derive(Default)]
struct Seen {
    holds: bool,
    fails: bool,
}

type World = BTreeMap<Variable, u32>;

/// Calls `look` with every world over `variables`.
fn visit(lexicon: &Lexicon, variables: &[Variable], world: &mut World, look: &mut dyn FnMut(&World)) {
    let Some((first, rest)) = variables.split_first() else { return look(world) };
    for value in 0..lexicon.dimensions[first.dimension].values {
        world.insert(*first, value);
        visit(lexicon, rest, world, look);
    }
}

fn is_true(lexicon: &Lexicon, said: &Statement, world: &World) -> bool {
    let dimension = &lexicon.dimensions[said.variable.dimension];
    let means = world.get(&said.variable).is_some_and(|&value| dimension.words[said.word].set.has(value));
    means != said.negated
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That person 0 is (not) what `word` says.
    fn said(lexicon: &Lexicon, person: usize, word: &str, negated: bool) -> Statement {
        for (dimension, of) in lexicon.dimensions.iter().enumerate() {
            if let Some(word) = of.words.iter().position(|candidate| candidate.text == word) {
                return Statement { variable: Variable { person, time: None, dimension }, word, negated };
            }
        }
        panic!("no word {word}");
    }

    #[test]
    fn labels_follow_from_what_words_mean() {
        let lexicon = Lexicon::new();
        let one = |premise: (&str, bool), hypothesis: (&str, bool)| {
            let premise = [said(&lexicon, 0, premise.0, premise.1)];
            judge(&lexicon, &premise, &said(&lexicon, 0, hypothesis.0, hypothesis.1)).unwrap()
        };
        for (premise, hypothesis, label) in [
            (("rose", false), ("flower", false), Label::Entailment),
            (("flower", false), ("rose", false), Label::Neutral),
            (("rose", false), ("tulip", false), Label::Contradiction),
            (("rose", false), ("hammer", true), Label::Entailment),
            (("flower", true), ("rose", true), Label::Entailment),
            (("rose", true), ("flower", true), Label::Neutral),
            (("spade", false), ("shovel", false), Label::Entailment),
            (("hungry", true), ("full", false), Label::Neutral),
            (("starving", false), ("hungry", false), Label::Entailment),
            (("hungry", false), ("starving", false), Label::Neutral),
            (("full", false), ("hungry", false), Label::Contradiction),
            (("five", false), ("more than four", false), Label::Entailment),
            (("more than four", false), ("five", false), Label::Neutral),
            (("fewer than four", false), ("five", false), Label::Contradiction),
            (("more than four", true), ("five", true), Label::Entailment),
        ] {
            assert_eq!(one(premise, hypothesis), label, "{premise:?} {hypothesis:?}");
        }
    }

    #[test]
    fn what_is_said_of_others_leaves_a_hypothesis_open() {
        let lexicon = Lexicon::new();
        let premise = [said(&lexicon, 1, "rose", false), said(&lexicon, 0, "kitchen", false)];
        assert_eq!(judge(&lexicon, &premise, &said(&lexicon, 0, "rose", false)), Some(Label::Neutral));
        assert_eq!(judge(&lexicon, &premise, &said(&lexicon, 1, "rose", false)), Some(Label::Entailment));
    }

    #[test]
    fn a_premise_that_contradicts_itself_has_no_label() {
        let lexicon = Lexicon::new();
        let premise = [said(&lexicon, 0, "rose", false), said(&lexicon, 0, "flower", true)];
        assert_eq!(judge(&lexicon, &premise, &said(&lexicon, 0, "cat", false)), None);
    }
}
