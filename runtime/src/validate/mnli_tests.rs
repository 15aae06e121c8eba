//! Answers are read, counted and ordered as they should be, with an engine that answers by rule.

use super::*;
use crate::validate::RowLogits;

/// Answers with the token after the prompt's last one, then its eos; scores by distance to the last token.
struct Rule {
    batches: Vec<usize>,
}

const EOS: u32 = 99;

impl Engine for Rule {
    fn name(&self) -> String {
        "rule".into()
    }

    fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        most: usize,
        eos: u32,
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        assert_eq!((most, eos), (5, EOS));
        self.batches.push(prompts.len());
        Ok(prompts.iter().map(|prompt| vec![prompt[prompt.len() - 1]]).collect())
    }

    fn score(&mut self, prompts: &[Vec<u32>], candidates: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EngineError> {
        let score = |prompt: &[u32], token: u32| -(prompt[prompt.len() - 1].abs_diff(token) as f32);
        Ok(prompts.iter().map(|prompt| candidates.iter().map(|c| score(prompt, c[0])).collect()).collect())
    }

    fn logits(&mut self, _: &[Vec<u32>]) -> Result<Vec<RowLogits>, EngineError> {
        Err(EngineError::EmptyPrompt { row: 0 })
    }
}

/// Tokens 10, 11, 12 are the labels; others are words of their own.
fn decode(tokens: &[u32]) -> String {
    let word = |&token: &u32| match token {
        10..=12 => format!(" {}", LABELS[token as usize - 10]),
        other => format!(" word{other}"),
    };
    tokens.iter().map(word).collect()
}

fn row(row: u64, prompt: &[u32], label: Option<usize>) -> Row {
    Row { row, prompt: prompt.to_vec(), label }
}

fn options(mode: Mode) -> Options {
    Options {
        mode,
        batch_size: 2,
        max_new_tokens: 5,
        eos: EOS,
        label_tokens: [vec![10], vec![11], vec![12]],
        label_texts: LABELS.map(str::to_owned),
        with_scores: false,
    }
}

fn rows() -> Vec<Row> {
    vec![
        row(1, &[1, 2, 3, 10], Some(0)),
        row(2, &[1, 11], Some(0)),
        row(3, &[12], None),
        row(4, &[1, 2, 7], Some(2)),
        row(5, &[1, 2, 3, 4, 12], Some(2)),
    ]
}

#[test]
fn labels_are_read_from_whole_words() {
    assert_eq!(read_label(" neutral", &LABELS), Some(1));
    assert_eq!(read_label("\nso contradiction neutral", &LABELS), Some(2), "the first one counts");
    assert_eq!(read_label("Entailment neutrality contradiction.", &LABELS), None);
    assert_eq!(read_label("", &LABELS), None);
}

#[test]
fn answers_are_counted_and_come_in_the_order_of_the_rows() {
    let mut engine = Rule { batches: vec![] };
    let mut seen = vec![];
    let mut progress = |rows| seen.push(rows);
    let (report, predictions) =
        evaluate(&mut engine, &rows(), &options(Mode::Generate), &decode, &mut progress).unwrap();
    assert_eq!(engine.batches, [2, 2, 1]);
    assert_eq!(seen, [2, 4, 5]);
    let answers: Vec<_> = predictions.iter().map(|p| (p.row, p.answer)).collect();
    assert_eq!(answers, [(1, Some(0)), (2, Some(1)), (3, Some(2)), (4, None), (5, Some(2))]);
    assert_eq!((report.rows, report.counted, report.correct), (5, 4, 2));
    assert_eq!(report.accuracy, Some(0.5));
    assert_eq!(report.confusion, [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]);
    assert_eq!(report.no_label, 1);
    assert_eq!(report.no_label_examples, [NoLabelExample { row: 4, text: " word7".into() }]);
}

#[test]
fn scores_give_the_most_likely_label() {
    let mut engine = Rule { batches: vec![] };
    let (report, predictions) =
        evaluate(&mut engine, &rows(), &options(Mode::Score), &decode, &mut |_| {}).unwrap();
    assert!(engine.batches.is_empty(), "nothing is generated");
    assert_eq!((report.correct, report.no_label), (2, 0));
    assert_eq!(predictions[3].answer, Some(0), "7 is nearest to 10");
    assert_eq!(predictions[3].scores, Some([-3.0, -4.0, -5.0]));
}

#[test]
fn predictions_are_lines_of_json() {
    let mut engine = Rule { batches: vec![] };
    let with_scores = Options { with_scores: true, ..options(Mode::Generate) };
    let (_, predictions) = evaluate(&mut engine, &rows(), &with_scores, &decode, &mut |_| {}).unwrap();
    let line = |index: usize| serde_json::to_string(&predictions[index]).unwrap();
    assert_eq!(
        line(2),
        r#"{"row":3,"label":null,"answer":"contradiction","text":" contradiction","scores":[-2.0,-1.0,-0.0]}"#
    );
    assert_eq!(
        line(3),
        r#"{"row":4,"label":"contradiction","answer":"unknown","text":" word7","scores":[-3.0,-4.0,-5.0]}"#
    );
}

#[test]
fn nothing_to_do_is_an_error() {
    let mut engine = Rule { batches: vec![] };
    let mut ask = |rows: &[Row], options: &Options| {
        evaluate(&mut engine, rows, options, &decode, &mut |_| {}).unwrap_err()
    };
    assert!(matches!(ask(&[], &options(Mode::Score)), ValidateError::NoRows));
    assert!(matches!(
        ask(&rows(), &Options { batch_size: 0, ..options(Mode::Score) }),
        ValidateError::BatchSize
    ));
}

#[test]
fn rows_that_are_too_long_are_refused_before_anything_runs() {
    // The longest prompt has 5 tokens, an answer 5 or, when only scored, 1.
    assert_eq!(check_lengths(&rows(), &options(Mode::Generate), 10).unwrap(), 10);
    assert_eq!(check_lengths(&rows(), &options(Mode::Score), 10).unwrap(), 6);
    let error = check_lengths(&rows(), &options(Mode::Generate), 8).unwrap_err().to_string();
    let expected = "row 1 has 4 tokens, with 5 for the answer more than the model's 8 positions (1 more rows are too long)";
    assert!(error.starts_with(expected), "{error}");
    assert!(matches!(check_lengths(&[], &options(Mode::Score), 8), Err(ValidateError::NoRows)));
}

#[test]
fn labels_are_read_as_they_are_written() {
    assert_eq!(read_label(" 2\n", &["0", "1", "2"]), Some(2));
    assert_eq!(read_label(" neutral", &["0", "1", "2"]), None);
}
