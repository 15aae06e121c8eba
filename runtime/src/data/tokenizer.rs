//! GPT-J's tokenizer: byte-level BPE with GPT-2's vocabulary and 143 added tokens.
//!
//! Does: load a Hugging Face directory, either `tokenizer.json` or `vocab.json` + `merges.txt` with
//! `added_tokens.json` beside them, and encode and decode text. Both forms give equal ids.
//!
//! Does not: add tokens to what is encoded, pad or truncate (what `tokenizer.json` asks for in that way is ignored:
//! windows are made elsewhere), or fetch files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// GPT-2's end of text, the default where no file names another.
const END_OF_TEXT: &str = "<|endoftext|>";
const TOKENIZER_JSON: &str = "tokenizer.json";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const ADDED_TOKENS: &str = "added_tokens.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// Distinct words whose merges are remembered. MNLI has about 100,000; the library's 10,000 are soon full.
const CACHED_WORDS: usize = 1 << 17;

/// Why there is no tokenizer, or no text. Messages name the file.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// Neither form is in the directory.
    #[error("{} has neither tokenizer.json nor vocab.json and merges.txt; copy the model's tokenizer files there, or name their directory", directory.display())]
    NotFound {
        /// The directory searched.
        directory: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {reason}; fetch the file again from the model's repository", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A token of `added_tokens.json` cannot have the id it asks for.
    #[error("{}: `{token}` should have id {expected}, after the tokens before it comes {found}; ids of added tokens must follow the vocabulary without a gap", file.display())]
    AddedTokenId {
        /// `added_tokens.json`.
        file: PathBuf,
        /// The token.
        token: String,
        /// Its id in the file.
        expected: u32,
        /// The id it would get.
        found: u32,
    },
    /// The end of text token is not in the vocabulary.
    #[error("{}: the end of text token `{token}` is not in the vocabulary", directory.display())]
    NoEndOfText {
        /// The tokenizer's directory.
        directory: PathBuf,
        /// The token.
        token: String,
    },
    /// The library refused a text or a list of ids.
    #[error("tokenizer of {}: {reason}", directory.display())]
    Coding {
        /// The tokenizer's directory.
        directory: PathBuf,
        /// What the library says.
        reason: String,
    },
}

/// A loaded tokenizer. Cheap to share between threads by reference.
#[derive(Debug)]
pub struct GptJTokenizer {
    directory: PathBuf,
    inner: Tokenizer,
    eos: u32,
    vocab_size: usize,
}

impl GptJTokenizer {
    /// Loads the tokenizer of a Hugging Face directory; `tokenizer.json` is preferred where both forms are there.
    ///
    /// # Errors
    /// See [`TokenizerError`].
    pub fn from_dir(directory: &Path) -> Result<Self, TokenizerError> {
        let file = |name: &str| directory.join(name);
        let (mut inner, files) = if file(TOKENIZER_JSON).exists() {
            (read_tokenizer_json(&file(TOKENIZER_JSON))?, file(TOKENIZER_JSON))
        } else if file(VOCAB).exists() || file(MERGES).exists() {
            (byte_level_bpe(directory)?, file(VOCAB))
        } else {
            return Err(TokenizerError::NotFound { directory: directory.to_owned() });
        };
        let no_truncation = inner.with_truncation(None).map(|_| ());
        no_truncation.map_err(|error| malformed(&files, error))?;
        inner.with_padding(None);
        let token = end_of_text(directory)?;
        let Some(eos) = inner.token_to_id(&token) else {
            return Err(TokenizerError::NoEndOfText { directory: directory.to_owned(), token });
        };
        let vocab_size = inner.get_vocab_size(true);
        Ok(Self { directory: directory.to_owned(), inner, eos, vocab_size })
    }

    /// Ids of `text`. Special tokens written out in it become their ids; nothing is added.
    ///
    /// # Errors
    /// [`TokenizerError::Coding`] if the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false).map_err(|error| self.coding(error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of `text`, and how many of the first ids begin before byte `boundary` of it.
    ///
    /// # Errors
    /// [`TokenizerError::Coding`] if the library refuses the text.
    pub fn encode_with_boundary(
        &self,
        text: &str,
        boundary: usize,
    ) -> Result<(Vec<u32>, usize), TokenizerError> {
        let encoding = self.inner.encode(text, false).map_err(|error| self.coding(error))?;
        let before = encoding.get_offsets().partition_point(|&(start, _)| start < boundary);
        Ok((encoding.get_ids().to_vec(), before))
    }

