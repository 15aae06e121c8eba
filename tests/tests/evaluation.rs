//! Evaluation on the compiled `forward` entry: losses that do not depend on how windows run together, and scores that are
//! those of the decoding plan.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_graphs::plan::CompileOptions;
use gptjc_runtime::adapter::Adapter;
use gptjc_runtime::data::window::{Window, WindowLimits};
use gptjc_runtime::evaluate::{Decode, Generator, ModelEvaluator};
use gptjc_runtime::train::{Evaluator, LogEntry, Observer, RunStart, Start, StepReport, Trainer};
use gptjc_runtime::validate::engine::Engine;
use gptjc_runtime::validate::mnli::{Mode, Options, Row, evaluate};
use gptjc_runtime::validate::native_engine::NativeEngine;
use gptjc_runtime::validate::questions::Questions;
use gptjc_runtime::validate::report::Report;
use gptjc_tests::golden::Golden;

/// Largest difference of a score between `forward` and `decode`: f32 sums in another order.
const TOLERANCE: f32 = 1e-4;
/// Candidates of one, two and three tokens, some of which begin alike.
const CANDIDATES: [&[u32]; 4] = [&[7, 11], &[3], &[7, 2], &[500, 2, 9]];

/// The golden case's model in training, with micro-batches of so many windows.
fn trainer(golden: &Golden, micro_batch: u64) -> Trainer {
    let mut options = CompileOptions { micro_batch, ..golden.compile_options() };
    options.step_windows = options.step_windows.max(micro_batch);
    golden.trainer(&options, golden.train_options())
}

/// A decoding engine with the parameters that training starts from.
fn engine(golden: &Golden) -> NativeEngine {
    let Start::Adapter(adapter, label) = golden.start() else { panic!("the case has an adapter") };
    NativeEngine::new(decode_plan(golden), golden.checkpoint(), Start::Adapter(adapter, label), 2).unwrap()
}

fn decode_plan(golden: &Golden) -> gptjc_graphs::plan::Plan {
    let mut options = golden.compile_options();
    (options.decode_sequences, options.decode_slots) = (3, 32);
    options.max_seq_length += 5;
    gptjc_compiler::compile(&options).unwrap()
}

fn windows(golden: &Golden) -> Vec<Window> {
    golden.steps().into_iter().flatten().collect()
}

/// Prompts of different lengths, two of which are too short for all labels on one segment.
fn prompts(golden: &Golden) -> Vec<Vec<u32>> {
    let lengths = [9, 1, 12, 2, 13, 5];
    windows(golden).iter().zip(lengths).map(|(window, length)| window.tokens[..length].to_vec()).collect()
}

fn candidates() -> Vec<Vec<u32>> {
    CANDIDATES.iter().map(|tokens| tokens.to_vec()).collect()
}

#[test]
fn losses_do_not_depend_on_what_runs_together() {
    let golden = Golden::open("plain");
    let windows = windows(&golden);
    // Windows of all lengths, so that runs end in the middle of things.
    let cut = |(index, window): (usize, &Window)| {
        let mut cut = Window::default();
        let length = 3 + (5 * index) % (window.tokens.len() - 2);
        let limits = WindowLimits { window_length: 64, n_positions: 64, vocab_size: 512 };
        let labels: Vec<Option<u32>> = window.tokens[..length].iter().map(|&token| Some(token)).collect();
        cut.push_segment(&window.tokens[..length], &labels, &limits).unwrap();
        cut
    };
    let windows: Vec<Window> = windows.iter().enumerate().map(cut).collect();
    let together: Vec<&Window> = windows.iter().collect();
    let losses = |trainer: &mut Trainer, windows: &[&Window]| {
        let mut all: Vec<Vec<u32>> = vec![Vec::new(); windows.len()];
        let keep = |index: usize, losses: &[f32]| {
            all[index] = losses.iter().map(|loss| loss.to_bits()).collect();
            Ok(())
        };
        trainer.token_losses(windows, keep).unwrap();
        all
    };
    let mut alone = trainer(&golden, 1);
    let expected: Vec<Vec<u32>> =
        together.iter().map(|window| losses(&mut alone, &[window]).remove(0)).collect();
    for micro_batch in [1, 2, 8] {
        let found = losses(&mut trainer(&golden, micro_batch), &together);
        assert_eq!(found, expected, "micro-batches of {micro_batch}");
    }
    let labelled: usize = windows.iter().map(Window::labelled).sum();
    let sum: f64 = expected.iter().flatten().map(|&bits| f64::from(f32::from_bits(bits))).sum();
    let mean = alone.evaluate(&together).unwrap();
    assert_eq!(mean.labelled, labelled);
    assert!((mean.loss - sum / labelled as f64).abs() < 1e-12);
}

#[test]
fn scores_are_those_of_the_decoding_plan() {
    let golden = Golden::open("plain");
    let (prompts, candidates) = (prompts(&golden), candidates());
    let expected = engine(&golden).score(&prompts, &candidates).unwrap();
    let views: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let mut first: Option<Vec<Option<Vec<f32>>>> = None;
    for micro_batch in [1, 4] {
        let mut done = Vec::new();
        let found =
            trainer(&golden, micro_batch).score(&views, &candidates, &mut |rows| done.push(rows)).unwrap();
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let found = found.as_ref().unwrap();
            for (candidate, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert!(
                    (found - expected).abs() <= TOLERANCE,
                    "prompt {row}, candidate {candidate}: {found}, expected {expected}"
                );
            }
        }
        assert_eq!(done.last(), Some(&prompts.len()));
        assert!(done.is_sorted(), "{done:?}");
        assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "micro-batches of {micro_batch}");
    }
}

