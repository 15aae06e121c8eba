//! The evaluator of a training run.

use super::forward::MeanLoss;
use super::generation::Generator;
use crate::data::window::Window;
use crate::hex::hex;
use crate::train::checkpoint::hash_windows;
use crate::train::{Evaluator, Observer, TrainError, Trainer};
use crate::validate::engine::argmax;
use crate::validate::mnli::{Mode, Prediction, Row, count};
use crate::validate::native_engine;
use crate::validate::questions::Questions;
use crate::validate::report::Report;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// Windows whose losses are taken between two reports of progress.
const CHUNK: usize = 64;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// The mean loss over the labelled tokens, and its exponential.
    Loss,
    /// Accuracy of the label that the model finds most likely; of equals, the one that GLUE numbers first.
    Score,
    /// Accuracy of the label that the model writes.
    Generate,
}

impl Metric {
    /// Every metric, in the order in which they are measured.
    pub const ALL: [Metric; 3] = [Metric::Loss, Metric::Score, Metric::Generate];

    /// The word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Score => "score",
            Metric::Generate => "generate",
        }
    }

    /// Names of what it gives, in the log.
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Metric::Loss => &["eval_loss", "eval_perplexity"],
            Metric::Score => &["eval_accuracy"],
            Metric::Generate => &["eval_generated_accuracy"],
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Metric::ALL.into_iter().find(|metric| metric.word() == word);
        found.ok_or_else(|| {
            format!("expected some of {}, found `{word}`", Metric::ALL.map(Metric::word).join(", "))
        })
    }
}

/// Measures the model between steps.
pub struct ModelEvaluator<'a> {
    windows: Vec<Window>,
    /// Rows whose label is asked for by scores.
    scored: Option<Questions>,
    generated: Option<(Questions, Generator<'a>)>,
}

/// Tells an observer how many rows of all parts are done.
struct Progress<'o> {
    observer: &'o mut dyn Observer,
    before: usize,
    all: usize,
}

impl Progress<'_> {
    fn part(&mut self, done: usize) {
        self.observer.on_evaluate(self.before + done, self.all);
    }
}

impl<'a> ModelEvaluator<'a> {
    /// An evaluator of the loss of `windows`.
    pub fn new(windows: Vec<Window>) -> Self {
        Self { windows, scored: None, generated: None }
    }

    /// Also measures how often the likeliest label is the row's.
    pub fn scoring(self, questions: Questions) -> Self {
        Self { scored: Some(questions), ..self }
    }

    /// Also measures how often the label that is written is the row's.
    pub fn generating(self, questions: Questions, generator: Generator<'a>) -> Self {
        Self { generated: Some((questions, generator)), ..self }
    }

    /// Rows of an evaluation, each counted for every metric that it is asked for.
    pub fn rows(&self) -> usize {
        self.parts().iter().sum()
    }

    /// Rows that are evaluated.
    fn samples(&self) -> usize {
        self.parts().into_iter().max().unwrap_or_default()
    }

    /// Rows of the loss, of the scores and of the answers.
    fn parts(&self) -> [usize; 3] {
        let scored = self.scored.as_ref().map_or(0, |questions| questions.rows.len());
        let generated = self.generated.as_ref().map_or(0, |(questions, _)| questions.rows.len());
        [self.windows.len(), scored, generated]
    }

    /// The mean loss; ranks share the windows out, and each adds all losses in their order.
    fn losses(&self, trainer: &mut Trainer, progress: &mut Progress<'_>) -> Result<MeanLoss, TrainError> {
        let (part, ranks) = (trainer.ranks().part(self.windows.len()), trainer.ranks().count());
        let windows: Vec<&Window> = self.windows[part].iter().collect();
        let mut own = Vec::new();
        let computed = trainer.token_losses(&windows, |index, losses| {
            own.extend_from_slice(losses);
            if (index + 1).is_multiple_of(CHUNK) {
                progress.part((index + 1) * ranks);
            }
            Ok(())
        });
        let all = trainer.join_values(computed.map(|()| own))?;
        let mut mean = MeanLoss::default();
        let mut rest = all.as_slice();
        for window in &self.windows {
            let (losses, others) = rest.split_at(window.labelled().min(rest.len()));
            mean.add(losses);
            rest = others;
        }
        Ok(mean)
    }
}

