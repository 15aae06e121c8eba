//! Two engines that answer by rule: agreement and differences are counted as they are.

use super::*;
use crate::validate::mnli::{LABELS, Mode};

const VOCABULARY: usize = 16;

/// After a token t the logits are 0 but for the next token, which has 4; `shift` is added to the logit of token 1 behind
/// prompts that begin with `of`.
struct Rule {
    of: u32,
    shift: f32,
}

impl Rule {
    fn row(&self, prompt: &[u32]) -> Vec<f32> {
        let mut values = vec![0.0; prompt.len() * VOCABULARY];
        for (logits, &token) in values.chunks_exact_mut(VOCABULARY).zip(prompt) {
            logits[(token as usize + 1) % VOCABULARY] = 4.0;
            if prompt[0] == self.of {
                logits[1] += self.shift;
            }
        }
        values
    }
}

impl Engine for Rule {
    fn name(&self) -> String {
        format!("rule {}", self.shift)
    }

    fn generate(&mut self, _: &[Vec<u32>], _: usize, _: u32) -> Result<Vec<Vec<u32>>, EngineError> {
        Err(EngineError::EmptyPrompt { row: 0 })
    }

    fn score(&mut self, prompts: &[Vec<u32>], candidates: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EngineError> {
        let last = |prompt: &[u32]| self.row(prompt)[(prompt.len() - 1) * VOCABULARY..].to_vec();
        let score = |prompt: &Vec<u32>| candidates.iter().map(|c| last(prompt)[c[0] as usize]).collect();
        Ok(prompts.iter().map(score).collect())
    }

    fn logits(&mut self, rows: &[Vec<u32>]) -> Result<Vec<RowLogits>, EngineError> {
        Ok(rows.iter().map(|row| RowLogits { vocabulary: VOCABULARY, values: self.row(row) }).collect())
    }
}

fn options() -> Options {
    Options {
        mode: Mode::Score,
        batch_size: 2,
        max_new_tokens: 0,
        eos: 0,
        label_tokens: [vec![1], vec![2], vec![3]],
        label_texts: LABELS.map(str::to_owned),
        with_scores: false,
    }
}

fn rows() -> Vec<Row> {
    // The label that follows: token 2, 3, 1 and 2.
    let prompts = [vec![7, 1], vec![7, 9, 2], vec![5, 0], vec![5, 4, 4, 1]];
    let labels = [Some(1), Some(2), Some(0), None];
    let number = |index: usize| 10 + index as u64;
    let rows = prompts.into_iter().zip(labels).enumerate();
    rows.map(|(index, (prompt, label))| Row { row: number(index), prompt, label }).collect()
}

fn ask(tested: &mut Rule, reference: &mut Rule) -> Comparison {
    let mut done = Vec::new();
    let compared =
        compare(tested, reference, &rows(), &options(), &|_| String::new(), &mut |rows| done.push(rows));
    assert_eq!(done, [2, 4, 6, 8, 10, 12]);
    let compared = compared.unwrap();
    assert_eq!(compared.report.correct, compared.comparison.engines[0].correct);
    compared.comparison
}

#[test]
fn an_engine_agrees_with_itself() {
    let rule = || Rule { of: 0, shift: 0.0 };
    let comparison = ask(&mut rule(), &mut rule());
    assert_eq!((comparison.rows, comparison.same_answer), (4, 4));
    let logits = comparison.logits;
    assert_eq!((logits.tokens, logits.same_next_token), (11, 11));
    assert_eq!(logits.difference, Distribution { p50: 0.0, p99: 0.0, max: 0.0 });
    let spread = (16.0_f64 / 16.0 - (4.0_f64 / 16.0).powi(2)).sqrt();
    assert!((logits.spread - spread).abs() < 1e-12, "{}", logits.spread);
}

#[test]
fn disagreement_is_counted_where_it_is() {
    let comparison = ask(&mut Rule { of: 5, shift: 5.0 }, &mut Rule { of: 0, shift: 0.0 });
    // Row 13 now answers with token 1 instead of 2; row 12 did so before.
    assert_eq!(comparison.same_answer, 3);
    assert_eq!(comparison.engines.clone().map(|engine| (engine.correct, engine.counted)), [(3, 3), (3, 3)]);
    let logits = &comparison.logits;
    // Of row 12 the token 0, whose next token is 1, keeps it; the token 5 and all of row 13 do not.
    assert_eq!((logits.tokens, logits.same_next_token), (11, 6));
    assert_eq!((logits.difference.p50, logits.difference.max), (0.0, 5.0));
    assert!((4.9..5.01).contains(&logits.difference.p99), "6 of 176 logits differ: {logits:?}");
    assert!(logits.worst_row >= 12, "{logits:?}");
    let text = comparison.to_string();
    for part in [
        "tested          100.00 %",
        "rule 5\n",
        "same answer    3 of 4 rows (75.00 %)",
        "after 6 of 11 tokens (54.55 %)",
        "max 5.00e0",
    ] {
        assert!(text.contains(part), "expected `{part}` in:\n{text}");
    }
}

#[test]
fn numbers_that_are_none_differ_by_everything() {
    let comparison = ask(&mut Rule { of: 7, shift: f32::NAN }, &mut Rule { of: 0, shift: 0.0 });
    assert_eq!(comparison.logits.difference.max, f64::INFINITY);
    assert!(comparison.logits.worst_row <= 11, "{:?}", comparison.logits);
}
