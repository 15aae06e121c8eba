//! How a run goes on, for people: a bar on a terminal, lines elsewhere.

use crate::console::Console;
use gptjc_runtime::train::{LogEntry, Observer, RunStart, StepReport};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Instant;

/// Shows progress.
pub(crate) struct Progress {
    console: Console,
    bar: Option<ProgressBar>,
    total_steps: u64,
    /// Since the last entry of the log: when it was, and tokens computed.
    since: Instant,
    tokens: usize,
}

impl Progress {
    /// Nothing shown yet.
    pub(crate) fn new(console: Console) -> Self {
        Self { console, bar: None, total_steps: 0, since: Instant::now(), tokens: 0 }
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
}

impl Observer for Progress {
    fn on_start(&mut self, run: &RunStart) {
        self.total_steps = run.total_steps;
        self.since = Instant::now();
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(run.total_steps).with_position(run.first_step);
            let style = "{pos}/{len} steps {wide_bar} {elapsed} < {eta} {msg}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
    }

    fn on_step(&mut self, report: &StepReport) {
        self.tokens += report.tokens;
        if let Some(bar) = &self.bar {
            bar.set_position(report.step);
            bar.set_message(format!("loss {:.4}", report.loss));
        }
    }

    fn on_log(&mut self, entry: &LogEntry) {
        if entry.loss.is_none() {
            return self.line(&metrics_line(entry));
        }
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let rate = self.tokens as f64 / seconds;
        (self.since, self.tokens) = (Instant::now(), 0);
        self.line(&log_line(entry, self.total_steps, rate));
    }
}

/// An entry of the log as a line.
fn log_line(entry: &LogEntry, total_steps: u64, tokens_per_second: f64) -> String {
    let mut line = format!("step {}/{total_steps}  epoch {:.2}", entry.step, entry.epoch);
    let numbers = [
        entry.loss.map(|loss| format!("  loss {loss:.4}")),
        entry.grad_norm.map(|norm| format!("  grad_norm {norm:.4}")),
        entry.learning_rate.map(|rate| format!("  lr {rate:.4e}")),
    ];
    numbers.iter().flatten().for_each(|number| line.push_str(number));
    line.push_str(&format!("  {tokens_per_second:.1} tokens/s"));
    line
}

/// An entry with metrics, of an evaluation or at the end, as a line.
fn metrics_line(entry: &LogEntry) -> String {
    let metrics = entry.other.iter().filter_map(|(name, value)| Some((name, value.as_f64()?)));
    let words: Vec<String> = metrics.map(|(name, value)| format!("{name} {}", short(value))).collect();
    words.join("  ")
}

/// A number with four decimals, or four digits behind the first where that is shorter.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e7).contains(&value.abs()) {
        format!("{value:.4e}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_entry_is_a_line() {
        let entry = LogEntry::training(5, 0.25, 6.349_599_4, 1.697_618_1, 0.000_264_910_088);
        assert_eq!(
            log_line(&entry, 20, 123.45),
            "step 5/20  epoch 0.25  loss 6.3496  grad_norm 1.6976  lr 2.6491e-4  123.5 tokens/s"
        );
    }

    #[test]
    fn metrics_are_a_line() {
        let numbers = [("eval_loss", 10.8277), ("eval_runtime", 0.25), ("total_flos", 1.5e13)];
        let other = numbers.map(|(name, value)| (name.to_owned(), Value::from(value))).into();
        let entry = LogEntry { other, ..LogEntry::default() };
        assert_eq!(metrics_line(&entry), "eval_loss 10.8277  eval_runtime 0.2500  total_flos 1.5000e13");
    }
}
