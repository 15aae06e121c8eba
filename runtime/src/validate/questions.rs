//! Rows of text as questions: prompts as the template writes them, and the labels as the model is expected to.
//!
//! Does not: cut anything to a length, or ask.

use crate::data::mnli::{Label, MnliRow};
use crate::data::prompt::{LabelStyle, PromptTemplate};
use crate::data::tokenizer::{GptJTokenizer, TokenizerError};

use super::mnli::Row;

/// Rows to answer, and what answers look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// The rows, in their order.
    pub rows: Vec<Row>,
    /// Tokens of the labels as they continue a prompt, in the order of GLUE's ids.
    pub label_tokens: [Vec<u32>; 3],
    /// The words that a trained model writes for the labels: with the template's punctuation, if it has some there.
    pub label_texts: [String; 3],
}

/// Why there are no questions.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The labels cannot be tokenized.
    #[error("the labels cannot be tokenized")]
    Labels(#[source] TokenizerError),
    /// A row cannot be tokenized.
    #[error("the row of line {line} cannot be tokenized")]
    Row {
        /// The row's line.
        line: u64,
        /// Why.
        source: TokenizerError,
    },
}

/// Makes questions of `rows`.
///
/// # Errors
/// [`QuestionError`] for the first text that the tokenizer refuses.
pub fn questions(
    rows: &[MnliRow],
    template: &PromptTemplate,
    style: LabelStyle,
    tokenizer: &GptJTokenizer,
) -> Result<Questions, QuestionError> {
    let mut label_tokens: [Vec<u32>; 3] = Default::default();
    let mut label_texts: [String; 3] = Default::default();
    for label in Label::ALL {
        let at = usize::from(label.id());
        label_tokens[at] = tokenizer.encode(&template.answer(label, style)).map_err(QuestionError::Labels)?;
        label_texts[at] =
            written_word(&template.target(label, style), tokenizer).map_err(QuestionError::Labels)?;
    }
    let question = |row: &MnliRow| {
        let prompt = tokenizer.encode(&template.prompt(row));
        let prompt = prompt.map_err(|source| QuestionError::Row { line: row.line, source })?;
        Ok(Row { row: row.line, prompt, label: row.label.map(|label| usize::from(label.id())) })
    };
    let rows = rows.iter().map(question).collect::<Result<_, _>>()?;
    Ok(Questions { rows, label_tokens, label_texts })
}

/// The first word of a target, as it reads when it was generated: without the token that ends a text.
fn written_word(target: &str, tokenizer: &GptJTokenizer) -> Result<String, TokenizerError> {
    let written = tokenizer.decode(&tokenizer.encode(target)?, true)?;
    Ok(written.split_whitespace().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn tokenizer() -> GptJTokenizer {
        GptJTokenizer::from_dir(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tokenizer")))
            .unwrap()
    }

    fn rows() -> Vec<MnliRow> {
        let row = |line, label| MnliRow { premise: "P.".into(), hypothesis: "H.".into(), label, line };
        vec![row(3, Some(Label::Contradiction)), row(7, None)]
    }

    #[test]
    fn rows_keep_their_line_and_label_and_labels_begin_with_a_space() {
        let tokenizer = tokenizer();
        let asked = questions(&rows(), &PromptTemplate::default(), LabelStyle::Words, &tokenizer).unwrap();
        let found: Vec<_> = asked.rows.iter().map(|row| (row.row, row.label)).collect();
        assert_eq!(found, [(3, Some(2)), (7, None)]);
        let prompt = tokenizer.decode(&asked.rows[0].prompt, false).unwrap();
        assert_eq!(prompt, "mnli hypothesis: H. premise: P. target:");
        assert_eq!(asked.label_texts, ["entailment", "neutral", "contradiction"]);
        for (tokens, word) in asked.label_tokens.iter().zip(&asked.label_texts) {
            assert_eq!(tokenizer.decode(tokens, false).unwrap(), format!(" {word}"));
        }
    }

    #[test]
    fn words_are_those_that_the_template_has_the_model_write() {
        let template: PromptTemplate = "{premise} {hypothesis} so {label}. Next".parse().unwrap();
        let asked = questions(&rows(), &template, LabelStyle::Ids, &tokenizer()).unwrap();
        assert_eq!(asked.label_texts, ["0.", "1.", "2."]);
    }
}
