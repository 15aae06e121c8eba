//! The contract on bits, over ranks: as many as there are, they write the bytes that one writes. Ranks are threads here;
//! what carries their messages is all that differs from processes.
#![expect(clippy::unwrap_used, reason = "a helper of tests that cannot go on fails the test")]

use gptjc_graphs::plan::{CompileOptions, Precision};
use gptjc_runtime::data::window::Window;
use gptjc_runtime::evaluate::{BestModelOptions, ModelEvaluator};
use gptjc_runtime::ranks::{Ranks, RanksError, local};
use gptjc_runtime::topology::Pretended;
use gptjc_runtime::train::checkpoint::{CheckpointOptions, Checkpoints, Saved};
use gptjc_runtime::train::{
    Cadence, Evaluator, Finished, Job, LogEntry, Observer, RunStart, RunState, StepReport, TrainError,
    TrainOptions, Trainer, train,
};
use gptjc_tests::golden::Golden;
use std::path::{Path, PathBuf};

/// What each of `count` ranks returns.
fn on_ranks<T: Send>(count: usize, each: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let each = &each;
    std::thread::scope(|scope| {
        let threads: Vec<_> = local::ranks(count)
            .into_iter()
            .map(|transport| scope.spawn(move || each(Ranks::new(Box::new(transport)))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Windows of uneven length.
fn windows(count: usize) -> Vec<Window> {
    let rows: Vec<Window> = Golden::open("plain").steps().into_iter().flatten().take(count).collect();
    let cut = |(index, mut row): (usize, Window)| {
        let length = row.tokens.len() - index;
        row.tokens.truncate(length);
        row.positions.truncate(length);
        row.targets.truncate(length);
        row.segments = vec![length as u32];
        row
    };
    rows.into_iter().enumerate().map(cut).collect()
}

/// How a rank computes, which must not matter.
#[derive(Clone, Copy)]
struct How {
    micro_batch: u64,
    threads: usize,
    topology: Option<Pretended>,
}

const ALONE: How = How { micro_batch: 8, threads: 1, topology: None };

fn compile_options(how: How, precision: Precision) -> CompileOptions {
    let mut options = Golden::open("plain").compile_options();
    options.precision = precision.into();
    (options.step_windows, options.per_device_train_batch_size) = (8, 8);
    options.micro_batch = how.micro_batch;
    if let Some(lora) = &mut options.lora {
        lora.dropout = 0.1;
    }
    options
}

fn trainer(how: How, precision: Precision) -> Trainer {
    let golden = Golden::open("plain");
    let options = TrainOptions {
        threads: how.threads,
        topology: how.topology,
        per_device_train_batch_size: 7,
        gradient_accumulation_steps: 1,
        max_steps: Some(6),
        eval: Cadence::Steps(2),
        save: Cadence::Steps(2),
        ..golden.train_options()
    };
    golden.trainer(&compile_options(how, precision), options)
}

fn adapter_bytes(trainer: &mut Trainer) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    trainer.save(dir.path()).unwrap();
    std::fs::read(dir.path().join("adapter_model.safetensors")).unwrap()
}

/// The adapter after three steps of uneven numbers of windows, and what the steps reported.
fn three_steps(mut trainer: Trainer) -> (Vec<u8>, Vec<(f32, f32)>) {
    let windows = windows(8);
    let windows: Vec<&Window> = windows.iter().collect();
    let reports = [(8, 1e-3), (5, 7e-4), (7, 3e-4)].map(|(count, rate)| {
        let report = trainer.step(&windows[..count], rate).unwrap();
        (report.loss, report.grad_norm)
    });
    (adapter_bytes(&mut trainer), reports.to_vec())
}

#[test]
fn every_number_of_ranks_gives_the_same_bytes() {
    for precision in [Precision::F32, Precision::Bf16] {
        let expected = three_steps(trainer(ALONE, precision));
        let ways = [
            How { micro_batch: 1, ..ALONE },
            How { micro_batch: 4, threads: 2, ..ALONE },
            How { micro_batch: 2, threads: 2, topology: Some("2x1".parse().unwrap()) },
        ];
        // More ranks than some steps have windows, too.
        for (count, how) in (2..=6).zip(ways.into_iter().cycle()) {
            let found = on_ranks(count, |ranks| {
                let mut trainer = trainer(how, precision);
                trainer.join(ranks);
                three_steps(trainer)
            });
            for (rank, found) in found.into_iter().enumerate() {
                assert!(found == expected, "{precision}: other bits on rank {rank} of {count}");
            }
        }
    }
}

/// Keeps what is logged.
#[derive(Default)]
struct Log(Vec<LogEntry>);

impl Observer for Log {
    fn on_start(&mut self, _run: &RunStart) {}
    fn on_step(&mut self, _report: &StepReport) {}
    fn on_log(&mut self, entry: &LogEntry) {
        let mut entry = entry.clone();
        entry.other.retain(|name, _| !name.contains("runtime") && !name.contains("per_second"));
        self.0.push(entry);
    }
}

/// A run from `state`, or from the checkpoint `from`, to its end: the adapter and the log.
fn whole_run(
    mut trainer: Trainer,
    out: &Path,
    from: Option<PathBuf>,
    mut state: RunState,
) -> Result<(Vec<u8>, Vec<LogEntry>), TrainError> {
    let windows = windows(8);
    let options = CheckpointOptions { directory: out.to_owned(), total_limit: None, rolling: None };
    let mut checkpoints = Checkpoints::new(options, &trainer, &windows)?;
    if let Some(from) = from {
        state = Saved::open(&from)?.resume(&mut trainer, &mut checkpoints, false)?.0;
    }
    let mut evaluator = ModelEvaluator::new(windows[..5].to_vec());
    checkpoints.agree(&mut trainer, &state, "a program".to_owned(), &evaluator.identity())?;
    let (mut log, stop, writes) = (Log::default(), trainer.stop_flag(), trainer.ranks().is_first());
    let job = Job {
        windows: &windows,
        evaluator: Some(&mut evaluator as &mut dyn Evaluator),
        observer: &mut log,
        checkpoints: writes.then_some(&mut checkpoints),
        policy: BestModelOptions::default(),
        stop: &stop,
    };
    let Finished { stopped, .. } = train(&mut trainer, job, state)?;
    assert_eq!(stopped, None);
    Ok((adapter_bytes(&mut trainer), log.0))
}

#[test]
fn runs_evaluate_save_and_go_on_with_any_number_of_ranks() {
    let alone = tempfile::tempdir().unwrap();
    let new = || trainer(ALONE, Precision::F32);
    let expected = whole_run(new(), alone.path(), None, RunState::default()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let joined = |ranks: Ranks| {
        let mut trainer = new();
        trainer.join(ranks);
        trainer
    };
    let start = || RunState::default();
    for found in on_ranks(3, |ranks| whole_run(joined(ranks), out.path(), None, start()).unwrap()) {
        assert!(found == expected, "other bytes or another log: {:?}\n{:?}", found.1, expected.1);
    }
    let saved = out.path().join("checkpoint-2");
    for count in [1, 2, 4] {
        let again = tempfile::tempdir().unwrap();
        let run = |ranks| whole_run(joined(ranks), again.path(), Some(saved.clone()), start()).unwrap();
        for found in on_ranks(count, run) {
            assert!(found.0 == expected.0, "other bytes when {count} ranks go on");
        }
    }
}

#[test]
fn ranks_go_on_inside_a_step() {
    let (alone, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected =
        whole_run(trainer(ALONE, Precision::F32), alone.path(), None, RunState::default()).unwrap();
    let found = on_ranks(3, |ranks| {
        let mut trainer = trainer(ALONE, Precision::F32);
        // Three windows of the first step are done, as in a checkpoint that one process wrote.
        let windows = windows(3);
        trainer.micro_step(&windows.iter().collect::<Vec<_>>(), 0).unwrap();
        trainer.join(ranks);
        whole_run(trainer, out.path(), None, RunState { windows_done: 3, ..RunState::default() }).unwrap()
    });
    assert!(found.iter().all(|found| found.0 == expected.0));
}

#[test]
fn a_rank_that_would_do_something_else_is_named() {
    let rate = |rank| TrainOptions {
        learning_rate: if rank == 2 { 0.5 } else { 0.25 },
        ..Golden::open("plain").train_options()
    };
    check_other(rate, "--learning-rate: given 0.5, rank 0 has 0.25");
    // Nor may ranks meet at other times, or measure other data.
    let evaluation = |rank| TrainOptions {
        eval: Cadence::Steps(if rank == 2 { 2 } else { 1 }),
        ..Golden::open("plain").train_options()
    };
    check_other(
        evaluation,
        "what is done between steps (--eval-steps, --save-steps and so on): given evaluation Steps(2)",
    );
    let of = |count| ModelEvaluator::new(windows(count)).identity();
    assert!(of(4) != of(5) && of(5) == of(5), "{}", of(5));
}

/// Three ranks with the options that `options` gives each: the last would do something else, and `line` says what.
fn check_other(options: impl Fn(usize) -> TrainOptions + Sync, line: &str) {
    let out = tempfile::tempdir().unwrap();
    let errors = on_ranks(3, |ranks| {
        let golden = Golden::open("plain");
        let options = options(ranks.rank());
        let mut trainer = golden.trainer(&compile_options(ALONE, Precision::F32), options);
        trainer.join(ranks.clone());
        let error = whole_run(trainer, out.path(), None, RunState::default()).unwrap_err();
        (error, ranks.speaks())
    });
    for (rank, (error, speaks)) in errors.into_iter().enumerate() {
        let TrainError::Ranks(RanksError::Disagree { rank: other, lines }) = error else {
            panic!("another error")
        };
        assert_eq!((other, speaks), (2, rank == 0));
        assert!(lines.len() == 1 && lines[0].starts_with(line), "{lines:?}");
    }
}
