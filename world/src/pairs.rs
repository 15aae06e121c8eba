//! Pairs of a premise and a hypothesis, made by rules.
//!
//! A hypothesis is chosen first, without a look at the label; then a *core*, a statement about the same variable whose
//! truth lies within the hypothesis's truth (entailment), apart from it (contradiction) or across it (neutral; or there
//! is no core at all). Between the two lie all relations of words: the same word in another form, synonyms, hypernyms,
//! antonyms, weaker and stronger numbers, and negations of each. Around the core stand statements about other people,
//! other dimensions and other times, which say nothing about the hypothesis though they sound like it.
//!
//! So that neither sentence gives the label away alone: hypotheses are negated as often under each label, premises have as
//! many statements and as many negations, and what surrounds a core sounds as it does where there is no core.
//!
//! Does not: trust these rules. [`crate::judge`] proves the label of each pair by itself.

use crate::Label;
use crate::dice::Dice;
use crate::forms::Style;
use crate::lexicon::{Family, Lexicon, Part};
use crate::statement::{Statement, Variable};

/// Percent of hypotheses that are negated.
const NEGATED_HYPOTHESES: usize = 40;
/// Percent of cores and other statements that are negated where either is possible.
const NEGATED_CORES: usize = 45;
const NEGATED_OTHERS: usize = 25;
/// Percent of neutral pairs without a core.
const CORELESS: usize = 55;
/// Percent of pairs with times.
const TIMED: usize = 20;
/// Weights of 0, 1 and 2 statements beside the core.
pub(crate) const SURROUNDINGS: [usize; 3] = [4, 4, 2];
/// Weights of another person, another dimension, another time, in what stands beside the core.
const OTHERS: [usize; 3] = [5, 3, 2];
/// How often the families are spoken of, in the order of [`Family::ALL`].
const FAMILIES: [usize; 6] = [5, 5, 4, 4, 6, 4];

/// Which words and forms may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Words of this part; of all, if none.
    pub part: Option<Part>,
    /// Forms of these styles.
    pub styles: &'static [Style],
}

impl Scope {
    /// Text to pretrain on: everything.
    pub const TEXT: Self = Self { part: None, styles: &Style::ALL };
    /// Rows to fine-tune on.
    pub const TRAINING: Self = Self { part: Some(Part::Training), styles: &[Style::Training] };
    /// Rows to validate on.
    pub const MATCHED: Self = Self { part: Some(Part::Validation), styles: &[Style::Matched] };
    /// Rows to validate on, of another genre.
    pub const MISMATCHED: Self = Self { part: Some(Part::Validation), styles: &[Style::Mismatched] };
}

/// A premise, a hypothesis, and what the first says about the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Statements in the order in which they are said.
    pub premise: Vec<Statement>,
    /// Where the core stands in the premise, if it has one.
    pub core: Option<usize>,
    /// What is asked about.
    pub hypothesis: Statement,
    /// By the rule that made the pair.
    pub label: Label,
}

/// Makes statements and pairs within a scope.
#[derive(Debug)]
pub struct Maker<'a> {
    /// The words.
    pub lexicon: &'a Lexicon,
    /// Which of them, and which forms.
    pub scope: Scope,
    people: Vec<usize>,
    /// Usable dimensions of each family.
    dimensions: Vec<Vec<usize>>,
    /// Usable words of each dimension.
    words: Vec<Vec<usize>>,
}

impl<'a> Maker<'a> {
    /// A maker for `scope`.
    pub fn new(lexicon: &'a Lexicon, scope: Scope) -> Self {
        let fits = |part: Part| scope.part.is_none_or(|only| only == part);
        let indices = |count: usize, keep: &dyn Fn(usize) -> bool| -> Vec<usize> {
            (0..count).filter(|&index| keep(index)).collect()
        };
        let people = indices(lexicon.people.len(), &|index| fits(lexicon.people[index].part));
        let of_dimension =
            |words: &[crate::lexicon::Word]| indices(words.len(), &|index| fits(words[index].part));
        let words: Vec<Vec<usize>> =
            lexicon.dimensions.iter().map(|dimension| of_dimension(&dimension.words)).collect();
        let of_family = |family: Family| {
            indices(words.len(), &|index| {
                lexicon.dimensions[index].family == family && !words[index].is_empty()
            })
        };
        let dimensions = Family::ALL.into_iter().map(of_family).collect();
        Self { lexicon, scope, people, dimensions, words }
    }

    /// A pair with `label`.
    pub fn pair(&self, label: Label, surroundings: &[usize], dice: &mut Dice) -> Pair {
        loop {
            let timed = dice.percent(TIMED);
            let hypothesis = self.statement(self.variable(timed, dice), NEGATED_HYPOTHESES, dice);
            let core = match label {
                Label::Neutral if dice.percent(CORELESS) => None,
                _ => match self.core(&hypothesis, label, dice) {
                    Some(core) => Some(core),
                    None => continue,
                },
            };
            let mut premise: Vec<Statement> = core.into_iter().collect();
            let beside = dice.weighted(surroundings) + usize::from(core.is_none());
            self.surround(&mut premise, &hypothesis, beside, dice);
            dice.shuffle(&mut premise);
            let core = core.and_then(|core| premise.iter().position(|said| *said == core));
            return Pair { premise, core, hypothesis, label };
        }
    }

