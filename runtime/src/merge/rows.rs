//! Rows of text as what [`super::compare`] scores.
//!
//! Does not: cut rows to a length; a row that the model has no positions for is refused by the engine.

use super::compare::Continuations;
use crate::data::examples::ExampleError;
use crate::data::mnli::{Label, MnliRow};
use crate::data::prompt::{LabelStyle, PromptTemplate};
use crate::data::tokenizer::GptJTokenizer;
use crate::validate::mnli::Row;

/// The prompts of `rows` as token ids, and the labels that continue them.
///
/// # Errors
/// [`ExampleError::Tokenizer`] if the tokenizer fails.
pub fn encode_rows(
    rows: &[MnliRow],
    template: &PromptTemplate,
    style: LabelStyle,
    tokenizer: &GptJTokenizer,
) -> Result<(Vec<Row>, Continuations), ExampleError> {
    let encode = |line: u64, text: &str| {
        tokenizer.encode(text).map_err(|source| ExampleError::Tokenizer { line, source })
    };
    let encode_row = |row: &MnliRow| {
        let prompt = encode(row.line, &template.prompt(row))?;
        Ok(Row { row: row.line, prompt, label: row.label.map(|label| usize::from(label.id())) })
    };
    let encoded = rows.iter().map(encode_row).collect::<Result<Vec<Row>, ExampleError>>()?;
    let mut continuations = Continuations { labels: Default::default(), targets: Default::default() };
    for label in Label::ALL {
        let target = encode(rows.first().map_or(0, |row| row.line), &template.target(label, style))?;
        let mut word = target.clone();
        word.pop_if(|last| *last == tokenizer.eos_id());
        continuations.labels[usize::from(label.id())] = word;
        continuations.targets[usize::from(label.id())] = target;
    }
    Ok((encoded, continuations))
}

/// Positions that the longest row needs, with its longest continuation.
pub fn longest(rows: &[Row], continuations: &Continuations) -> usize {
    let prompt = rows.iter().map(|row| row.prompt.len()).max().unwrap_or(0);
    prompt + continuations.targets.iter().map(Vec::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn targets_are_labels_and_the_end_of_the_text() {
        let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tokenizer"));
        let tokenizer = GptJTokenizer::from_dir(directory).unwrap();
        let text = |text: &str| text.to_owned();
        let row =
            MnliRow { premise: text("P."), hypothesis: text("H."), label: Some(Label::Neutral), line: 3 };
        let template = PromptTemplate::default();
        let (rows, continuations) = encode_rows(&[row], &template, LabelStyle::Words, &tokenizer).unwrap();
        assert_eq!((rows[0].row, rows[0].label), (3, Some(1)));
        for (index, word) in crate::validate::mnli::LABELS.iter().enumerate() {
            let (label, target) = (&continuations.labels[index], &continuations.targets[index]);
            assert_eq!(tokenizer.decode(label, false).unwrap(), format!(" {word}"));
            assert_eq!(target[..label.len()], label[..]);
            assert_eq!(target[label.len()..], [tokenizer.eos_id()]);
        }
        let most = continuations.targets.iter().map(Vec::len).max().unwrap();
        assert_eq!(longest(&rows, &continuations), rows[0].prompt.len() + most);
    }
}