/// Asks `trainer` for the likeliest label of each row.
fn score(
    trainer: &mut Trainer,
    questions: &Questions,
    progress: &mut Progress<'_>,
) -> Result<Report, TrainError> {
    let begun = Instant::now();
    let Questions { rows, label_tokens, .. } = questions;
    let (part, ranks) = (trainer.ranks().part(rows.len()), trainer.ranks().count());
    let prompts: Vec<&[u32]> = rows[part].iter().map(|row| row.prompt.as_slice()).collect();
    let scores = trainer.score(&prompts, label_tokens, &mut |done| progress.part(done * ranks));
    // For each row, whether it has scores, and those.
    let flat = |scores: Vec<Option<Vec<f32>>>| scores.iter().flat_map(flattened).collect();
    let scores = trainer.join_values(scores.map(flat))?;
    let prediction = |(row, scores): (&Row, &[f32])| {
        let scores: Option<[f32; 3]> = scores
            .split_first()
            .filter(|(has, _)| **has > 0.0)
            .and_then(|(_, scores)| scores.try_into().ok());
        let answer = scores.as_ref().map(|scores| argmax(scores));
        Prediction { row: row.row, label: row.label, answer, text: None, scores }
    };
    let predictions: Vec<Prediction> = rows.iter().zip(scores.chunks(4)).map(prediction).collect();
    let engine = native_engine::name(trainer.plan());
    Ok(count(engine, Mode::Score, &predictions, begun.elapsed().as_secs_f64()))
}

/// Whether there are scores of the three labels, and what they are.
fn flattened(scores: &Option<Vec<f32>>) -> [f32; 4] {
    match scores.as_deref() {
        Some(&[first, second, third]) => [1.0, first, second, third],
        _ => [0.0; 4],
    }
}

/// A hash of prompts and labels.
fn hash(questions: &Questions) -> String {
    let mut hash = Sha256::new();
    for Row { prompt, label, .. } in &questions.rows {
        hash.update((prompt.len() as u64).to_le_bytes());
        prompt.iter().for_each(|token| hash.update(token.to_le_bytes()));
        hash.update(label.map_or(u64::MAX, |label| label as u64).to_le_bytes());
    }
    hex(&hash.finalize()[..8])
}

impl Evaluator for ModelEvaluator<'_> {
    fn identity(&self) -> String {
        let [windows, scored, generated] = self.parts();
        let loss = &hash_windows(&self.windows)[..16];
        let of_scored = self.scored.as_ref().map(hash).unwrap_or_default();
        let of_generated = self.generated.as_ref().map(|(questions, _)| hash(questions)).unwrap_or_default();
        format!(
            "the loss of {windows} windows ({loss}), {scored} rows scored ({of_scored}), {generated} answered ({of_generated})"
        )
    }

    fn evaluate(
        &mut self,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<BTreeMap<String, f64>, TrainError> {
        let begun = Instant::now();
        let mut metrics = BTreeMap::new();
        let mut progress = Progress { observer, before: 0, all: self.rows() };
        progress.part(0);
        let mut reports = Vec::new();
        if !self.windows.is_empty() {
            let mean = self.losses(trainer, &mut progress)?;
            let found = mean
                .get()
                .ok_or(TrainError::NoLabels { step: trainer.done(), windows: self.windows.len() })?;
            metrics.insert("eval_loss".to_owned(), found.loss);
            metrics.insert("eval_perplexity".to_owned(), found.loss.exp());
            progress.before += self.windows.len();
        }
        if let Some(questions) = &self.scored {
            reports.push(("eval_accuracy", score(trainer, questions, &mut progress)?));
            progress.before += questions.rows.len();
        }
        if let Some((questions, generator)) = &self.generated {
            let report = generator.answer(trainer, &questions.rows, &mut |done| progress.part(done))?;
            reports.push(("eval_generated_accuracy", report));
        }
        let observer = progress.observer;
        for (name, report) in &reports {
            metrics.extend(report.accuracy.map(|accuracy| ((*name).to_owned(), accuracy)));
            observer.on_answers(report);
        }
        let seconds = begun.elapsed().as_secs_f64();
        metrics.insert("eval_runtime".to_owned(), seconds);
        metrics.insert("eval_samples_per_second".to_owned(), self.samples() as f64 / seconds.max(1e-9));
        Ok(metrics)
    }
}
