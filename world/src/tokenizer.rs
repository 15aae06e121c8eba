//! A tokenizer of the world's text: byte-level BPE as GPT-2's, small.

use thiserror::Error;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// GPT-2's end of text. It has id 0 here.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Name of the tokenizer's file.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Why there is no tokenizer.
#[derive(Debug, Error)]
#[error("cannot make a tokenizer of {vocab_size} tokens: {reason}")]
pub struct TokenizerError {
    vocab_size: usize,
    reason: String,
}

/// The content of a `tokenizer.json` with at most `vocab_size` tokens, made of `documents`. The same documents in any
/// order give the same bytes.
///
/// # Errors
/// [`TokenizerError`] if the library refuses, which it does not for any text that is known.
pub fn train(documents: &[String], vocab_size: usize) -> Result<String, TokenizerError> {
    let refused = |error: tokenizers::Error| TokenizerError { vocab_size, reason: error.to_string() };
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut trainer = TrainerWrapper::from(
        BpeTrainer::builder()
            .vocab_size(vocab_size)
            .show_progress(false)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(alphabet.into_iter().collect())
            .build(),
    );
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.train(&mut trainer, documents.iter().map(String::as_str)).map_err(refused)?;
    tokenizer.to_string(true).map_err(refused)
}
