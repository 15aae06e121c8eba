//! `gptjc generate`: greedy continuations of prompts.

use super::engine::Source;
use crate::console::Console;
use crate::error::CliError;
use crate::flags::GenerateCommand;
use gptjc_runtime::data::tokenizer::GptJTokenizer;
use gptjc_runtime::validate::logits_file;
use serde_json::json;
use std::path::Path;

/// A text to continue.
struct Prompt {
    /// Where it came from, for messages.
    name: String,
    text: String,
    tokens: Vec<u32>,
}

/// Runs the command.
pub(crate) fn run(command: &GenerateCommand, console: Console) -> Result<(), CliError> {
    let texts = texts(command)?;
    let source = Source::find(&command.engine, console)?;
    let tokenizer = source.tokenizer(&command.engine)?;
    let prompts = texts.into_iter().map(|(name, text)| tokenize(name, text, &tokenizer));
    let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
    let new_tokens = command.max_new_tokens as usize;
    let longest = check_lengths(&prompts, new_tokens, source.positions())?;
    let mut engine = source.open(&command.engine, longest, prompts.len(), console)?;
    let mut answers = Vec::with_capacity(prompts.len());
    let mut logits = Vec::new();
    for batch in prompts.chunks(command.engine.batch_size as usize) {
        let tokens = tokens_of(batch);
        let answered = engine.generate(&tokens, new_tokens, tokenizer.eos_id());
        answers.extend(answered.map_err(|source| failed(&batch[0], source))?);
        if command.save_logits.is_some() {
            logits.extend(engine.logits(&tokens).map_err(|source| failed(&batch[0], source))?);
        }
    }
    if let Some(path) = &command.save_logits {
        logits_file::write(path, &tokens_of(&prompts), &logits)
            .map_err(|source| CliError::Logits(source.into()))?;
    }
    let mut found = Vec::with_capacity(prompts.len());
    for (prompt, tokens) in prompts.iter().zip(answers) {
        let text = tokenizer.decode(&tokens, true).map_err(|source| failed(prompt, source))?;
        if command.json {
            found.push(json!({"prompt": prompt.text, "text": text, "tokens": tokens}));
        } else {
            let is_line = command.prompt_file.is_some();
            console.line(&if is_line { on_one_line(&text) } else { text });
        }
    }
    if command.json { console.json(&found) } else { Ok(()) }
}

fn tokens_of(prompts: &[Prompt]) -> Vec<Vec<u32>> {
    prompts.iter().map(|prompt| prompt.tokens.clone()).collect()
}

fn failed(prompt: &Prompt, source: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Generate { prompt: prompt.name.clone(), source: source.into() }
}

/// The prompts with their names.
fn texts(command: &GenerateCommand) -> Result<Vec<(String, String)>, CliError> {
    let Some(path) = &command.prompt_file else {
        return Ok(vec![("the prompt".to_owned(), command.prompt.clone().unwrap_or_default())]);
    };
    let text =
        std::fs::read_to_string(path).map_err(|source| CliError::Read { path: path.clone(), source })?;
    let name = |line: usize| format!("{}, line {line}", path.display());
    let texts: Vec<_> = (1..).zip(text.lines()).map(|(line, text)| (name(line), text.to_owned())).collect();
    if texts.is_empty() { Err(empty_file(path)) } else { Ok(texts) }
}

fn empty_file(path: &Path) -> CliError {
    CliError::Usage {
        what: format!("`{}` is empty", path.display()),
        advice: "write one prompt a line into it".to_owned(),
    }
}

fn tokenize(name: String, text: String, tokenizer: &GptJTokenizer) -> Result<Prompt, CliError> {
    let tokens = tokenizer.encode(&text).map_err(|source| CliError::Tokenizer(source.into()))?;
    if tokens.is_empty() {
        return Err(CliError::Usage {
            what: format!("{name} has no text to continue"),
            advice: "give at least one character".to_owned(),
        });
    }
    Ok(Prompt { name, text, tokens })
}

/// Positions that the longest prompt needs with its answer, if the model has them.
fn check_lengths(prompts: &[Prompt], new_tokens: usize, positions: usize) -> Result<usize, CliError> {
    let needed = |prompt: &Prompt| prompt.tokens.len() + new_tokens;
    if let Some(prompt) = prompts.iter().find(|prompt| needed(prompt) > positions) {
        let (name, tokens) = (&prompt.name, prompt.tokens.len());
        return Err(CliError::Usage {
            what: format!(
                "{name} has {tokens} tokens, with {new_tokens} new ones more than the model's {positions} positions"
            ),
            advice: "shorten it, or lower --max-new-tokens".to_owned(),
        });
    }
    Ok(prompts.iter().map(needed).max().unwrap_or(new_tokens))
}

/// `text` without line breaks, from which it can be had back.
fn on_one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_is_one_line() {
        assert_eq!(on_one_line(" a\n\\n\r"), " a\\n\\\\n\\r");
    }
}
