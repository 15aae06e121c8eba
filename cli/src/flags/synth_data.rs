//! Flags of `gptjc synth-data`.

use clap::Args;
use std::path::PathBuf;

/// `gptjc synth-data`
#[derive(Debug, Args)]
pub(crate) struct SynthDataCommand {
    /// Directory to make: train.jsonl, validation_matched.jsonl, validation_mismatched.jsonl, text.txt,
    /// notes.jsonl, exercises.jsonl, review.jsonl, tokenizer.json; it appears whole or not at all
    #[arg(short, long, visible_alias = "output-dir", value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Rows to fine-tune on
    #[arg(long, value_name = "N", default_value_t = 16_000)]
    pub(crate) train_rows: usize,
    /// Rows of each validation split; they show other people, words and sentence forms than the rows to fine-tune on
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub(crate) validation_rows: usize,
    /// Exercises about notes of words and people, of about 16 tokens
    #[arg(long, value_name = "N", default_value_t = 150_000)]
    pub(crate) notes: usize,
    /// Reading exercises (prompts and completions) about claims and facts, of about 22 tokens
    #[arg(long, value_name = "N", default_value_t = 300_000)]
    pub(crate) exercises: usize,
    /// Exercises of all kinds, and lists of words of which one is asked for
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) review: usize,
    /// Documents of text without labels, one a line, of about 36 tokens
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    pub(crate) documents: usize,
    /// Tokens of the tokenizer at most
    #[arg(long, value_name = "N", default_value_t = 1_152)]
    pub(crate) vocab_size: usize,
    /// What everything depends on
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
}
