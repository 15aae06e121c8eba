//! What a user is shown when something does not work: message, causes, what to do.

use crate::flags::reference::RefusedValue;
use crate::settings::{Contradictions, TargetError};
use gptjc_runtime::files::FileError;
use miette::Diagnostic;
use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// An error of a library. It is printed, never looked into, so its type does not matter here.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum CliError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    #[diagnostic(help("{}", unread(path, source.kind())))]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// There is no model.
    #[error("no model is given")]
    #[diagnostic(help("give the model's directory with --model DIR"))]
    NoModel,
    /// The model is not there.
    #[error("there is no model directory `{}`", path.display())]
    #[diagnostic(help(
        "give the directory with config.json and the weights, or owner/name of a model in the Hugging Face cache"
    ))]
    ModelNotFound { path: PathBuf },
    /// A config that is not a GPT-J's.
    #[error("cannot use the config `{}`", path.display())]
    Config {
        path: PathBuf,
        #[source]
        source: Cause,
    },
    /// The file of a plan cannot be read.
    #[error("cannot read the plan `{}`", path.display())]
    #[diagnostic(help(
        "give the file that `gptjc compile --model MODEL -o FILE` has written; `train` compiles by itself without --plan"
    ))]
    PlanFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A plan that cannot be used.
    #[error("cannot use the plan `{}`", path.display())]
    Plan {
        path: PathBuf,
        #[source]
        source: Cause,
    },
    /// A machine that cannot be compiled for.
    #[error("cannot use the target `{name}`")]
    #[diagnostic(help("{advice}"))]
    Target {
        name: String,
        advice: String,
        #[source]
        source: Cause,
    },
    /// Options without a plan.
    #[error("cannot compile a plan")]
    Compile(#[source] Cause),
    /// Two flags that exclude each other.
    #[error("{first} contradicts {second}")]
    #[diagnostic(help("give one of them"))]
    Flags { first: String, second: String },
    /// Flags against a plan or an adapter.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Contradictions(#[from] Contradictions),
    /// Adapters that can be nowhere.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Adapters(#[from] TargetError),
    /// A flag of the reference workflow with a value that cannot be followed.
    #[error(transparent)]
    #[diagnostic(help("{}", _0.advice))]
    Reference(#[from] RefusedValue),
    /// Flags that cannot be followed.
    #[error("{what}")]
    #[diagnostic(help("{advice}"))]
    Usage { what: String, advice: String },
    /// The output directory holds something.
    #[error("the output directory `{}` is not empty", path.display())]
    #[diagnostic(help(
        "give another --output-dir, or --overwrite-output-dir to replace files of the same names"
    ))]
    OutputNotEmpty { path: PathBuf },
    /// The output directory is something else.
    #[error("the output directory `{}` is not a directory", path.display())]
    #[diagnostic(help("give another --output-dir"))]
    OutputNotDirectory { path: PathBuf },
    /// An adapter that cannot be read.
    #[error("cannot load the adapter `{}`", path.display())]
    Adapter {
        path: PathBuf,
        #[source]
        source: Cause,
    },
    /// A model whose weights cannot be used.
    #[error("cannot load the model `{}`", path.display())]
    Weights {
        path: PathBuf,
        #[source]
        source: Cause,
    },
    /// A model of the hub whose files in the cache cannot be used.
    #[error("cannot load the model `{}`", path.display())]
    #[diagnostic(help("{advice}"))]
    WeightsOfHub {
        path: PathBuf,
        advice: String,
        #[source]
        source: Cause,
    },
    /// A name that is neither a directory nor in the cache of the hub.
    #[error("there is no directory `{name}`, and the Hugging Face cache does not have it")]
    Hub {
        name: String,
        #[source]
        source: Cause,
    },
    /// A model that is not converted.
    #[error("cannot convert the model")]
    Convert(#[source] Cause),
    /// Batches that cannot be used.
    #[error("cannot use the pre-tokenised batches")]
    Tokens(#[source] Cause),
    /// A row of the batches that does not fit the plan.
    #[error("cannot use `{}`: step {step}, row {row} (from 0)", path.display())]
    TokenRow {
        path: PathBuf,
        step: usize,
        row: usize,
        #[source]
        source: Cause,
    },
    /// A dataset whose files are not all there.
    #[error("cannot use the dataset")]
    Dataset(#[source] Cause),
    /// Rows of text that cannot be read.
    #[error("cannot read the rows of `{}`", path.display())]
    #[diagnostic(help("{}", unread_rows(path)))]
    Rows {
        path: PathBuf,
        #[source]
        source: Cause,
    },
    /// A tokenizer that cannot be loaded.
    #[error("cannot load the tokenizer")]
    Tokenizer(#[source] Cause),
    /// A template that is none.
    #[error("--prompt-template cannot be used")]
    Template(#[source] Cause),
    /// Rows that cannot be tokenised.
    #[error("cannot tokenise the rows of `{}`", path.display())]
    Examples {
        path: PathBuf,
        #[source]
        source: Cause,
    },
    /// Examples that give no windows.
    #[error("cannot make windows of the rows of `{}`", path.display())]
    Packing {
        path: PathBuf,
        #[source]
        source: Cause,
    },
    /// Training does not start or does not go on.
    #[error("cannot train")]
    Train(#[source] Cause),
    /// Copies of this program that know nothing of each other.
    #[cfg(not(feature = "mpi"))]
    #[error(
        "{launcher} has started {count} copies of gptjc, and this gptjc was built without MPI: each would train the whole run, \
         and overwrite what the others write"
    )]
    #[diagnostic(help(
        "build with `cargo build --release --features mpi` (Debian: apt-get install libopenmpi-dev openmpi-bin libclang-dev), \
         or start one process without {launcher}: it uses all cores of its machine"
    ))]
    Copies { launcher: &'static str, count: usize },
    /// Ranks that cannot train together.
    #[error("cannot train on several ranks")]
    Ranks(#[source] Cause),
    /// A run cannot go on from a checkpoint.
    #[error("cannot resume")]
    Resume(#[source] Cause),
    /// A signal came when everything else was done.
    #[error("the evaluation after training was stopped; what was trained is in `{}`, whole", path.display())]
    EvaluationStopped { path: PathBuf },
    /// Somebody else writes into the output directory.
    #[error("cannot write into the output directory")]
    Lock(#[source] Cause),
    /// Signals cannot be caught.
    #[error("cannot catch the signals that stop a run")]
    Signals(#[source] io::Error),
    /// An adapter that is not one of the model.
    #[error("the adapter does not fit the model")]
    AdapterFit(#[source] Cause),
    /// A model that has no ONNX form.
    #[error("cannot express the model in ONNX")]
    OnnxGraph(#[source] Cause),
    /// An export that is not written.
    #[error("cannot export the model")]
    Export(#[source] Cause),
    /// A merged model that is not written.
    #[error("cannot merge the adapter")]
    Merge(#[source] Cause),
    /// A model that cannot be run.
    #[error("cannot run the model")]
    Run(#[source] Cause),
    /// Rows that cannot be scored.
    #[error("cannot compare the merged model")]
    Answer(#[source] Cause),
    /// A self-test that cannot be run.
    #[error("cannot test the kernels")]
    SelfTest(#[source] Cause),
    /// A measurement that cannot be made.
    #[error("cannot measure")]
    Bench(#[source] Cause),
    /// A directory without a run.
    #[error("cannot report on the run")]
    #[diagnostic(help("give the --output-dir of `gptjc train` or `gptjc finetune`"))]
    Report(#[source] Cause),
    /// A checkpoint that is not made.
    #[error("cannot make the checkpoint")]
    Synth(#[source] Cause),
    /// Data of the made-up world that are not written.
    #[error("cannot make the data")]
    SynthData(#[source] Cause),
    /// A result that JSON cannot hold.
    #[error("cannot write the result as JSON")]
    Json(#[source] Cause),
    /// No ONNX Runtime.
    #[error("cannot use ONNX Runtime")]
    OnnxRuntime(#[source] Cause),
    /// ONNX Runtime cannot be had.
    #[error("cannot fetch ONNX Runtime")]
    Fetch(#[source] Cause),
    /// A line of the demo that the program does not take.
    #[error("the demo's own command line cannot be run; please report this")]
    DemoLine(#[source] Cause),
    /// Rows that get no answer.
    #[error("cannot validate on `{}`", path.display())]
    Validate {
        path: PathBuf,
        #[source]
        source: Cause,
    },
    /// Logits that are not written.
    #[error("cannot save logits")]
    Logits(#[source] Cause),
    /// A prompt that is not continued.
    #[error("cannot continue {prompt}")]
    Generate {
        prompt: String,
        #[source]
        source: Cause,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What to do about a file that cannot be read.
fn unread(path: &Path, why: io::ErrorKind) -> String {
    match why {
        io::ErrorKind::NotFound if path.file_name().is_some_and(|name| name == "config.json") => {
            "a model's directory has config.json beside its weights and its tokenizer: give that directory"
                .to_owned()
        }
        io::ErrorKind::NotFound => not_there(),
        io::ErrorKind::PermissionDenied => "you may not read it: see its permissions with `ls -l`".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory: name a file in it".to_owned(),
        _ => "see whether the disk is well, and whether another program can read it".to_owned(),
    }
}

/// What to do about rows that cannot be read.
fn unread_rows(path: &Path) -> String {
    match (path.exists(), path.is_dir()) {
        (false, _) => not_there(),
        (_, true) => {
            "it is a directory: name a file in it, or give a dataset's directory with --data-dir".to_owned()
        }
        _ => {
            "`gptjc data --help` and docs/data.md say which files are read and what their rows are".to_owned()
        }
    }
}

fn not_there() -> String {
    match std::env::current_dir() {
        Ok(here) => format!("check the path: it is looked for from `{}`", here.display()),
        Err(_) => "check the path".to_owned(),
    }
}

/// `error: …`, one line for each cause that says something new, and what to do.
pub(crate) fn report(error: &CliError) -> String {
    let mut text = format!("error: {}\n", indent(&error.to_string()));
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Errors that are transparent, or that quote their cause, are said once.
        if !said.contains(&message) {
            let _ = writeln!(text, "  caused by: {}", indent(&message));
            said = message;
        }
        cause = error.source();
    }
    if let Some(help) = error.help() {
        let _ = writeln!(text, "  help: {}", indent(&help.to_string()));
    }
    text
}

/// `text` with its further lines under the first.
fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

/// A list for messages: one item a line.
pub(crate) struct Lines<'a, T>(pub(crate) &'a [T]);

impl<T: fmt::Display> fmt::Display for Lines<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|item| write!(f, "\n{item}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gptjc_graphs::plan::artifact::ArtifactError;

    #[test]
    fn message_causes_and_help_are_said_once() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let text = report(&CliError::Read { path: "a.plan".into(), source });
        assert!(
            text.starts_with(
                "error: cannot read `a.plan`\n  caused by: no such file\n  help: check the path"
            ),
            "{text}"
        );
        let text = report(&CliError::Plan { path: "a.plan".into(), source: ArtifactError::Magic.into() });
        assert!(
            text.starts_with("error: cannot use the plan `a.plan`\n  caused by: this is not a gptjc plan"),
            "{text}"
        );
        let text = report(&CliError::NoModel);
        assert_eq!(text, "error: no model is given\n  help: give the model's directory with --model DIR\n");
    }
}
