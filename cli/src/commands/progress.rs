//! How a run goes on, for people: a bar on a terminal, lines elsewhere.

use crate::console::Console;
use gptjc_runtime::train::{Cadence, LogEntry, Observer, RunStart, StepReport, Stopped};
use gptjc_runtime::validate::report::Report;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// Shares of a mean that the latest step has: what is left of a run is judged by its last dozens of steps.
const LATEST: f64 = 0.05;
/// Between two lines about an evaluation, where there is no bar.
const BETWEEN: Duration = Duration::from_secs(60);

/// Shows progress.
pub(crate) struct Progress {
    console: Console,
    bar: Option<ProgressBar>,
    left: TimeLeft,
    /// Tokens and seconds of the steps since the last entry of the log.
    since_log: (usize, f64),
    /// When something was last said of the evaluation under way.
    evaluation_said: Option<Instant>,
}

impl Progress {
    /// Nothing shown yet; the run evaluates as `eval` says.
    pub(crate) fn new(console: Console, eval: Cadence) -> Self {
        let left = TimeLeft { eval, ..TimeLeft::default() };
        Self { console, bar: None, left, since_log: (0, 0.0), evaluation_said: None }
    }

    /// A line that does not tear the bar.
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.console.line(text)),
            None => self.console.line(text),
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn bar_message(&self, report: &StepReport) -> String {
        let rate = report.tokens as f64 / report.seconds.max(1e-9);
        format!("loss {:.4}  {rate:.0} tok/s  {}", report.loss, self.left.text().unwrap_or_default())
    }
}

impl Observer for Progress {
    fn on_start(&mut self, run: &RunStart) {
        self.left.start(run);
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(run.total_steps).with_position(run.first_step);
            let style = "{pos}/{len} steps {wide_bar} {elapsed}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.tick();
            self.bar = Some(bar);
        }
    }

    fn on_step(&mut self, report: &StepReport) {
        self.since_log.0 += report.tokens;
        self.since_log.1 += report.seconds;
        self.left.step(report);
        if let Some(bar) = &self.bar {
            bar.set_position(report.step);
            bar.set_message(self.bar_message(report));
        }
    }

    fn on_log(&mut self, entry: &LogEntry) {
        self.evaluation_said = None;
        if entry.loss.is_some() {
            let (tokens, seconds) = std::mem::take(&mut self.since_log);
            let rate = tokens as f64 / seconds.max(1e-9);
            self.line(&training_line(entry, &self.left, rate));
        } else if let Some(line) = evaluation_line(entry) {
            self.left.evaluation(entry.other.get("eval_runtime").and_then(serde_json::Value::as_f64));
            self.line(&line);
        }
    }

    fn on_evaluate(&mut self, rows_done: usize, rows: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("evaluating {rows_done}/{rows} rows"));
            return;
        }
        let said = *self.evaluation_said.get_or_insert_with(Instant::now);
        if said.elapsed() >= BETWEEN {
            self.evaluation_said = Some(Instant::now());
            self.console.line(&format!("evaluating: {rows_done} of {rows} rows"));
        }
    }

    fn on_answers(&mut self, report: &Report) {
        if let Some([low, high]) = report.interval {
            let accuracy = 100.0 * report.accuracy.unwrap_or_default();
            self.line(&format!(
                "answers by {}: {} of {} rows right, {accuracy:.2} %, 95 % confidence {:.2} % to {:.2} %",
                report.mode,
                report.correct,
                report.counted,
                100.0 * low,
                100.0 * high
            ));
        }
    }

    fn on_save(&mut self, directory: &Path) {
        self.line(&format!("saved {}", directory.display()));
    }

    fn on_stop(&mut self, why: &Stopped) {
        if *why == Stopped::Early {
            self.line("no model was better than the best one for --early-stopping-patience evaluations: the run ends here");
        }
    }
}

/// Judges how long a run still takes.
#[derive(Debug, Default)]
struct TimeLeft {
    total_steps: u64,
    done: u64,
    epoch_steps: u64,
    eval: Cadence,
    /// Seconds of a step and of an evaluation, the latest counting most.
    step_seconds: Option<f64>,
    evaluation_seconds: Option<f64>,
}

impl TimeLeft {
    fn start(&mut self, run: &RunStart) {
        (self.total_steps, self.done) = (run.total_steps, run.first_step);
        self.epoch_steps = run.windows.div_ceil(run.step_windows.max(1)).max(1) as u64;
    }

    fn step(&mut self, report: &StepReport) {
        self.done = report.step;
        let mean = self.step_seconds.unwrap_or(report.seconds);
        self.step_seconds = Some(mean + LATEST * (report.seconds - mean));
    }

    fn evaluation(&mut self, seconds: Option<f64>) {
        self.evaluation_seconds = seconds.or(self.evaluation_seconds);
    }

    /// Evaluations that are still to come. One that is due after the step just done is among them until it is done.
    fn evaluations(&self) -> u64 {
        match self.eval {
            Cadence::Never => 0,
            Cadence::Steps(steps) => self.total_steps / steps.max(1) - self.done / steps.max(1),
            Cadence::Epochs => {
                self.total_steps.div_ceil(self.epoch_steps)
                    - (self.done / self.epoch_steps).min(self.total_steps)
            }
        }
    }

    /// Seconds, once a step is done. An evaluation takes what the last one took; before there was one, nothing.
    fn seconds(&self) -> Option<f64> {
        let steps = self.total_steps.saturating_sub(self.done) as f64 * self.step_seconds?;
        Some(steps + self.evaluations() as f64 * self.evaluation_seconds.unwrap_or(0.0))
    }

