//! `gptjc synth-data`: rows, text and a tokenizer of a made-up world.

use crate::console::Console;
use crate::error::{Cause, CliError};
use crate::flags::SynthDataCommand;
use gptjc_runtime::files::FileError;
use gptjc_runtime::files::atomic::write_directory;
use gptjc_world::corpus::{CorpusRequest, write_corpus};

/// Runs the command.
pub(crate) fn run(command: &SynthDataCommand, console: Console) -> Result<(), CliError> {
    let directory = &command.output;
    if directory.exists() {
        return Err(CliError::Usage {
            what: format!("`{}` exists already", directory.display()),
            advice: "give another directory with --output, or remove that one".to_owned(),
        });
    }
    let request = CorpusRequest {
        train_rows: command.train_rows,
        validation_rows: command.validation_rows,
        notes: command.notes,
        exercises: command.exercises,
        review: command.review,
        documents: command.documents,
        vocab_size: command.vocab_size,
        seed: command.seed,
    };
    write_directory(directory, |partial| write_corpus(&request, partial).map_err(Failure::from))
        .map_err(|Failure(source)| CliError::SynthData(source))?;
    console.line(&format!(
        "wrote {}: {} rows to train on, {} of each kind to validate on, {} documents, {} exercises",
        directory.display(),
        command.train_rows,
        command.validation_rows,
        command.documents,
        command.notes + command.exercises + command.review
    ));
    Ok(())
}

/// Whatever went wrong, of the corpus or of its directory.
struct Failure(Cause);

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self(error.into())
    }
}

impl From<gptjc_world::corpus::CorpusError> for Failure {
    fn from(error: gptjc_world::corpus::CorpusError) -> Self {
        Self(error.into())
    }
}