    /// A hypothesis with `label` about the statement `core`; none if no word makes one.
    pub fn hypothesis(&self, core: &Statement, label: Label, dice: &mut Dice) -> Option<Statement> {
        self.related(core, label, NEGATED_HYPOTHESES, Known::Core, dice)
    }

    /// A statement.
    pub fn statement_of_anyone(&self, dice: &mut Dice) -> Statement {
        let timed = dice.percent(TIMED);
        self.statement(self.variable(timed, dice), NEGATED_OTHERS, dice)
    }

    /// `count` statements about different variables.
    pub fn statements(&self, count: usize, dice: &mut Dice) -> Vec<Statement> {
        let first = self.statement_of_anyone(dice);
        let mut said = vec![first];
        self.surround(&mut said, &first, count.saturating_sub(1), dice);
        dice.shuffle(&mut said);
        said
    }

    /// A statement about another variable than those of `taken`, which sounds like `like`.
    pub fn other(&self, like: &Statement, taken: &[Variable], dice: &mut Dice) -> Statement {
        loop {
            let mut variable = like.variable;
            match dice.weighted(&OTHERS) {
                0 => variable.person = self.person(dice),
                1 => variable.dimension = self.dimension(dice),
                _ => variable.time = variable.time.map(|(part, time)| (part, 1 - time)),
            }
            if taken.contains(&variable) || variable == like.variable {
                continue;
            }
            let mut said = self.statement(variable, NEGATED_OTHERS, dice);
            // Half of those who do the like do the same.
            if variable.dimension == like.variable.dimension && dice.percent(50) {
                said.word = like.word;
            }
            return said;
        }
    }

    fn core(&self, hypothesis: &Statement, label: Label, dice: &mut Dice) -> Option<Statement> {
        self.related(hypothesis, label, NEGATED_CORES, Known::Hypothesis, dice)
    }

    /// A statement about the variable of `known` such that premise and hypothesis, of which `known` is one, have `label`.
    fn related(
        &self,
        known: &Statement,
        label: Label,
        negated: usize,
        role: Known,
        dice: &mut Dice,
    ) -> Option<Statement> {
        let truth = known.truth(self.lexicon);
        let fits = |said: &Statement| {
            let other = said.truth(self.lexicon);
            let (premise, hypothesis) = match role {
                Known::Core => (truth, other),
                Known::Hypothesis => (other, truth),
            };
            label
                == match (premise.within(hypothesis), premise.meets(hypothesis)) {
                    (true, _) => Label::Entailment,
                    (false, true) => Label::Neutral,
                    (false, false) => Label::Contradiction,
                }
        };
        let words = &self.words[known.variable.dimension];
        let candidates = |negated: bool| -> Vec<Statement> {
            let said = words.iter().map(|&word| Statement { variable: known.variable, word, negated });
            said.filter(&fits).collect()
        };
        let first = dice.percent(negated);
        let preferred = dice.pick(&candidates(first));
        preferred.or_else(|| dice.pick(&candidates(!first)))
    }

    /// Adds `count` statements that say nothing about the hypothesis.
    fn surround(&self, premise: &mut Vec<Statement>, hypothesis: &Statement, count: usize, dice: &mut Dice) {
        for _ in 0..count {
            let mut taken: Vec<Variable> = premise.iter().map(|said| said.variable).collect();
            taken.push(hypothesis.variable);
            premise.push(self.other(hypothesis, &taken, dice));
        }
    }

    fn statement(&self, variable: Variable, negated: usize, dice: &mut Dice) -> Statement {
        let words = &self.words[variable.dimension];
        let word = dice.pick(words).unwrap_or_default();
        Statement { variable, word, negated: dice.percent(negated) }
    }

    fn variable(&self, timed: bool, dice: &mut Dice) -> Variable {
        let part = match self.scope.part {
            Some(part) => part as usize,
            None => dice.below(2),
        };
        let time = timed.then(|| (part, dice.below(2)));
        Variable { person: self.person(dice), time, dimension: self.dimension(dice) }
    }

    fn person(&self, dice: &mut Dice) -> usize {
        dice.pick(&self.people).unwrap_or_default()
    }

    fn dimension(&self, dice: &mut Dice) -> usize {
        let family = dice.weighted(&FAMILIES);
        dice.pick(&self.dimensions[family]).unwrap_or_default()
    }
}

/// Which half of a pair is there already.
#[derive(Clone, Copy)]
enum Known {
    Core,
    Hypothesis,
}
