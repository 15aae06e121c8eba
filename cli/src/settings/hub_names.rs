//! Names of the Hugging Face hub in the place of directories.
//!
//! Before a command runs, a model, tokenizer or config that is named `owner/name` becomes the directory that the local
//! cache has for it, so that no command knows the difference. A directory of that name comes first.

use crate::console::Console;
use crate::error::CliError;
use crate::flags::{BenchWhat, Command, EngineFlags, JobFlags, ModelFlags};
use gptjc_runtime::hub::{Caches, HubError, Kind, Repository};
use std::path::{Path, PathBuf};

/// Files of which a model has one.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// What a command names that may be on the hub.
struct Named<'a> {
    model: Option<&'a mut PathBuf>,
    revision: Option<&'a str>,
    /// Whether it reads weights, not the config alone.
    reads_weights: bool,
    /// Directories of tokenizers and configs.
    others: [Option<&'a mut PathBuf>; 2],
}

/// Puts directories in the place of the names in `command`.
pub(crate) fn resolve(command: &mut Command, console: Console) -> Result<(), CliError> {
    let Some(named) = named(command) else { return Ok(()) };
    let caches = Caches::of_process();
    if let Some(model) = named.model {
        let files = if named.reads_weights { &WEIGHTS[..] } else { &[] };
        replace(model, named.revision, files, &caches, console)?;
    }
    for other in named.others.into_iter().flatten() {
        replace(other, None, &[], &caches, console)?;
    }
    Ok(())
}

fn named(command: &mut Command) -> Option<Named<'_>> {
    match command {
        Command::Compile(command) => Some(of_model(&mut command.compile.model, false, None)),
        Command::Train(command) => Some(of_job(&mut command.job)),
        Command::Finetune(command) => Some(of_job(&mut command.job)),
        Command::Export(command) => Some(Named {
            model: Some(&mut command.model),
            revision: command.revision.as_deref(),
            reads_weights: true,
            others: [command.made.tokenizer.as_mut(), None],
        }),
        Command::Merge(command) => Some(Named {
            model: Some(&mut command.model),
            revision: command.revision.as_deref(),
            reads_weights: true,
            others: [command.made.tokenizer.as_mut(), None],
        }),
        Command::Convert(command) => Some(Named {
            model: Some(&mut command.model),
            revision: command.revision.as_deref(),
            reads_weights: true,
            others: [command.made.tokenizer.as_mut(), None],
        }),
        Command::Data(command) => Some(Named {
            model: command.model.as_mut(),
            revision: None,
            reads_weights: false,
            others: [command.data.tokenizer_name.as_mut(), None],
        }),
        Command::Validate(command) => Some(of_engine(&mut command.engine)),
        Command::Generate(command) => Some(of_engine(&mut command.engine)),
        Command::Bench(command) => match &mut command.what {
            BenchWhat::Step(flags) => Some(Named {
                model: flags.model.model.as_mut(),
                revision: None,
                reads_weights: true,
                others: [None, None],
            }),
            BenchWhat::Machine(_) | BenchWhat::Kernels(_) => None,
        },
        Command::Inspect(_) | Command::Report(_) | Command::Demo(_) => None,
        Command::Completions(_) | Command::Man(_) => None,
        Command::Synth(_) | Command::SynthData(_) | Command::Doctor(_) => None,
    }
}

fn of_job(job: &mut JobFlags) -> Named<'_> {
    of_model(&mut job.compile.model, true, job.data.tokenizer_name.as_mut())
}

fn of_model<'a>(
    flags: &'a mut ModelFlags,
    reads_weights: bool,
    tokenizer: Option<&'a mut PathBuf>,
) -> Named<'a> {
    Named {
        model: flags.model.as_mut(),
        revision: flags.revision.as_deref(),
        reads_weights,
        others: [tokenizer, flags.config_name.as_mut()],
    }
}

fn of_engine(flags: &mut EngineFlags) -> Named<'_> {
    Named {
        model: flags.model.as_mut(),
        revision: flags.revision.as_deref(),
        reads_weights: true,
        others: [flags.tokenizer.as_mut(), None],
    }
}

/// Puts the directory of the cache in the place of `path`, if that is a name; it must have a config, and one of
/// `files` if there are any.
fn replace(
    path: &mut PathBuf,
    revision: Option<&str>,
    files: &[&str],
    caches: &Caches,
    console: Console,
) -> Result<(), CliError> {
    let name = path.display().to_string();
    if path.exists() {
        return match revision {
            None => Ok(()),
            Some(revision) => Err(CliError::Usage {
                what: format!(
                    "--revision {revision} is one of a model on the hub, and `{name}` is a directory"
                ),
                advice: "leave out one of them".to_owned(),
            }),
        };
    }
    if path.extension().is_some_and(|extension| extension == "json") {
        return Ok(()); // a file that is not there: whoever needs it says so
    }
    let failed = |source: HubError| CliError::Hub { name: name.clone(), source: source.into() };
    let repository = match Repository::new(Kind::Model, &name, revision) {
        Ok(repository) => repository,
        Err(HubError::Name { .. }) => return Ok(()), // a directory that is not there
        Err(other) => return Err(failed(other)),
    };
    let snapshot = match caches.find(&repository) {
        Ok(snapshot) => snapshot,
        // A word alone is rather a directory that is not there.
        Err(HubError::NotCached { .. }) if !name.contains('/') => return Ok(()),
        Err(other) => return Err(failed(other)),
    };
    check_files(&snapshot.directory, &repository, files, snapshot.unfinished.len())?;
    console.note(&format!("{name} is `{}`", snapshot.directory.display()));
    *path = snapshot.directory;
    Ok(())
}

fn check_files(
    directory: &Path,
    repository: &Repository,
    files: &[&str],
    unfinished: usize,
) -> Result<(), CliError> {
    let is_there = |name: &&str| directory.join(name).is_file();
    let missing = if !is_there(&"config.json") {
        "config.json".to_owned()
    } else if !files.is_empty() && !files.iter().any(is_there) {
        format!("weights ({})", files.join(", "))
    } else {
        return Ok(());
    };
    let broken_off = match unfinished {
        0 => String::new(),
        count => format!("; {count} download(s) of it are unfinished"),
    };
    Err(CliError::Usage {
        what: format!(
            "`{repository}` has no {missing} in the Hugging Face cache, in `{}`{broken_off}",
            directory.display()
        ),
        advice: format!(
            "gptjc never opens the network; go on downloading with\n{}",
            repository.download_command()
        ),
    })
}
