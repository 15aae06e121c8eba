//! How far weights are written: a bar on a terminal, nothing elsewhere.

use gptjc_runtime::export::ExportProgress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Shows progress in bytes.
pub(crate) struct ByteProgress {
    bar: Option<ProgressBar>,
}

impl ByteProgress {
    /// Nothing shown yet.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            match ProgressStyle::with_template("{bytes}/{total_bytes} {wide_bar} {elapsed} < {eta} {msg}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { bar }
    }

    /// Shows how far it is.
    pub(crate) fn show(&self, progress: ExportProgress<'_>) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.bytes);
            bar.set_message(progress.tensor.to_owned());
        }
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
