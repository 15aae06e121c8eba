//! A row as prompt and answer, by a template.
//!
//! Does: parse a template with the placeholders `{hypothesis}`, `{premise}` and `{label}`, and fill it in. The text
//! before `{label}` is the *prompt*: what validation asks, and what training masks out of the loss. The rest is the
//! *target*. White space right before `{label}` belongs to the target, because GPT-2's tokens begin with their space
//! (` neutral` is one token; after a prompt that ends in a space the model has never seen `neutral`).
//!
//! Does not: append an end of text; the template says where it stands.

use super::mnli::{Label, MnliRow};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The reference workflow's prompt.
pub const REFERENCE_TEMPLATE: &str =
    "mnli hypothesis: {hypothesis} premise: {premise} target: {label}<|endoftext|>";

/// How a label is written in the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelStyle {
    /// `entailment`, `neutral`, `contradiction`.
    #[default]
    Words,
    /// `0`, `1`, `2`.
    Ids,
}

impl LabelStyle {
    /// The text that stands for `label`.
    pub const fn text(self, label: Label) -> &'static str {
        match (self, label) {
            (Self::Words, label) => label.word(),
            (Self::Ids, Label::Entailment) => "0",
            (Self::Ids, Label::Neutral) => "1",
            (Self::Ids, Label::Contradiction) => "2",
        }
    }
}

/// A `--label-style` that does not exist.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no label style, expected words or ids")]
pub struct UnknownLabelStyle(String);

impl FromStr for LabelStyle {
    type Err = UnknownLabelStyle;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "words" => Ok(Self::Words),
            "ids" => Ok(Self::Ids),
            other => Err(UnknownLabelStyle(other.to_owned())),
        }
    }
}

impl fmt::Display for LabelStyle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Words => "words",
            Self::Ids => "ids",
        })
    }
}

/// Why a template cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// A name in braces that is no placeholder.
    #[error(
        "template: {{{name}}} at byte {at} is no placeholder, expected {{hypothesis}}, {{premise}} or {{label}} (write {{{{ and }}}} for braces)"
    )]
    UnknownPlaceholder {
        /// What stands in the braces.
        name: String,
        /// Byte of the opening brace.
        at: usize,
    },
    /// A brace without its partner.
    #[error("template: the brace at byte {at} has no partner (write {{{{ and }}}} for braces)")]
    LonelyBrace {
        /// Byte of the brace.
        at: usize,
    },
    /// A placeholder is not there, or there more than once.
    #[error("template: expected {{{name}}} once, found it {found} times")]
    Count {
        /// The placeholder.
        name: &'static str,
        /// How often it is there.
        found: usize,
    },
    /// The answer would come before the question.
    #[error(
        "template: {{{name}}} stands after {{label}}; the prompt is the text before {{label}} and must hold the whole question"
    )]
    AfterLabel {
        /// The placeholder.
        name: &'static str,
    },
}

/// Names of the placeholders.
const PLACEHOLDERS: [&str; 3] = ["hypothesis", "premise", "label"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Hypothesis,
    Premise,
    Label,
}

impl Part {
    const fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Hypothesis => "hypothesis",
            Self::Premise => "premise",
            Self::Label => "label",
        }
    }
}

/// A parsed template. [`Default`] is the reference workflow's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTemplate {
    source: String,
    prompt: Vec<Part>,
    before_label: String,
    after_label: String,
}

impl PromptTemplate {
    /// The text that is asked, without white space before the answer.
    pub fn prompt(&self, row: &MnliRow) -> String {
        let mut text = String::with_capacity(self.source.len() + row.premise.len() + row.hypothesis.len());
        for part in &self.prompt {
            text.push_str(match part {
                Part::Text(fixed) => fixed,
                Part::Hypothesis => &row.hypothesis,
                Part::Premise => &row.premise,
                Part::Label => "", // `from_str` leaves none here
            });
        }
        text
    }

    /// The label as it continues the prompt, with its leading white space: what validation compares.
    pub fn answer(&self, label: Label, style: LabelStyle) -> String {
        format!("{}{}", self.before_label, style.text(label))
    }

    /// The answer that training appends to the prompt, with its leading white space.
    pub fn target(&self, label: Label, style: LabelStyle) -> String {
        format!("{}{}{}", self.before_label, style.text(label), self.after_label)
    }
}

impl Default for PromptTemplate {
    fn default() -> Self {
        let text = |text: &str| Part::Text(text.to_owned());
        Self {
            source: REFERENCE_TEMPLATE.to_owned(),
            prompt: vec![
                text("mnli hypothesis: "),
                Part::Hypothesis,
                text(" premise: "),
                Part::Premise,
                text(" target:"),
            ],
            before_label: " ".to_owned(),
            after_label: "<|endoftext|>".to_owned(),
        }
    }
}

impl fmt::Display for PromptTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)
    }
}