    /// Text of `ids`; with `skip_special` the end of text token leaves none. Ids that the vocabulary does not have
    /// leave none either (GPT-J's logits have as many columns as the vocabulary, but other models' may have more).
    ///
    /// # Errors
    /// [`TokenizerError::Coding`] if the library refuses the ids.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        self.inner.decode(ids, skip_special).map_err(|error| self.coding(error))
    }

    /// Id of the end of text token.
    pub fn eos_id(&self) -> u32 {
        self.eos
    }

    /// Number of tokens, added ones included: 50,400 for GPT-J.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Id of a token by its exact name in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The directory it was loaded from.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn coding(&self, error: tokenizers::Error) -> TokenizerError {
        TokenizerError::Coding { directory: self.directory.clone(), reason: error.to_string() }
    }
}

fn malformed(file: &Path, reason: impl ToString) -> TokenizerError {
    TokenizerError::Malformed { file: file.to_owned(), reason: reason.to_string() }
}

fn read_text(file: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(file).map_err(|source| TokenizerError::Io { file: file.to_owned(), source })
}

fn read_tokenizer_json(file: &Path) -> Result<Tokenizer, TokenizerError> {
    read_text(file)?.parse().map_err(|error: tokenizers::Error| malformed(file, error))
}

fn read_ids(file: &Path) -> Result<HashMap<String, u32>, TokenizerError> {
    serde_json::from_str(&read_text(file)?).map_err(|error| malformed(file, error))
}

/// The tokenizer of `vocab.json` and `merges.txt`, as Hugging Face builds GPT-2's from them.
fn byte_level_bpe(directory: &Path) -> Result<Tokenizer, TokenizerError> {
    let vocab_file = directory.join(VOCAB);
    let vocab: Vocab = read_ids(&vocab_file)?.into_iter().collect();
    let merges = read_merges(&directory.join(MERGES), &vocab)?;
    let model = BPE::builder().vocab_and_merges(vocab, merges).cache_capacity(CACHED_WORDS);
    let mut inner = Tokenizer::new(model.build().map_err(|error| malformed(&vocab_file, error))?);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    inner.with_decoder(Some(ByteLevel::default()));
    let special = AddedToken::from(end_of_text(directory)?, true).normalized(true);
    inner.add_special_tokens([special]).map_err(|error| malformed(&vocab_file, error))?;
    let added_file = directory.join(ADDED_TOKENS);
    if added_file.exists() {
        add_tokens(&mut inner, &added_file)?;
    }
    Ok(inner)
}

/// Reads merges and checks each against the vocabulary: the library takes for granted that they fit.
fn read_merges(file: &Path, vocab: &Vocab) -> Result<Merges, TokenizerError> {
    let text = read_text(file)?;
    let mut merges = Merges::new();
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("#version") || line.is_empty() {
            continue;
        }
        let refused = |reason: String| malformed(file, format!("line {}: {reason}", index + 1));
        let Some((left, right)) = line.split_once(' ').filter(|(_, right)| !right.contains(' ')) else {
            return Err(refused(format!("expected two tokens with a space between them, found `{line}`")));
        };
        for token in [left, right, &format!("{left}{right}")] {
            if !vocab.contains_key(token) {
                return Err(refused(format!("`{token}` is not in {VOCAB}")));
            }
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

fn add_tokens(inner: &mut Tokenizer, file: &Path) -> Result<(), TokenizerError> {
    let mut added: Vec<(String, u32)> = read_ids(file)?.into_iter().collect();
    added.sort_by_key(|(_, id)| *id);
    let tokens = added.iter().map(|(token, _)| AddedToken::from(token.clone(), false));
    // One call: each call builds the matcher of all added tokens anew.
    let is_new = |token: &AddedToken| inner.token_to_id(&token.content).is_none();
    let new_tokens: Vec<AddedToken> = tokens.filter(is_new).collect();
    inner.add_tokens(new_tokens).map_err(|error| malformed(file, error))?;
    for (token, expected) in added {
        let found = inner.token_to_id(&token);
        let found = found.ok_or_else(|| malformed(file, format!("`{token}` cannot be added")))?;
        if found != expected {
            return Err(TokenizerError::AddedTokenId { file: file.to_owned(), token, expected, found });
        }
    }
    Ok(())
}

/// The end of text token: `eos_token` of `special_tokens_map.json`, as a string or as an object with `content`.
fn end_of_text(directory: &Path) -> Result<String, TokenizerError> {
    let file = directory.join(SPECIAL_TOKENS);
    if !file.exists() {
        return Ok(END_OF_TEXT.to_owned());
    }
    let map: serde_json::Value =
        serde_json::from_str(&read_text(&file)?).map_err(|error| malformed(&file, error))?;
    let token = match map.get("eos_token") {
        None => return Ok(END_OF_TEXT.to_owned()),
        Some(token) => token.get("content").unwrap_or(token),
    };
    match token.as_str() {
        Some(token) if !token.is_empty() => Ok(token.to_owned()),
        _ => Err(malformed(&file, format!("eos_token is {token}, expected a token's text"))),
    }
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