    /// `2 h 10 min left`; none at the end, or if nothing is known.
    fn text(&self) -> Option<String> {
        let seconds = self.seconds()?;
        (self.done < self.total_steps).then(|| format!("{} left", duration(seconds)))
    }
}

/// A time in its two largest units.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

/// An entry of training as a line.
fn training_line(entry: &LogEntry, left: &TimeLeft, tokens_per_second: f64) -> String {
    let mut line = format!("step {}/{}  epoch {:.2}", entry.step, left.total_steps, entry.epoch);
    let numbers = [
        entry.loss.map(|loss| format!("  loss {loss:.4}")),
        entry.learning_rate.map(|rate| format!("  lr {rate:.4e}")),
        entry.grad_norm.map(|norm| format!("  grad_norm {norm:.4}")),
        Some(format!("  {tokens_per_second:.0} tok/s")),
        left.text().map(|text| format!("  {text}")),
    ];
    numbers.iter().flatten().for_each(|number| line.push_str(number));
    line
}

/// An entry of an evaluation as a line; none if it is something else.
fn evaluation_line(entry: &LogEntry) -> Option<String> {
    let number = |name: &str| entry.other.get(name).and_then(serde_json::Value::as_f64);
    let percent = |name: &str, share: f64| format!("  {name} {:.2} %", 100.0 * share);
    let numbers = [
        number("eval_loss").map(|loss| format!("  eval_loss {loss:.4}")),
        number("eval_perplexity").map(|perplexity| format!("  eval_perplexity {perplexity:.4}")),
        number("eval_accuracy").map(|share| percent("eval_accuracy", share)),
        number("eval_generated_accuracy").map(|share| percent("eval_generated_accuracy", share)),
        number("eval_runtime").map(|seconds| format!("  {seconds:.1} s")),
    ];
    let numbers: String = numbers.into_iter().flatten().collect();
    (!numbers.is_empty()).then(|| format!("step {}  epoch {:.2}{numbers}", entry.step, entry.epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(eval: Cadence) -> TimeLeft {
        let mut left = TimeLeft { eval, ..TimeLeft::default() };
        let run = RunStart { total_steps: 25, first_step: 0, epochs: 2.5, windows: 73, step_windows: 8 };
        left.start(&run);
        left
    }

    fn step(left: &mut TimeLeft, step: u64, seconds: f64) {
        let (loss, grad_norm, learning_rate, tokens, labelled) = (1.0, 1.0, 1e-4, 100, 10);
        left.step(&StepReport { step, loss, grad_norm, learning_rate, tokens, labelled, seconds });
    }

    #[test]
    fn an_entry_is_a_line() {
        let entry = LogEntry::training(5, 0.25, 6.349_599_4, 1.697_618_1, 0.000_264_910_088);
        let mut left = left(Cadence::Never);
        let line = |left: &TimeLeft| training_line(&entry, left, 1023.45);
        let start = "step 5/25  epoch 0.25  loss 6.3496  lr 2.6491e-4  grad_norm 1.6976  1023 tok/s";
        assert_eq!(line(&left), start);
        step(&mut left, 5, 390.0);
        assert_eq!(line(&left), format!("{start}  2 h 10 min left"));
        step(&mut left, 25, 390.0);
        assert_eq!(line(&left), start, "nothing is left");
    }

    #[test]
    fn an_evaluation_is_a_line() {
        let mut entry = LogEntry { step: 20, epoch: 1.0, ..LogEntry::default() };
        assert_eq!(evaluation_line(&entry), None);
        let metrics = [("eval_loss", 0.5), ("eval_accuracy", 0.8125), ("eval_runtime", 12.34)];
        entry.other = metrics.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        assert_eq!(
            evaluation_line(&entry).unwrap(),
            "step 20  epoch 1.00  eval_loss 0.5000  eval_accuracy 81.25 %  12.3 s"
        );
    }

    #[test]
    fn evaluations_to_come_take_what_the_last_one_took() {
        // 73 windows are 10 steps of an epoch; the run has two and a half.
        for (eval, at_0, at_9, at_10, at_25) in
            [(Cadence::Never, 0, 0, 0, 0), (Cadence::Steps(10), 2, 2, 1, 0), (Cadence::Epochs, 3, 3, 2, 1)]
        {
            let mut left = left(eval);
            assert_eq!(left.evaluations(), at_0, "{eval:?}");
            for (done, expected) in [(9, at_9), (10, at_10), (25, at_25)] {
                step(&mut left, done, 1.0);
                assert_eq!(left.evaluations(), expected, "{eval:?} after step {done}");
            }
        }
        let mut left = left(Cadence::Steps(10));
        assert_eq!(left.seconds(), None);
        step(&mut left, 5, 2.0);
        assert_eq!(left.seconds(), Some(40.0));
        left.evaluation(Some(7.0));
        assert_eq!(left.seconds(), Some(54.0));
        step(&mut left, 6, 4.0);
        assert_eq!(left.seconds(), Some(19.0 * 2.1 + 14.0));
    }

    #[test]
    fn times_have_two_units() {
        let cases = [
            (0.4, "0 s"),
            (59.6, "1 min 0 s"),
            (754.0, "12 min 34 s"),
            (7_800.0, "2 h 10 min"),
            (200_000.0, "2 d 7 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