impl FromStr for PromptTemplate {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Self, TemplateError> {
        let (mut prompt, counts) = parse_parts(source)?;
        for (name, found) in PLACEHOLDERS.into_iter().zip(counts) {
            if found != 1 {
                return Err(TemplateError::Count { name, found });
            }
        }
        let at = prompt.iter().position(|part| *part == Part::Label).unwrap_or(prompt.len());
        let mut after_label = String::new();
        for part in prompt.split_off(at).into_iter().skip(1) {
            match part {
                Part::Text(text) => after_label.push_str(&text),
                other => return Err(TemplateError::AfterLabel { name: other.name() }),
            }
        }
        let mut before_label = String::new();
        if let Some(Part::Text(text)) = prompt.last_mut() {
            before_label = text.split_off(text.trim_end().len());
        }
        prompt.retain(|part| *part != Part::Text(String::new()));
        Ok(Self { source: source.to_owned(), prompt, before_label, after_label })
    }
}

/// The parts of a template, each placeholder once, and how often each placeholder is there.
fn parse_parts(source: &str) -> Result<(Vec<Part>, [usize; 3]), TemplateError> {
    let (mut parts, mut counts) = (Vec::new(), [0; 3]);
    let mut text = String::new();
    let mut rest = source;
    while let Some(brace) = rest.find(['{', '}']) {
        let at = source.len() - rest.len() + brace;
        text.push_str(&rest[..brace]);
        rest = &rest[brace..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            text.push_str(&rest[..1]);
            rest = &rest[2..];
            continue;
        }
        let name = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let (name, after) = name.ok_or(TemplateError::LonelyBrace { at })?;
        let placeholder = PLACEHOLDERS.iter().position(|placeholder| *placeholder == name);
        let unknown = || TemplateError::UnknownPlaceholder { name: name.to_owned(), at };
        let placeholder = placeholder.ok_or_else(unknown)?;
        counts[placeholder] += 1;
        if counts[placeholder] == 1 {
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push([Part::Hypothesis, Part::Premise, Part::Label][placeholder].clone());
        }
        rest = after;
    }
    text.push_str(rest);
    parts.push(Part::Text(text));
    Ok((parts, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> MnliRow {
        MnliRow {
            premise: "P {label}.".into(),
            hypothesis: "H ".into(),
            label: Some(Label::Neutral),
            line: 1,
        }
    }

    #[test]
    fn the_default_is_the_reference_template_parsed() {
        assert_eq!(REFERENCE_TEMPLATE.parse(), Ok(PromptTemplate::default()));
        let template = PromptTemplate::default();
        assert_eq!(template.prompt(&row()), "mnli hypothesis: H  premise: P {label}. target:");
        assert_eq!(template.target(Label::Neutral, LabelStyle::Words), " neutral<|endoftext|>");
        assert_eq!(template.target(Label::Contradiction, LabelStyle::Ids), " 2<|endoftext|>");
        assert_eq!(template.answer(Label::Contradiction, LabelStyle::Ids), " 2");
        assert_eq!(template.to_string(), REFERENCE_TEMPLATE);
    }

    #[test]
    fn other_templates_split_before_the_label_and_its_space() {
        let template: PromptTemplate = "{{{premise}}}?\n{hypothesis} \n{label} end".parse().unwrap();
        assert_eq!(template.prompt(&row()), "{P {label}.}?\nH ", "text of a row is not a template");
        assert_eq!(template.target(Label::Entailment, LabelStyle::Words), " \nentailment end");
    }

    #[test]
    fn bad_templates_are_refused() {
        let error = |source: &str| source.parse::<PromptTemplate>().unwrap_err();
        let unknown = error("{premise} {sentence} {label}");
        assert_eq!(unknown, TemplateError::UnknownPlaceholder { name: "sentence".into(), at: 10 });
        assert!(
            unknown.to_string().contains("{sentence} at byte 10 is no placeholder, expected {hypothesis}")
        );
        assert_eq!(error("{premise} } {label}"), TemplateError::LonelyBrace { at: 10 });
        assert_eq!(error("{premise} {label"), TemplateError::LonelyBrace { at: 10 });
        assert_eq!(error("{premise} {label}"), TemplateError::Count { name: "hypothesis", found: 0 });
        let twice = error("{premise}{hypothesis}{label}{label}");
        assert_eq!(twice, TemplateError::Count { name: "label", found: 2 });
        assert_eq!(error("{premise}{label}{hypothesis}"), TemplateError::AfterLabel { name: "hypothesis" });
    }

    #[test]
    fn label_styles_round_trip() {
        for style in [LabelStyle::Words, LabelStyle::Ids] {
            assert_eq!(style.to_string().parse(), Ok(style));
            for label in Label::ALL {
                let expected = match style {
                    LabelStyle::Words => label.word().to_owned(),
                    LabelStyle::Ids => label.id().to_string(),
                };
                assert_eq!(style.text(label), expected);
            }
        }
        assert_eq!(
            "word".parse::<LabelStyle>().unwrap_err().to_string(),
            "`word` is no label style, expected words or ids"
        );
    }
}