#[test]
fn a_prompt_without_room_has_no_scores_and_a_foreign_token_is_refused() {
    let golden = Golden::open("plain");
    let mut trainer = trainer(&golden, 2);
    let window = golden.expected.hyper_parameters.seq;
    let long = vec![5; window - 2];
    let found = trainer.score(&[&[], &long, &long[..window - 3]], &candidates(), &mut |_| {}).unwrap();
    assert!(found[0].is_none() && found[1].is_none() && found[2].is_some(), "{found:?}");
    let error = trainer.score(&[&[512]], &candidates(), &mut |_| {}).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("token 512 is outside of the model's vocabulary of 512"), "{source}");
}

/// Keeps what an evaluation tells.
#[derive(Default)]
struct Told {
    rows: Vec<(usize, usize)>,
    reports: Vec<Report>,
}

impl Observer for Told {
    fn on_start(&mut self, _run: &RunStart) {}
    fn on_step(&mut self, _report: &StepReport) {}
    fn on_log(&mut self, _entry: &LogEntry) {}
    fn on_evaluate(&mut self, rows_done: usize, rows: usize) {
        self.rows.push((rows_done, rows));
    }
    fn on_answers(&mut self, report: &Report) {
        self.reports.push(report.clone());
    }
}

#[test]
fn an_evaluation_finds_what_a_validation_finds() {
    let golden = Golden::open("plain");
    let rows: Vec<Row> = (0..)
        .zip(prompts(&golden))
        .map(|(at, prompt)| Row { row: at, prompt, label: Some(at as usize % 3) })
        .collect();
    let texts = ["3", "7", "500"].map(str::to_owned);
    let questions = Questions {
        rows: rows.clone(),
        label_tokens: [vec![3], vec![7, 11], vec![500, 2]],
        label_texts: texts,
    };
    let options = |mode| Options {
        mode,
        batch_size: 2,
        max_new_tokens: 5,
        eos: 0,
        label_tokens: questions.label_tokens.clone(),
        label_texts: questions.label_texts.clone(),
        with_scores: false,
    };
    // Tokens read as their numbers, so that answers differ and some are labels.
    let words = |tokens: &[u32]| tokens.iter().map(|token| format!("{token} ")).collect::<String>();
    let validated =
        |mode| evaluate(&mut engine(&golden), &rows, &options(mode), &words, &mut |_| {}).unwrap().0;

    let decode: Decode<'_> = Box::new(words);
    let generator = Generator::new(decode_plan(&golden), options(Mode::Generate), decode);
    let windows = windows(&golden);
    let mut evaluator = ModelEvaluator::new(windows.clone())
        .scoring(questions.clone())
        .generating(questions.clone(), generator);
    let (mut trainer, mut told) = (trainer(&golden, 2), Told::default());
    let metrics = evaluator.evaluate(&mut trainer, &mut told).unwrap();

    let all = windows.len() + 2 * rows.len();
    assert_eq!(
        (told.rows.first(), told.rows.last()),
        (Some(&(0, all)), Some(&(all, all))),
        "{:?}",
        told.rows
    );
    for (report, mode) in told.reports.iter().zip([Mode::Score, Mode::Generate]) {
        let expected = validated(mode);
        assert_eq!(report.mode, expected.mode);
        assert_eq!(report.confusion, expected.confusion, "{mode:?}");
        assert_eq!((report.counted, report.interval), (rows.len() as u64, expected.interval));
        assert!(report.engine.starts_with("gptjc ") && report.engine == expected.engine);
    }
    assert_eq!(metrics["eval_accuracy"], told.reports[0].accuracy.unwrap());
    assert_eq!(metrics["eval_generated_accuracy"], told.reports[1].accuracy.unwrap());
    let loss = trainer.evaluate(&windows.iter().collect::<Vec<_>>()).unwrap().loss;
    assert_eq!((metrics["eval_loss"], metrics["eval_perplexity"]), (loss, loss.exp()));
    assert!(metrics["eval_runtime"] > 0.0 && metrics["eval_samples_per_second"] > 0.0);
    assert_eq!(metrics.len(), 6, "{metrics:?}");
}

#[test]
fn answers_are_written_with_the_adapter_of_the_moment() {
    let golden = Golden::open("plain");
    let mut trainer = trainer(&golden, 2);
    let before = trainer.adapter().unwrap().unwrap();
    let schedule = golden.schedule();
    for (step, windows) in golden.steps().iter().enumerate() {
        let windows: Vec<&Window> = windows.iter().collect();
        trainer.step(&windows, schedule.rate(step as u64)).unwrap();
    }
    let after = trainer.adapter().unwrap().unwrap();
    assert_ne!(before.tensors, after.tensors);
    let expected = Adapter::load(&golden.dir.join("adapter_final")).unwrap();
    assert_eq!(after.tensors.keys().collect::<Vec<_>>(), expected.tensors.keys().collect::<Vec<_>>());
}
