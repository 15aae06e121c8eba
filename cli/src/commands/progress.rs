//! How a run goes on, for people: a bar on a terminal, lines elsewhere.

use crate::console::Console;
use gptjc_runtime::train::{LogEntry, Observer, StepReport};
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
    fn on_start(&mut self, total_steps: u64) {
        self.total_steps = total_steps;
        self.since = Instant::now();
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total_steps);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let entry = LogEntry::training(5, 0.25, 6.349_599_4, 1.697_618_1, 0.000_264_910_088);
        assert_eq!(
            log_line(&entry, 20, 123.45),
            "step 5/20  epoch 0.25  loss 6.3496  grad_norm 1.6976  lr 2.6491e-4  123.5 tokens/s"
        );
    }
}
