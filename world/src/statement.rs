//! Something said of somebody: what it means, and how it is written.

use crate::dice::Dice;
use crate::forms::{FORMS, Form, Style, capitalised, with_article};
use crate::lexicon::{Lexicon, Set, TIMES};

/// What a statement is about: one of a person's dimensions, at one time or at no time that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variable {
    /// Index among the lexicon's people.
    pub person: usize,
    /// Index into the parts and the times of [`TIMES`].
    pub time: Option<(usize, usize)>,
    /// Index among the lexicon's dimensions.
    pub dimension: usize,
}

/// That a variable is, or is not, what a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Statement {
    /// What it is about.
    pub variable: Variable,
    /// Index among the dimension's words.
    pub word: usize,
    /// True if it is denied.
    pub negated: bool,
}

impl Statement {
    /// The values for which it is true.
    pub fn truth(&self, lexicon: &Lexicon) -> Set {
        let dimension = &lexicon.dimensions[self.variable.dimension];
        let set = dimension.words[self.word].set;
        if self.negated { set.complement(dimension.values) } else { set }
    }

    /// The word alone, with `not` before it if it is denied.
    pub fn words(&self, lexicon: &Lexicon) -> String {
        let text = &lexicon.dimensions[self.variable.dimension].words[self.word].text;
        if self.negated { format!("not {text}") } else { text.clone() }
    }

    /// The statement in telegraphic style: when, who, what, how many of what.
    pub fn note(&self, lexicon: &Lexicon) -> String {
        let person = lexicon.people[self.variable.person].text;
        let noun = lexicon.dimensions[self.variable.dimension].noun;
        let time = self.variable.time.map_or("", |(part, time)| TIMES[part].1[time]);
        let note = [time, person, &self.words(lexicon), noun].join(" ");
        format!("{}.", note.trim())
    }

    /// The statement as a clause, in `form`, which must be of its dimension's family.
    pub fn clause(&self, lexicon: &Lexicon, form: &Form) -> String {
        let dimension = &lexicon.dimensions[self.variable.dimension];
        let word = &dimension.words[self.word].text;
        let pattern = if self.negated { form.negative } else { form.affirmative };
        let clause = pattern
            .replace("{s}", lexicon.people[self.variable.person].text)
            .replace("{a}", &with_article(word))
            .replace("{w}", word)
            .replace("{n}", dimension.noun);
        match self.variable.time {
            Some((part, time)) => format!("{} {clause}", TIMES[part].1[time]),
            None => clause,
        }
    }

    /// The statement as a sentence.
    pub fn sentence(&self, lexicon: &Lexicon, form: &Form) -> String {
        format!("{}.", capitalised(&self.clause(lexicon, form)))
    }

    /// One of the forms of `styles` that can say it; another than `not` if there is another.
    pub fn form(
        &self,
        lexicon: &Lexicon,
        styles: &[Style],
        not: Option<&Form>,
        dice: &mut Dice,
    ) -> &'static Form {
        let family = lexicon.dimensions[self.variable.dimension].family;
        let fits = |form: &&'static Form| form.family == family && styles.contains(&form.style);
        let forms: Vec<&'static Form> = FORMS.iter().filter(fits).filter(|form| Some(*form) != not).collect();
        // Every family has forms of every style, which a test of `forms` shows.
        dice.pick(&forms).unwrap_or(&FORMS[0])
    }
}
