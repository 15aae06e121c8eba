//! What a run leaves, over its starts and ends.

use super::super::{Collected, MetricsLine};
use super::*;
use crate::train::Others;
use std::cell::RefCell;
use std::fs;

const START: RunStart =
    RunStart { total_steps: 20, first_step: 0, epochs: 2.0, windows: 40, step_windows: 4 };
const ALL: ReportTo = ReportTo { metrics: true, tensorboard: true };

fn facts(resumed_from: Option<&str>) -> RunFacts {
    RunFacts { resumed_from: resumed_from.map(str::to_owned), ..RunFacts::default() }
}

/// Records that say their warnings to `warnings`.
fn records<'a>(
    directory: &Path,
    report_to: ReportTo,
    facts: RunFacts,
    warnings: &'a RefCell<Vec<String>>,
) -> Records<'a> {
    let totals = Arc::new(StepTotals::new(std::iter::empty()));
    let warn = Box::new(|text: &str| warnings.borrow_mut().push(text.to_owned()));
    Records::new(directory, report_to, facts, (&Plan::default(), totals), warn)
}

/// Steps after `first` up to and with `last`, each logged, every fifth evaluated and saved.
fn go(records: &mut Records<'_>, first: u64, last: u64) {
    records.on_start(&RunStart { first_step: first, ..START });
    for step in first + 1..=last {
        let (loss, grad_norm, learning_rate) = (1.0, 0.5, 1e-4);
        let report =
            StepReport { step, loss, grad_norm, learning_rate, tokens: 100, labelled: 10, seconds: 0.5 };
        records.on_step(&report);
        records.on_log(&LogEntry::training(step, step as f64 / 10.0, loss, grad_norm, learning_rate));
        if step.is_multiple_of(5) {
            let counts = Report {
                engine: "an engine".to_owned(),
                mode: "score",
                rows: 4,
                counted: 4,
                correct: 3,
                accuracy: Some(0.75),
                interval: Some([0.3, 0.95]),
                confusion: [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]],
                no_label: 0,
                no_label_examples: Vec::new(),
                seconds: 1.0,
                rows_per_second: 4.0,
            };
            records.on_answers(&counts);
            let metrics = [("eval_accuracy", 0.75), ("eval_runtime", 2.0)];
            let other = metrics.map(|(name, value)| (name.to_owned(), Value::from(value)));
            let other = Others::from_iter(other);
            records.on_log(&LogEntry { step, epoch: step as f64 / 10.0, other, ..LogEntry::default() });
            records.on_save(Path::new("checkpoint"));
        }
    }
}

fn steps(log: &[MetricsLine]) -> Vec<u64> {
    log.iter().map(|line| line.entry.step).collect()
}

#[test]
fn a_resumed_run_goes_on_in_the_same_files() {
    let (directory, warnings) = (tempfile::tempdir().unwrap(), RefCell::default());
    let mut killed = records(directory.path(), ALL, facts(None), &warnings);
    go(&mut killed, 0, 12);
    let found = Collected::load(directory.path()).unwrap();
    assert_eq!(found.record.unwrap().status, RunStatus::Running, "nothing was written after the last save");

    let mut resumed = records(directory.path(), ALL, facts(Some("checkpoint-10")), &warnings);
    go(&mut resumed, 10, 20);
    resumed.finish(RunStatus::Finished);
    let found = Collected::load(directory.path()).unwrap();
    let expected: Vec<u64> =
        (1..=20).flat_map(|step| std::iter::repeat_n(step, if step % 5 == 0 { 2 } else { 1 })).collect();
    assert_eq!(steps(&found.log), expected);
    assert_eq!(found.log[0].entry.other.get("tokens_per_second"), Some(&200.0.into()));
    let record = found.record.unwrap();
    assert_eq!((record.status, record.format), (RunStatus::Finished, RUN_FORMAT));
    assert_eq!(record.facts.resumed_from.as_deref(), Some("checkpoint-10"));
    let evaluated: Vec<u64> = record.evaluations.iter().map(|evaluation| evaluation.step).collect();
    assert_eq!(evaluated, [5, 10, 15, 20]);
    let answers = &record.evaluations[3].answers;
    assert_eq!((answers.len(), answers[0].mode.as_str(), answers[0].correct), (1, "score", 3));
    let sessions: Vec<_> =
        record.sessions.iter().map(|session| (session.first_step, session.last_step)).collect();
    assert_eq!(sessions, [(0, 10), (10, 20)], "what was done and not saved is not known");
    let session = &record.sessions[1];
    assert_eq!((session.tokens, session.labelled, session.step_seconds), (1000, 100, 5.0));
    assert_eq!(session.evaluation_seconds, 4.0);
    assert!(session.peak_bytes.unwrap() > 0 && session.updated >= session.started);
    let events = directory.path().join(record.tensorboard.unwrap());
    assert_eq!(fs::read_dir(events).unwrap().count(), 2, "a file of events for each start");
    assert!(warnings.borrow().is_empty(), "{warnings:?}");
}

#[test]
fn a_new_run_starts_its_files_anew() {
    let (directory, warnings) = (tempfile::tempdir().unwrap(), RefCell::default());
    go(&mut records(directory.path(), ALL, facts(None), &warnings), 0, 6);
    go(&mut records(directory.path(), ReportTo { tensorboard: false, ..ALL }, facts(None), &warnings), 0, 2);
    let found = Collected::load(directory.path()).unwrap();
    assert_eq!(steps(&found.log), [1, 2]);
    let record = found.record.unwrap();
    assert_eq!((record.sessions.len(), record.evaluations.len(), record.tensorboard), (1, 0, None));
}

#[test]
fn what_cannot_be_written_is_said_once_and_the_rest_is_written() {
    let (directory, warnings) = (tempfile::tempdir().unwrap(), RefCell::default());
    fs::create_dir(directory.path().join(METRICS_FILE)).unwrap();
    fs::write(directory.path().join(RUNS), "a file").unwrap();
    let mut records = records(directory.path(), ALL, facts(None), &warnings);
    go(&mut records, 0, 5);
    records.on_stop(&Stopped::Early);
    let warnings = warnings.borrow();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains(METRICS_FILE) && warnings[1].contains(RUNS), "{warnings:?}");
    assert!(warnings[0].ends_with("; training goes on without it"), "{warnings:?}");
    let record = RunRecord::load(&directory.path().join(RUN_FILE)).unwrap().unwrap();
    assert_eq!((record.status, record.evaluations.len()), (RunStatus::StoppedEarly, 1));
}
